//! The table of faults in `docs/OPERATIONS.md`, which a run of these tests makes: `make faults`.

use std::fs;
use std::path::PathBuf;

use omniflow_harness::paths;

use super::observer::Seen;

/// Every fault, in the order of the table.
const FAULTS: [&str; 21] = [
    "control plane killed",
    "control plane hangs",
    "control plane answers garbage",
    "control plane answers half",
    "control plane answers 40 MB",
    "control plane answers with another format's version",
    "control plane refuses the token",
    "disk of the control plane full",
    "database read-only",
    "database locked by another process",
    "clock of the control plane an hour ahead",
    "clock of the control plane an hour back",
    "clock of the gateway an hour ahead",
    "clock of the gateway an hour back",
    "VMs of workers trapped under load",
    "Envoy killed and started again",
    "Envoy restarted hot",
    "configuration of Envoy replaced under load",
    "filter replaced under load",
    "Envoy drained",
    "older gateways after an update of the control plane",
];

/// Notes the row of a fault, for `make faults`, which says where.
pub(crate) fn note(fault: &str, clients: &str, keys: &str, kept: &str) {
    let number = FAULTS.iter().position(|known| *known == fault).expect("a fault of the table");
    let row = format!("| {fault} | {clients} | {keys} | {kept} |\n");
    print!("{row}");
    if let Some(folder) = std::env::var_os("OMF_FAULTS").map(PathBuf::from) {
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{number:02}")), row).unwrap();
    }
}

/// The same for what clients of a gateway saw.
pub(super) fn note_seen(fault: &str, seen: &Seen, kept: &str) {
    let keys = format!(
        "none passed; {}",
        match seen.spent {
            0 => "nothing refilled".to_owned(),
            passed => format!("{passed} more calls in {} s", seen.took.as_secs()),
        }
    );
    note(fault, &seen.clients(), &keys, kept);
}

#[test]
fn every_fault_has_its_row() {
    let text = fs::read_to_string(paths::root().join("docs/OPERATIONS.md")).unwrap();
    for fault in FAULTS {
        assert_eq!(text.matches(&format!("\n| {fault} | ")).count(), 1, "{fault}: make faults");
    }
}
