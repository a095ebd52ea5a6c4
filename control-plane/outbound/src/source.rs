//! The parts of the control plane that deliveries use.

use std::fmt;

use omniflow_domain::clock::{Clock, Entropy};
use omniflow_policy::digest::Digest;
use omniflow_policy::time::UnixMillis;
use omniflow_store::Store;
use uuid::Uuid;

/// The store that deliveries are read from, and the clock and randomness for retries.
#[derive(Clone, Copy)]
pub struct DeliverySource<'a> {
    /// ID of the installation, which is part of every ID that receivers get.
    pub installation: Uuid,
    /// The store of the sent data and of the positions.
    pub store: &'a dyn Store,
    /// The wall clock.
    pub clock: &'a Clock,
    /// Source of the jitter of retries.
    pub entropy: &'a Entropy,
}

impl fmt::Debug for DeliverySource<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "DeliverySource({})", self.installation)
    }
}

/// The ID by which receivers recognize a row that is sent again. The row's number is not enough: after a restore, another
/// row can have it. `time` and `detail` are properties of the row that never change.
pub(crate) fn stable_id(installation: Uuid, kind: &str, row: i64, time: UnixMillis, detail: &str) -> Uuid {
    let digest = Digest::of(format!("{installation}/{kind}/{row}/{}/{detail}", time.0).as_bytes());
    let mut bytes = [0; 16];
    for (byte, from) in bytes.iter_mut().zip(digest.as_bytes()) {
        *byte = *from;
    }
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_ids_differ_in_every_part() {
        let id = |installation, kind, row, time, detail| {
            stable_id(Uuid::from_u128(installation), kind, row, UnixMillis(time), detail)
        };
        let one = id(1, "gap", 1, 1, "edge");
        assert_eq!(one, id(1, "gap", 1, 1, "edge"));
        let others = [
            id(2, "gap", 1, 1, "edge"),
            id(1, "record", 1, 1, "edge"),
            id(1, "gap", 2, 1, "edge"),
            id(1, "gap", 1, 2, "edge"),
            id(1, "gap", 1, 1, "other"),
        ];
        assert!(!others.contains(&one));
    }
}
