//! The host calls that the SDK does not offer in a usable form, declared by hand. All unsafe code of the filter is here.
//!
//! **Header maps.** The SDK's `get_map_bytes` makes two allocations per header, and its wrappers take header names as `&str`
//! and panic on every status that they do not list. Header names come from the client, so a forged name has to be removed by
//! its bytes, and no status may end the VM. Here a whole map is one buffer, which is read in place by
//! [`HeaderMap`](super::header_map::HeaderMap).
//!
//! **Properties.** The SDK takes a path as a `Vec`, builds a second one, and panics on statuses that it does not list. Here the
//! path is one constant.
//!
//! **The monotonic clock.** Proxy-Wasm has the wall clock only, and `std::time::Instant` hides its value, which the VMs of one
//! Envoy have to compare. WASI has the clock itself.
//!
//! Measured with `bench/counting-host`: the two property calls of an allowed request take 9,400 instructions less than through
//! the SDK, of 129,400. Measured on Envoy 1.40 with one worker: header maps through the SDK make a request 0.5 µs slower than
//! calls without the SDK, this module 0.1 µs; adding a header instead of replacing it saves 0.3 µs, because Envoy does not look
//! for the name first.

#![allow(unsafe_code)]

use std::ptr::null_mut;

use proxy_wasm::types::{Bytes, MapType};

/// What the host returns for a call that succeeded.
const OK: u32 = 0;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_add_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_remove_header_map_value(map: u32, name: *const u8, name_size: usize) -> u32;
    fn proxy_get_property(path: *const u8, path_size: usize, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, value_size: usize) -> u32;
}

#[cfg(target_os = "wasi")]
#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn clock_time_get(clock: u32, precision: u64, time: *mut u64) -> u32;
}

/// Makes a call in which the host passes bytes to the VM. The result is empty if the host has none or fails.
fn receive(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Bytes {
    let (mut data, mut size) = (null_mut(), 0);
    if call(&mut data, &mut size) != OK || data.is_null() {
        return Bytes::new();
    }
    // SAFETY: the host obtained exactly `size` bytes from `proxy_on_memory_allocate`, which gives away a boxed slice of that
    // size, wrote all of them, and passes the address on once.
    unsafe { Bytes::from_raw_parts(data, size, size) }
}

/// Reads all headers of a map, serialized. Empty if the host has no such map at the moment.
pub(super) fn header_map(map: MapType) -> Bytes {
    // SAFETY: here and below, the host reads from and writes to the given addresses only before it returns.
    receive(|data, size| unsafe { proxy_get_header_map_pairs(map as u32, data, size) })
}

/// Adds a header. A header of the same name stays.
pub(super) fn add_header(map: MapType, name: &[u8], value: &[u8]) {
    unsafe { proxy_add_header_map_value(map as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
}

/// Sets a header, replacing all headers of its name.
pub(super) fn replace_header(map: MapType, name: &[u8], value: &[u8]) {
    unsafe {
        proxy_replace_header_map_value(map as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len())
    };
}

/// Removes all headers of a name.
pub(super) fn remove_header(map: MapType, name: &[u8]) {
    unsafe { proxy_remove_header_map_value(map as u32, name.as_ptr(), name.len()) };
}

/// Reads a property. `path` has a zero byte between its parts. Empty if there is none.
pub(super) fn property(path: &str) -> Bytes {
    receive(|data, size| unsafe { proxy_get_property(path.as_ptr(), path.len(), data, size) })
}

/// Sets filter state.
pub(super) fn set_property(path: &str, value: &[u8]) {
    unsafe { proxy_set_property(path.as_ptr(), path.len(), value.as_ptr(), value.len()) };
}

/// Nanoseconds of the monotonic clock, which all VMs of an Envoy share. 0 if the host has no such clock.
#[cfg(target_os = "wasi")]
pub(crate) fn monotonic_nanos() -> u64 {
    const MONOTONIC: u32 = 1;
    /// The requested precision, which the host ignores.
    const PRECISION: u64 = 1;
    let mut nanos = 0;
    let status = unsafe { clock_time_get(MONOTONIC, PRECISION, &mut nanos) };
    if status == OK { nanos } else { 0 }
}
