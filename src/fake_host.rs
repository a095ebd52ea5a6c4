//! Shared data of an Envoy, for unit tests: it keeps state as Envoy does, one for each test's thread.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::abi::{Bytes, LogLevel};

thread_local! {
    static ENTRIES: RefCell<HashMap<String, (Bytes, u32)>> = RefCell::default();
}

pub(crate) fn shared_data(name: &str) -> (Option<Bytes>, Option<u32>) {
    ENTRIES.with_borrow(|entries| match entries.get(name) {
        Some((value, cas)) => (Some(value.clone()), Some(*cas)),
        None => (None, None),
    })
}

pub(crate) fn set_shared_data(name: &str, value: &[u8], cas: u32) -> bool {
    ENTRIES.with_borrow_mut(|entries| {
        let known = entries.get(name).map(|(_, cas)| *cas);
        // As Envoy: 0 writes whatever is there; a number that no entry has inserts a first one.
        if cas != 0 && known.is_some_and(|known| known != cas) {
            return false;
        }
        entries.insert(name.to_owned(), (value.to_vec(), known.unwrap_or(0) + 1));
        true
    })
}

pub(crate) fn log(level: LogLevel, message: &str) {
    println!("{level:?}: {message}");
}
