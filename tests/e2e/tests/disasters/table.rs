//! The table of faults in `docs/operations/failures.md`, which these tests produce in `make faults`.

use std::fs;
use std::path::PathBuf;

use omniflow_harness::paths;

use super::observer::Seen;

/// Every fault in the order of the table, and what happens to changes and records.
const FAULTS: [(&str, &str); 21] = [
    ("control plane killed", "The last acknowledged change is present. Every call has a record."),
    ("control plane hangs", "Changes wait and are then applied. Every call has a record."),
    ("control plane returns garbage", "The last good snapshot stays in use. Records wait in the gateway."),
    (
        "control plane returns half a response",
        "The last good snapshot stays in use. Records wait in the gateway.",
    ),
    ("control plane returns 40 MB", "The last good snapshot stays in use. Records wait in the gateway."),
    (
        "control plane returns an unknown snapshot format",
        "The last good snapshot stays in use. Records wait in the gateway.",
    ),
    (
        "control plane rejects the gateway's token",
        "The last good snapshot stays in use. Records wait in the gateway.",
    ),
    (
        "control plane's disk full",
        "Changes fail with 500; none is partially applied. Records wait in the gateway and arrive later.",
    ),
    (
        "database read-only",
        "`omf serve` does not start and reports the reason. Records wait in the gateway and arrive later.",
    ),
    (
        "database locked by another process",
        "Changes wait 5 s and then fail with 500. Records wait in the gateway and arrive later.",
    ),
    (
        "control plane's clock one hour ahead",
        "Changes are applied, with increasing versions. Every call has a record.",
    ),
    (
        "control plane's clock one hour behind",
        "Changes are applied, with increasing versions. Every call has a record.",
    ),
    (
        "gateway's clock one hour ahead",
        "Changes are applied. Every call has a record. Keys expire according to this clock, an hour early.",
    ),
    (
        "gateway's clock one hour behind",
        "Changes are applied. Every call has a record. Keys expire according to this clock, an hour late.",
    ),
    (
        "VMs of workers crash under load",
        "Undelivered records of the VMs are lost, and the log shows gaps with the cause `vm_lost`.",
    ),
    (
        "Envoy killed and restarted",
        "The most recent records are lost, and the log shows a gap. To avoid this, [drain Envoy](../guides/draining.md) first.",
    ),
    (
        "Envoy hot restart",
        "The old process exits when its connections are closed. Records that it has not delivered by then are lost, and the log shows a gap.",
    ),
    ("Envoy configuration replaced under load", "Every call has a record."),
    ("filter replaced under load", "Every call has a record."),
    ("Envoy drained", "Every call has a record."),
    (
        "older gateways after an update of the control plane",
        "Golden batches of every released format are accepted.",
    ),
];

/// Prints the row of a fault, and writes it to the folder `OMF_FAULTS` for `make faults`.
pub(crate) fn note(fault: &str, clients: &str, keys: &str) {
    let number = FAULTS.iter().position(|(known, _)| *known == fault).expect("a fault of the table");
    let row = format!("| {fault} | {clients} | {keys} | {} |\n", FAULTS[number].1);
    print!("{row}");
    if let Some(folder) = std::env::var_os("OMF_FAULTS").map(PathBuf::from) {
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{number:02}")), row).unwrap();
    }
}

/// The row of a fault whose effect on clients was observed.
pub(super) fn note_seen(fault: &str, seen: &Seen) {
    let keys = format!(
        "none accepted; {}",
        match seen.spent {
            0 => "no limit refilled".to_owned(),
            passed => format!("{passed} more calls in {} s", seen.took.as_secs()),
        }
    );
    note(fault, &seen.clients(), &keys);
}

#[test]
fn every_fault_has_its_row() {
    let text = fs::read_to_string(paths::root().join("docs/operations/failures.md")).unwrap();
    let (_, table) =
        text.split_once("<!-- faults: made by `make faults` -->\n").expect("the start of the table");
    let (table, _) = table.split_once("<!-- end of faults -->").expect("the end of the table");
    let rows: Vec<_> = table.lines().skip(2).collect();
    assert_eq!(rows.len(), FAULTS.len(), "rows of the table: make faults");
    for (row, (fault, kept)) in rows.into_iter().zip(FAULTS) {
        assert!(row.starts_with(&format!("| {fault} | ")), "{row}: expected the fault {fault}: make faults");
        assert!(row.ends_with(&format!(" | {kept} |")), "{row}: expected the text {kept}: make faults");
    }
}
