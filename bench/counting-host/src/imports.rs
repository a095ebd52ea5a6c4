//! The functions of the host.

use anyhow::Result;
use wasmi::{Caller, Extern, Linker, Memory, Module};

use crate::state::{Headers, RESPONSE_HEADERS, Sent, State};

const OK: u32 = 0;
const NOT_FOUND: u32 = 1;
const BAD_ARGUMENT: u32 = 2;
const EMPTY: u32 = 7;
const CAS_MISMATCH: u32 = 8;
/// The wall clock when the host starts, in nanoseconds since the beginning of 1970.
const EPOCH: u64 = 1_800_000_000_000_000_000;
const REALTIME: u32 = 0;

/// Separate counts for requests and responses.
const GET_VALUE: [&str; 2] =
    ["proxy_get_header_map_value (request)", "proxy_get_header_map_value (response)"];
const REPLACE_VALUE: [&str; 2] =
    ["proxy_replace_header_map_value (request)", "proxy_replace_header_map_value (response)"];

const ADD_VALUE: [&str; 2] =
    ["proxy_add_header_map_value (request)", "proxy_add_header_map_value (response)"];

fn of_map(map: u32, names: [&'static str; 2]) -> &'static str {
    if map == RESPONSE_HEADERS { names[1] } else { names[0] }
}

type Vm<'a> = Caller<'a, State>;

/// The host's side of one call: reads the arguments from the VM and writes the results.
struct Call<'a> {
    vm: Vm<'a>,
    memory: Memory,
}

impl<'a> Call<'a> {
    fn of(mut vm: Vm<'a>, name: &'static str) -> Result<Self, wasmi::Error> {
        *vm.data_mut().host_calls.entry(name).or_default() += 1;
        let left = vm.get_fuel()?;
        vm.data_mut().fuel_left.push((name, left));
        let memory = vm.get_export("memory").and_then(Extern::into_memory);
        let memory = memory.ok_or_else(|| wasmi::Error::new("the filter has no memory"))?;
        Ok(Self { vm, memory })
    }

    fn state(&mut self) -> &mut State {
        self.vm.data_mut()
    }

    fn read(&self, data: u32, size: u32) -> Result<Vec<u8>, wasmi::Error> {
        let mut bytes = vec![0; size as usize];
        self.memory
            .read(&self.vm, data as usize, &mut bytes)
            .map_err(|error| wasmi::Error::new(error.to_string()))?;
        Ok(bytes)
    }

    fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), wasmi::Error> {
        self.memory
            .write(&mut self.vm, at as usize, bytes)
            .map_err(|error| wasmi::Error::new(error.to_string()))
    }

    /// Passes bytes to the VM, which allocates memory for them and receives their address.
    fn hand_over(&mut self, bytes: &[u8], data: u32, size: u32) -> Result<u32, wasmi::Error> {
        let mut address = 0;
        if !bytes.is_empty() {
            const ALLOCATE: &str = "proxy_on_memory_allocate";
            let allocate = self.vm.get_export(ALLOCATE).and_then(Extern::into_func);
            let allocate = allocate.ok_or_else(|| wasmi::Error::new("the filter makes no room"))?;
            address = allocate.typed::<u32, u32>(&self.vm)?.call(&mut self.vm, bytes.len() as u32)?;
            *self.state().callbacks.entry(ALLOCATE).or_default() += 1;
            self.write(address, bytes)?;
        }
        self.write(data, &address.to_le_bytes())?;
        self.write(size, &(bytes.len() as u32).to_le_bytes())?;
        Ok(OK)
    }
}

fn serialized(headers: &Headers) -> Vec<u8> {
    let mut bytes = (headers.len() as u32).to_le_bytes().to_vec();
    for (name, value) in headers {
        bytes.extend((name.len() as u32).to_le_bytes());
        bytes.extend((value.len() as u32).to_le_bytes());
    }
    for (name, value) in headers {
        bytes.extend_from_slice(name);
        bytes.push(0);
        bytes.extend_from_slice(value);
        bytes.push(0);
    }
    bytes
}

fn parsed(bytes: &[u8]) -> Option<Headers> {
    let number = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize);
    let count = number(0)?;
    let mut at = 4 + 8 * count;
    let mut headers = Headers::new();
    for index in 0..count {
        let (name, value) = (number(4 + 8 * index)?, number(8 + 8 * index)?);
        headers.push((
            bytes.get(at..at + name)?.to_vec(),
            bytes.get(at + name + 1..at + name + 1 + value)?.to_vec(),
        ));
        at += name + value + 2;
    }
    Some(headers)
}

/// Defines all functions that the filter may import.
pub(crate) fn define(linker: &mut Linker<State>) -> Result<()> {
    define_headers(linker)?;
    define_shared(linker)?;
    define_foreign(linker)?;
    define_calls(linker)?;
    define_metrics(linker)?;
    define_wasi(linker)
}

/// Defines the remaining imports of a module as traps. The SDK's traits import every function of the ABI.
pub(crate) fn trap_others(linker: &mut Linker<State>, module: &Module) {
    for import in module.imports() {
        let name = import.name().to_owned();
        let Some(signature) = import.ty().func() else { continue };
        let trap =
            move |_: Caller<'_, State>, _: &[wasmi::Val], _: &mut [wasmi::Val]| -> Result<(), wasmi::Error> {
                Err(wasmi::Error::new(format!("{name} is not expected")))
            };
        // An import that is already defined keeps its definition.
        let _ = linker.func_new(import.module(), import.name(), signature.clone(), trap);
    }
}

fn define_headers(linker: &mut Linker<State>) -> Result<()> {
    linker.func_wrap("env", "proxy_get_header_map_pairs", |vm: Vm<'_>, map: u32, data: u32, size: u32| {
        let mut call = Call::of(vm, "proxy_get_header_map_pairs")?;
        let bytes = call.state().map(map).map(|headers| serialized(headers)).unwrap_or_default();
        call.hand_over(&bytes, data, size)
    })?;
    linker.func_wrap(
        "env",
        "proxy_get_header_map_value",
        |vm: Vm<'_>, map: u32, name: u32, length: u32, data: u32, size: u32| {
            let mut call = Call::of(vm, of_map(map, GET_VALUE))?;
            let name = call.read(name, length)?;
            let found =
                call.state().map(map).and_then(|headers| headers.iter().find(|(known, _)| *known == name));
            match found.map(|(_, value)| value.clone()) {
                Some(value) => call.hand_over(&value, data, size),
                None => Ok(NOT_FOUND),
            }
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_replace_header_map_value",
        |vm: Vm<'_>, map: u32, name: u32, length: u32, value: u32, size: u32| {
            let mut call = Call::of(vm, of_map(map, REPLACE_VALUE))?;
            let (name, value) = (call.read(name, length)?, call.read(value, size)?);
            let Some(headers) = call.state().map(map) else { return Ok(BAD_ARGUMENT) };
            headers.retain(|(known, _)| *known != name);
            headers.push((name, value));
            Ok::<u32, wasmi::Error>(OK)
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_add_header_map_value",
        |vm: Vm<'_>, map: u32, name: u32, length: u32, value: u32, size: u32| {
            let mut call = Call::of(vm, of_map(map, ADD_VALUE))?;
            let (name, value) = (call.read(name, length)?, call.read(value, size)?);
            let Some(headers) = call.state().map(map) else { return Ok(BAD_ARGUMENT) };
            headers.push((name, value));
            Ok::<u32, wasmi::Error>(OK)
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_remove_header_map_value",
        |vm: Vm<'_>, map: u32, name: u32, length: u32| {
            let mut call = Call::of(vm, "proxy_remove_header_map_value")?;
            let name = call.read(name, length)?;
            let Some(headers) = call.state().map(map) else { return Ok(BAD_ARGUMENT) };
            headers.retain(|(known, _)| *known != name);
            Ok::<u32, wasmi::Error>(OK)
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_get_buffer_bytes",
        |vm: Vm<'_>, buffer: u32, start: u32, length: u32, data: u32, size: u32| {
            let mut call = Call::of(vm, "proxy_get_buffer_bytes")?;
            let Some(bytes) = call.state().buffer(buffer).map(<[u8]>::to_vec) else { return Ok(NOT_FOUND) };
            let start = (start as usize).min(bytes.len());
            let end = start.saturating_add(length as usize).min(bytes.len());
            call.hand_over(&bytes[start..end], data, size)
        },
    )?;
    Ok(())
}

fn define_shared(linker: &mut Linker<State>) -> Result<()> {
    linker.func_wrap(
        "env",
        "proxy_get_property",
        |vm: Vm<'_>, path: u32, length: u32, data: u32, size: u32| {
            let mut call = Call::of(vm, "proxy_get_property")?;
            match call.read(path, length)?.as_slice() {
                b"source\0address" => call.hand_over(b"203.0.113.7:41234", data, size),
                _ => Ok(NOT_FOUND),
            }
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_set_property",
        |vm: Vm<'_>, path: u32, length: u32, value: u32, size: u32| {
            let mut call = Call::of(vm, "proxy_set_property")?;
            let (path, value) = (call.read(path, length)?, call.read(value, size)?);
            call.state().filter_state.insert(path, value);
            Ok::<u32, wasmi::Error>(OK)
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_get_shared_data",
        |vm: Vm<'_>, name: u32, length: u32, data: u32, size: u32, cas: u32| {
            let mut call = Call::of(vm, "proxy_get_shared_data")?;
            let name = call.read(name, length)?;
            let Some((value, number)) = call.state().shared.get(&name).cloned() else { return Ok(NOT_FOUND) };
            call.write(cas, &number.to_le_bytes())?;
            call.hand_over(&value, data, size)
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_set_shared_data",
        |vm: Vm<'_>, name: u32, length: u32, value: u32, size: u32, cas: u32| {
            let mut call = Call::of(vm, "proxy_set_shared_data")?;
            let (name, value) = (call.read(name, length)?, call.read(value, size)?);
            let is_written = call.state().swap(name, value, cas);
            Ok::<u32, wasmi::Error>(if is_written { OK } else { CAS_MISMATCH })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_register_shared_queue",
        |vm: Vm<'_>, name: u32, length: u32, queue: u32| {
            let mut call = Call::of(vm, "proxy_register_shared_queue")?;
            let name = call.read(name, length)?;
            let number = call.state().queue(&name);
            call.write(queue, &number.to_le_bytes())?;
            Ok::<u32, wasmi::Error>(OK)
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_enqueue_shared_queue",
        |vm: Vm<'_>, queue: u32, value: u32, size: u32| {
            let mut call = Call::of(vm, "proxy_enqueue_shared_queue")?;
            let value = call.read(value, size)?;
            let state = call.state();
            state.queues.entry(queue).or_default().push_back(value);
            state.ready.push(queue);
            Ok::<u32, wasmi::Error>(OK)
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_dequeue_shared_queue",
        |vm: Vm<'_>, queue: u32, data: u32, size: u32| {
            let mut call = Call::of(vm, "proxy_dequeue_shared_queue")?;
            match call.state().queues.entry(queue).or_default().pop_front() {
                Some(value) => call.hand_over(&value, data, size),
                None => Ok(EMPTY),
            }
        },
    )?;
    Ok(())
}

/// Envoy's own functions: the filter declares filter state with one of them.
fn define_foreign(linker: &mut Linker<State>) -> Result<()> {
    linker.func_wrap(
        "env",
        "proxy_call_foreign_function",
        |vm: Vm<'_>, _name: u32, _size: u32, _data: u32, _length: u32, _result: u32, _size_of_result: u32| {
            Call::of(vm, "proxy_call_foreign_function").map(|_| OK)
        },
    )?;
    Ok(())
}

fn define_calls(linker: &mut Linker<State>) -> Result<()> {
    linker.func_wrap("env", "proxy_log", |vm: Vm<'_>, _level: u32, message: u32, size: u32| {
        let mut call = Call::of(vm, "proxy_log")?;
        let message = String::from_utf8_lossy(&call.read(message, size)?).into_owned();
        call.state().log.push(message);
        Ok::<u32, wasmi::Error>(OK)
    })?;
    linker.func_wrap("env", "proxy_set_tick_period_milliseconds", |vm: Vm<'_>, _period: u32| {
        Call::of(vm, "proxy_set_tick_period_milliseconds").map(|_| OK)
    })?;
    linker.func_wrap("env", "proxy_set_effective_context", |vm: Vm<'_>, _context: u32| {
        Call::of(vm, "proxy_set_effective_context").map(|_| OK)
    })?;
    linker.func_wrap("env", "proxy_done", |vm: Vm<'_>| Call::of(vm, "proxy_done").map(|_| OK))?;
    linker.func_wrap(
        "env",
        "proxy_send_local_response",
        |vm: Vm<'_>,
         status: u32,
         _: u32,
         _: u32,
         _: u32,
         size: u32,
         headers: u32,
         length: u32,
         _grpc: u32| {
            let mut call = Call::of(vm, "proxy_send_local_response")?;
            let mut all: Headers = vec![(b":status".to_vec(), status.to_string().into_bytes())];
            all.extend(parsed(&call.read(headers, length)?).unwrap_or_default());
            call.state().reply = Some((all, size as usize));
            Ok::<u32, wasmi::Error>(OK)
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_http_call",
        |vm: Vm<'_>,
         _: u32,
         _: u32,
         headers: u32,
         length: u32,
         body: u32,
         size: u32,
         _: u32,
         _: u32,
         _: u32,
         id: u32| {
            let mut call = Call::of(vm, "proxy_http_call")?;
            let headers = parsed(&call.read(headers, length)?).unwrap_or_default();
            let path = headers.into_iter().find(|(name, _)| name == b":path").map(|(_, value)| value);
            let path = String::from_utf8(path.unwrap_or_default()).unwrap_or_default();
            let body = call.read(body, size)?;
            let state = call.state();
            state.calls += 1;
            let number = state.calls;
            state.sent.push(Sent { id: number, path, body });
            call.write(id, &number.to_le_bytes())?;
            Ok::<u32, wasmi::Error>(OK)
        },
    )?;
    Ok(())
}

fn define_metrics(linker: &mut Linker<State>) -> Result<()> {
    linker.func_wrap(
        "env",
        "proxy_define_metric",
        |vm: Vm<'_>, _kind: u32, _name: u32, _size: u32, metric: u32| {
            let mut call = Call::of(vm, "proxy_define_metric")?;
            call.state().metrics += 1;
            let number = call.state().metrics;
            call.write(metric, &number.to_le_bytes())?;
            Ok::<u32, wasmi::Error>(OK)
        },
    )?;
    linker.func_wrap("env", "proxy_increment_metric", |vm: Vm<'_>, _metric: u32, _by: u64| {
        Call::of(vm, "proxy_increment_metric").map(|_| OK)
    })?;
    linker.func_wrap("env", "proxy_record_metric", |vm: Vm<'_>, metric: u32, value: u64| {
        let mut call = Call::of(vm, "proxy_record_metric")?;
        call.state().gauges.insert(metric, value);
        Ok::<u32, wasmi::Error>(OK)
    })?;
    Ok(())
}

fn define_wasi(linker: &mut Linker<State>) -> Result<()> {
    const WASI: &str = "wasi_snapshot_preview1";
    linker.func_wrap(WASI, "clock_time_get", |vm: Vm<'_>, clock: u32, _precision: u64, time: u32| {
        let mut call = Call::of(vm, "clock_time_get")?;
        let since = call.state().nanoseconds;
        let now = if clock == REALTIME { EPOCH + since } else { 1_000_000_000_000 + since };
        call.write(time, &now.to_le_bytes())?;
        Ok::<u32, wasmi::Error>(OK)
    })?;
    linker.func_wrap(WASI, "random_get", |vm: Vm<'_>, data: u32, size: u32| {
        let mut call = Call::of(vm, "random_get")?;
        let bytes: Vec<u8> = (0..size)
            .map(|_| {
                // The same in each run, so that the counts are the same.
                call.state().random = call.state().random.wrapping_mul(181).wrapping_add(97);
                call.state().random
            })
            .collect();
        call.write(data, &bytes)?;
        Ok::<u32, wasmi::Error>(OK)
    })?;
    linker.func_wrap(WASI, "environ_sizes_get", |vm: Vm<'_>, count: u32, size: u32| {
        let mut call = Call::of(vm, "environ_sizes_get")?;
        call.write(count, &[0; 4])?;
        call.write(size, &[0; 4])?;
        Ok::<u32, wasmi::Error>(OK)
    })?;
    linker.func_wrap(WASI, "environ_get", |vm: Vm<'_>, _: u32, _: u32| {
        Call::of(vm, "environ_get").map(|_| OK)
    })?;
    linker.func_wrap(WASI, "fd_write", |vm: Vm<'_>, _: u32, _: u32, _: u32, _: u32| {
        // The message of a panic, which the trap after it repeats.
        Call::of(vm, "fd_write").map(|_| BAD_ARGUMENT)
    })?;
    linker.func_wrap(WASI, "proc_exit", |_: Vm<'_>, status: u32| -> Result<(), wasmi::Error> {
        Err(wasmi::Error::i32_exit(status as i32))
    })?;
    Ok(())
}
