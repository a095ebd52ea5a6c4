//! A stand-in for Envoy's shared data in unit tests. It keeps state as Envoy does, separately for each test thread.

use std::cell::RefCell;
use std::collections::HashMap;

use proxy_wasm::types::{Bytes, LogLevel};

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
        // As in Envoy: 0 writes unconditionally, and any number inserts an absent entry.
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
