//! Proxy-Wasm ABI 0.2.1 (github.com/proxy-wasm/spec): the functions of the host, and how it hands bytes over.
//!
//! The place of unsafe code, but for the exported callbacks (`entry`) and the clock (`clock`). A crossing between host and VM costs several times what the work in it does, so the
//! filter speaks the ABI itself: it exports no callback that it does not need, each of which the host would make for every
//! request, reads headers where they lie, and takes no status for a reason to panic.

// Functions of the host take and give addresses in the memory of the VM.
#![allow(unsafe_code)]
// Unit tests have a stand-in for some of it.
#![cfg_attr(test, allow(dead_code))]

use std::ptr::null_mut;

/// Bytes that the host has handed over.
pub(crate) type Bytes = Vec<u8>;

/// What the host answers to a call. Numbers that are not named here are [`Status::Other`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Ok,
    NotFound,
    BadArgument,
    Other,
}

/// The levels of Envoy's log that the filter writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum LogLevel {
    Warn = 3,
    Error = 4,
}

/// The header maps that the filter reads or changes.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum MapType {
    RequestHeaders = 0,
    RequestTrailers = 1,
    ResponseHeaders = 2,
    HttpCallResponseHeaders = 6,
}

/// The buffers that the filter reads.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum BufferType {
    RequestBody = 0,
    HttpCallResponseBody = 4,
    PluginConfiguration = 7,
}

/// The kinds of metrics that the filter has.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum MetricType {
    Counter = 0,
    Gauge = 1,
}

/// A text or bytes as the host takes them.
type Data = *const u8;
/// Where the host writes the address of what it hands over.
type DataOut = *mut *mut u8;
type SizeOut = *mut usize;

#[rustfmt::skip]
#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, message: Data, size: usize) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_done() -> u32;
    fn proxy_get_buffer_bytes(buffer: u32, start: usize, length: usize, data: DataOut, size: SizeOut) -> u32;
    fn proxy_get_header_map_pairs(map: u32, data: DataOut, size: SizeOut) -> u32;
    fn proxy_get_header_map_value(map: u32, name: Data, name_size: usize, data: DataOut, size: SizeOut) -> u32;
    fn proxy_replace_header_map_value(map: u32, name: Data, name_size: usize, value: Data, size: usize) -> u32;
    fn proxy_remove_header_map_value(map: u32, name: Data, name_size: usize) -> u32;
    fn proxy_get_property(path: Data, path_size: usize, data: DataOut, size: SizeOut) -> u32;
    fn proxy_set_property(path: Data, path_size: usize, value: Data, size: usize) -> u32;
    fn proxy_get_shared_data(name: Data, name_size: usize, data: DataOut, size: SizeOut, cas: *mut u32) -> u32;
    fn proxy_set_shared_data(name: Data, name_size: usize, value: Data, size: usize, cas: u32) -> u32;
    fn proxy_register_shared_queue(name: Data, name_size: usize, queue: *mut u32) -> u32;
    fn proxy_enqueue_shared_queue(queue: u32, value: Data, size: usize) -> u32;
    fn proxy_dequeue_shared_queue(queue: u32, data: DataOut, size: SizeOut) -> u32;
    fn proxy_define_metric(kind: u32, name: Data, name_size: usize, metric: *mut u32) -> u32;
    fn proxy_increment_metric(metric: u32, by: i64) -> u32;
    fn proxy_record_metric(metric: u32, value: u64) -> u32;
    fn proxy_send_local_response(
        status: u32, details: Data, details_size: usize, body: Data, body_size: usize,
        headers: Data, headers_size: usize, grpc_status: i32,
    ) -> u32;
    fn proxy_http_call(
        cluster: Data, cluster_size: usize, headers: Data, headers_size: usize, body: Data, body_size: usize,
        trailers: Data, trailers_size: usize, timeout_milliseconds: u32, call: *mut u32,
    ) -> u32;
}

// === impl Status ===

impl Status {
    fn of(number: u32) -> Self {
        match number {
            0 => Self::Ok,
            1 => Self::NotFound,
            2 => Self::BadArgument,
            _ => Self::Other,
        }
    }

    fn into_result(self) -> Result<(), Self> {
        if self == Self::Ok { Ok(()) } else { Err(self) }
    }
}

/// Room for what the host hands over. The host writes it full and gives its address in the answer of the call that it
/// belongs to, where [`taken_over`] takes hold of it.
#[cfg(target_family = "wasm")]
#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    Box::into_raw(Box::<[u8]>::new_uninit_slice(size)).cast()
}

/// Makes a call in which the host hands bytes over. `None` where it has none to give, or refuses.
fn taken_over(call: impl FnOnce(DataOut, SizeOut) -> u32) -> Option<Bytes> {
    let (mut data, mut size) = (null_mut(), 0);
    if call(&mut data, &mut size) != 0 || data.is_null() {
        return None;
    }
    // SAFETY: the host has asked `proxy_on_memory_allocate` for exactly `size` bytes, has written all of them, and gives
    // their address once. That function gives away a box of so many bytes.
    let room = unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(data, size)) };
    Some(room.into_vec())
}

pub(crate) fn log(level: LogLevel, message: &str) {
    // SAFETY: here and below, the host reads what an address and a size describe, and writes to the places whose addresses
    // it is given, before the call is over.
    unsafe { proxy_log(level as u32, message.as_ptr(), message.len()) };
}

pub(crate) fn set_tick_period(milliseconds: u32) {
    unsafe { proxy_set_tick_period_milliseconds(milliseconds) };
}

pub(crate) fn done() {
    unsafe { proxy_done() };
}

pub(crate) fn buffer(buffer: BufferType, size: usize) -> Option<Bytes> {
    taken_over(|data, length| unsafe { proxy_get_buffer_bytes(buffer as u32, 0, size, data, length) })
}

/// All headers of a map, as [`crate::headers::Headers`] reads them.
pub(crate) fn header_map(map: MapType) -> Option<Bytes> {
    taken_over(|data, size| unsafe { proxy_get_header_map_pairs(map as u32, data, size) })
}

pub(crate) fn header(map: MapType, name: &[u8]) -> Option<Bytes> {
    taken_over(|data, size| unsafe {
        proxy_get_header_map_value(map as u32, name.as_ptr(), name.len(), data, size)
    })
}

/// Sets a header in place of all of its name.
pub(crate) fn set_header(map: MapType, name: &[u8], value: &[u8]) {
    unsafe {
        proxy_replace_header_map_value(map as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len())
    };
}

pub(crate) fn remove_header(map: MapType, name: &[u8]) {
    unsafe { proxy_remove_header_map_value(map as u32, name.as_ptr(), name.len()) };
}

/// `path` has a zero byte between its parts.
pub(crate) fn property(path: &[u8]) -> Option<Bytes> {
    taken_over(|data, size| unsafe { proxy_get_property(path.as_ptr(), path.len(), data, size) })
}

pub(crate) fn set_property(path: &[u8], value: &[u8]) {
    unsafe { proxy_set_property(path.as_ptr(), path.len(), value.as_ptr(), value.len()) };
}

/// A value with its number for a compare-and-swap; an empty value is handed over as none.
pub(crate) fn shared_data(name: &[u8]) -> (Option<Bytes>, Option<u32>) {
    let (mut cas, mut is_there) = (0, false);
    let value = taken_over(|data, size| {
        let status = unsafe { proxy_get_shared_data(name.as_ptr(), name.len(), data, size, &mut cas) };
        is_there = status == 0;
        status
    });
    (value, is_there.then_some(cas))
}

pub(crate) fn set_shared_data(name: &[u8], value: &[u8], cas: u32) -> Result<(), Status> {
    Status::of(unsafe { proxy_set_shared_data(name.as_ptr(), name.len(), value.as_ptr(), value.len(), cas) })
        .into_result()
}

pub(crate) fn register_queue(name: &str) -> Result<u32, Status> {
    let mut queue = 0;
    let status = unsafe { proxy_register_shared_queue(name.as_ptr(), name.len(), &mut queue) };
    Status::of(status).into_result().map(|()| queue)
}

pub(crate) fn enqueue(queue: u32, value: &[u8]) {
    unsafe { proxy_enqueue_shared_queue(queue, value.as_ptr(), value.len()) };
}

pub(crate) fn dequeue(queue: u32) -> Option<Bytes> {
    taken_over(|data, size| unsafe { proxy_dequeue_shared_queue(queue, data, size) })
}

pub(crate) fn define_metric(kind: MetricType, name: &str) -> Option<u32> {
    let mut metric = 0;
    let status = unsafe { proxy_define_metric(kind as u32, name.as_ptr(), name.len(), &mut metric) };
    (status == 0).then_some(metric)
}

pub(crate) fn increment_metric(metric: u32, by: i64) {
    unsafe { proxy_increment_metric(metric, by) };
}

pub(crate) fn record_metric(metric: u32, value: u64) {
    unsafe { proxy_record_metric(metric, value) };
}

/// `headers` as [`crate::headers::serialized`] writes them; `grpc_status` is -1 for an answer that is no gRPC.
pub(crate) fn send_local_response(
    status: u32,
    headers: &[u8],
    body: &[u8],
    grpc_status: i32,
) -> Result<(), Status> {
    let status = unsafe {
        proxy_send_local_response(
            status,
            std::ptr::null(),
            0,
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            grpc_status,
        )
    };
    Status::of(status).into_result()
}

/// `headers` and `trailers` as [`crate::headers::serialized`] writes them. Gives the number of the call.
pub(crate) fn http_call(
    cluster: &str,
    headers: &[u8],
    body: &[u8],
    trailers: &[u8],
    timeout_milliseconds: u32,
) -> Result<u32, Status> {
    let mut call = 0;
    let status = unsafe {
        proxy_http_call(
            cluster.as_ptr(),
            cluster.len(),
            headers.as_ptr(),
            headers.len(),
            body.as_ptr(),
            body.len(),
            trailers.as_ptr(),
            trailers.len(),
            timeout_milliseconds,
            &mut call,
        )
    };
    Status::of(status).into_result().map(|()| call)
}
