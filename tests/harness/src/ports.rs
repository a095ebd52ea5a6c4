//! TCP ports on 127.0.0.1 that no other test uses, and the process that uses a busy one.

use std::fmt;
use std::fs::{self, File};
use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;

use anyhow::{Context as _, Result, bail};

/// Below the range from which Linux takes the source ports of outgoing connections (32768 and up by default): a port
/// from that range could be taken by any client between the check and the bind.
const RANGE: RangeInclusive<u16> = 20_000..=31_999;

/// A port that stays reserved until this value is dropped.
///
/// A process binds its port some time after it was chosen, so it is not enough that the port is free now: each port has
/// a lock file that all processes of this user respect. The kernel releases the lock when the process ends.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

/// The process that uses a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its process ID.
    pub pid: u32,
    /// Its name, as reported by the kernel.
    pub name: String,
}

// === impl Port ===

impl Port {
    /// Reserves a free port.
    pub fn reserve() -> Result<Self> {
        let folder =
            std::env::temp_dir().join(format!("omniflow-ports-{}", rustix::process::getuid().as_raw()));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;

        // Every process starts at a different port; otherwise, all would try the same locks in the same order.
        let size = u64::from(RANGE.end() - RANGE.start()) + 1;
        let start = RandomState::new().hash_one(std::process::id()) % size;
        for step in 0..size {
            let offset = u16::try_from((start + step) % size)?;
            let number = RANGE.start() + offset;
            let lock = File::create(folder.join(number.to_string()))?;
            if lock.try_lock().is_ok() && is_free(number) {
                return Ok(Self { number, _lock: lock });
            }
        }
        bail!("no port from {} to {} is free", RANGE.start(), RANGE.end())
    }

    /// The port's number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

// === impl Owner ===

impl fmt::Display for Owner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (process {})", self.name, self.pid)
    }
}

/// Whether a server could listen on 127.0.0.1 at this port now.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// The process that listens on this port, if Linux reveals it: processes of other users stay unknown.
pub fn owner(port: u16) -> Option<Owner> {
    let inodes: Vec<String> =
        ["/proc/net/tcp", "/proc/net/tcp6"].iter().flat_map(|table| listening_inodes(table, port)).collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).find_map(|pid| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        let holds = files
            .flatten()
            .filter_map(|file| fs::read_link(file.path()).ok())
            .any(|target| inodes.iter().any(|inode| target.as_os_str() == inode.as_str()));
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        holds.then(|| Owner { pid, name: name.trim_end().to_owned() })
    })
}

/// The sockets, as `/proc/*/fd` names them, that listen on `port`. Columns: proc(5), "/proc/net/tcp".
fn listening_inodes(table: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let local = format!(":{port:04X}");
    let text = fs::read_to_string(table).unwrap_or_default();
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let columns: Vec<&str> = line.split_ascii_whitespace().collect();
            let listens = columns.get(1)?.ends_with(&local) && *columns.get(3)? == LISTEN;
            listens.then(|| columns.get(9).map(|inode| format!("socket:[{inode}]")))?
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_reservations_never_share_a_port() {
        let ports: Vec<Port> = (0..20).map(|_| Port::reserve().unwrap()).collect();
        let mut numbers: Vec<u16> = ports.iter().map(Port::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), ports.len());
    }

    #[test]
    fn a_reserved_port_can_be_bound() {
        let port = Port::reserve().unwrap();
        assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, port.number())).is_ok());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_owner_of_a_busy_port_is_named() {
        let port = Port::reserve().unwrap();
        assert_eq!(owner(port.number()), None);
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.number())).unwrap();
        assert!(!is_free(port.number()));
        assert_eq!(owner(port.number()).unwrap().pid, std::process::id());
    }
}
