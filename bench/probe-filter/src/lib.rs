//! A filter that makes one host call a given number of times per request, as configured with `CALL TIMES`. The
//! additional cost of a request is the cost of these calls.
//!
//! It implements the ABI directly, without an SDK, so that almost only the host is measured. Data from the host is
//! written to one buffer, which the next call overwrites.

// All of it is part of the ABI: exported functions that the host calls, and functions of the host that take addresses.
#![allow(unsafe_code, missing_docs, clippy::missing_safety_doc)]

use std::cell::{Cell, RefCell, UnsafeCell};

const REQUEST_HEADERS: u32 = 0;
const RESPONSE_HEADERS: u32 = 2;
const PLUGIN_CONFIGURATION: u32 = 7;
const COUNTER: u32 = 0;
const MONOTONIC: u32 = 1;
/// Larger than the headers of a benchmark request.
const ROOM: usize = 16 * 1024;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_set_header_map_pairs(map: u32, data: *const u8, size: usize) -> u32;
    fn proxy_get_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_add_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_remove_header_map_value(map: u32, name: *const u8, name_size: usize) -> u32;
    fn proxy_get_property(path: *const u8, path_size: usize, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_set_property(path: *const u8, path_size: usize, data: *const u8, size: usize) -> u32;
    fn proxy_get_shared_data(
        name: *const u8,
        name_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
        cas: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(
        name: *const u8,
        name_size: usize,
        data: *const u8,
        size: usize,
        cas: u32,
    ) -> u32;
    fn proxy_get_buffer_bytes(
        buffer: u32,
        start: usize,
        max: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, metric: *mut u32) -> u32;
    fn proxy_increment_metric(metric: u32, by: i64) -> u32;
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
}

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn clock_time_get(clock: u32, precision: u64, time: *mut u64) -> u32;
}

struct Room(UnsafeCell<[u8; ROOM]>);
// SAFETY: a VM has one thread.
unsafe impl Sync for Room {}
static HANDED_OVER: Room = Room(UnsafeCell::new([0; ROOM]));

thread_local! {
    static PLAN: Cell<(Call, u32)> = const { Cell::new((Call::None, 0)) };
    static METRIC: Cell<u32> = const { Cell::new(0) };
    static FIRST_READ: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The repeated call.
#[derive(Clone, Copy, PartialEq)]
enum Call {
    None,
    RequestHeaders,
    SetRequestHeaders,
    AddRequestHeader,
    ReplaceRequestHeader,
    RemoveRequestHeader,
    SourceAddress,
    FilterState,
    SharedData,
    SetSharedData,
    Metric,
    Clock,
    ProxyClock,
    Status,
    AddResponseHeader,
    ReplaceResponseHeader,
    ResponseCode,
    WriteBack,
}

impl Call {
    fn parse(name: &str) -> Self {
        match name {
            "request_headers" => Self::RequestHeaders,
            "set_request_headers" => Self::SetRequestHeaders,
            "add_request_header" => Self::AddRequestHeader,
            "replace_request_header" => Self::ReplaceRequestHeader,
            "remove_request_header" => Self::RemoveRequestHeader,
            "source_address" => Self::SourceAddress,
            "filter_state" => Self::FilterState,
            "shared_data" => Self::SharedData,
            "set_shared_data" => Self::SetSharedData,
            "metric" => Self::Metric,
            "clock" => Self::Clock,
            "proxy_clock" => Self::ProxyClock,
            "status" => Self::Status,
            "add_response_header" => Self::AddResponseHeader,
            "replace_response_header" => Self::ReplaceResponseHeader,
            "response_code" => Self::ResponseCode,
            "write_back" => Self::WriteBack,
            _ => Self::None,
        }
    }

    fn is_of_response(self) -> bool {
        matches!(self, Self::Status | Self::AddResponseHeader | Self::ReplaceResponseHeader)
    }
}

fn value_of(map: u32, name: &[u8]) {
    let (mut data, mut size) = (std::ptr::null_mut(), 0);
    unsafe { proxy_get_header_map_value(map, name.as_ptr(), name.len(), &mut data, &mut size) };
}

fn set(map: u32, name: &[u8], value: &[u8], add: bool) {
    let call = if add { proxy_add_header_map_value } else { proxy_replace_header_map_value };
    unsafe { call(map, name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
}

/// Makes the call once; `turn` is the number of previous calls in this callback.
fn make(call: Call, turn: u32) {
    let (mut data, mut size, mut cas, mut time) = (std::ptr::null_mut(), 0usize, 0u32, 0u64);
    let names: [&[u8]; 4] =
        [b"x-omniflow-key-id", b"x-omniflow-key-name", b"x-omniflow-environment", b"x-omniflow-scopes"];
    let name = names[turn as usize % 4];
    let limits: [&[u8]; 3] = [b"x-ratelimit-limit", b"x-ratelimit-remaining", b"x-ratelimit-reset"];
    let limit = limits[turn as usize % 3];
    let counter = b"omniflow/omniflow_control_plane/limit/0190a0b0c0d0e0f00102030405060708";
    match call {
        Call::None => {}
        Call::RequestHeaders => {
            unsafe { proxy_get_header_map_pairs(REQUEST_HEADERS, &mut data, &mut size) };
        }
        Call::SetRequestHeaders => {
            unsafe { proxy_get_header_map_pairs(REQUEST_HEADERS, &mut data, &mut size) };
            unsafe { proxy_set_header_map_pairs(REQUEST_HEADERS, data, size) };
        }
        Call::AddRequestHeader => set(REQUEST_HEADERS, name, b"01a2085b-a23e-739a-9806", true),
        Call::ReplaceRequestHeader => set(REQUEST_HEADERS, name, b"01a2085b-a23e-739a-9806", false),
        Call::RemoveRequestHeader => {
            let name = b"authorization";
            unsafe { proxy_remove_header_map_value(REQUEST_HEADERS, name.as_ptr(), name.len()) };
        }
        Call::SourceAddress => {
            let path = b"source\0address";
            unsafe { proxy_get_property(path.as_ptr(), path.len(), &mut data, &mut size) };
        }
        Call::FilterState => {
            unsafe { proxy_set_property(b"omf_ok".as_ptr(), 6, b"1".as_ptr(), 1) };
        }
        Call::SharedData => {
            unsafe { proxy_get_shared_data(counter.as_ptr(), counter.len(), &mut data, &mut size, &mut cas) };
        }
        Call::SetSharedData => {
            unsafe { proxy_set_shared_data(counter.as_ptr(), counter.len(), [1u8; 16].as_ptr(), 16, 0) };
        }
        Call::Metric => {
            unsafe { proxy_increment_metric(METRIC.get(), 1) };
        }
        Call::Clock => {
            unsafe { clock_time_get(MONOTONIC, 1, &mut time) };
        }
        Call::ProxyClock => {
            unsafe { proxy_get_current_time_nanoseconds(&mut time) };
        }
        Call::Status => value_of(RESPONSE_HEADERS, b":status"),
        Call::AddResponseHeader => set(RESPONSE_HEADERS, limit, b"1000000", true),
        Call::ReplaceResponseHeader => set(RESPONSE_HEADERS, limit, b"1000000", false),
        Call::ResponseCode => {
            let path = b"response\0code";
            unsafe { proxy_get_property(path.as_ptr(), path.len(), &mut data, &mut size) };
        }
        Call::WriteBack => write_back(),
    }
}

/// Reads the entry that `x-entry` names, and from then on writes back what was read first: what a hostile plugin does.
fn write_back() {
    let (mut data, mut size, mut cas) = (std::ptr::null_mut(), 0usize, 0u32);
    let header = b"x-entry";
    unsafe {
        proxy_get_header_map_value(REQUEST_HEADERS, header.as_ptr(), header.len(), &mut data, &mut size)
    };
    if data.is_null() || size == 0 {
        return;
    }
    let name = unsafe { std::slice::from_raw_parts(data, size) }.to_vec();
    FIRST_READ.with_borrow_mut(|first| {
        if first.is_empty() {
            (data, size) = (std::ptr::null_mut(), 0);
            unsafe { proxy_get_shared_data(name.as_ptr(), name.len(), &mut data, &mut size, &mut cas) };
            if !data.is_null() {
                first.extend_from_slice(unsafe { std::slice::from_raw_parts(data, size) });
            }
        } else {
            unsafe { proxy_set_shared_data(name.as_ptr(), name.len(), first.as_ptr(), first.len(), 0) };
        }
    });
}

fn make_all(here: impl FnOnce(Call) -> bool) {
    let (call, times) = PLAN.get();
    if here(call) {
        for turn in 0..times {
            make(call, turn);
        }
    }
}

unsafe extern "C" {
    fn __wasm_call_ctors();
}

#[unsafe(no_mangle)]
pub extern "C" fn _initialize() {
    unsafe { __wasm_call_ctors() };
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_abi_version_0_2_1() {}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    if size > ROOM { std::ptr::null_mut() } else { HANDED_OVER.0.get().cast() }
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_vm_start(_: u32, _: usize) -> u32 {
    1
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_configure(_: u32, _: usize) -> u32 {
    let (mut data, mut size, mut metric) = (std::ptr::null_mut(), 0usize, 0u32);
    unsafe { proxy_get_buffer_bytes(PLUGIN_CONFIGURATION, 0, ROOM, &mut data, &mut size) };
    let text = if data.is_null() { &[][..] } else { unsafe { std::slice::from_raw_parts(data, size) } };
    let mut words = std::str::from_utf8(text).unwrap_or_default().split_whitespace();
    let call = Call::parse(words.next().unwrap_or_default());
    let times = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
    PLAN.set((call, times));
    unsafe { proxy_define_metric(COUNTER, b"probe".as_ptr(), 5, &mut metric) };
    METRIC.set(metric);
    make(Call::SetSharedData, 0);
    1
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_context_create(_: u32, _: u32) {}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_request_headers(_: u32, _: usize, _: u32) -> u32 {
    make_all(|call| !call.is_of_response() && call != Call::ResponseCode);
    0
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_response_headers(_: u32, _: usize, _: u32) -> u32 {
    make_all(Call::is_of_response);
    0
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_response_body(_: u32, _: usize, _: u32) -> u32 {
    0
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_log(_: u32) {
    make_all(|call| call == Call::ResponseCode);
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_done(_: u32) -> u32 {
    1
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_delete(_: u32) {}
