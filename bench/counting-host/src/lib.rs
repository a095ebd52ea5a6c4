//! A host for one VM of the filter, with only the functions that the filter needs. It keeps state as Envoy does (shared
//! data with compare-and-swap, queues, header maps), gives the filter a snapshot through the protocol of the control
//! plane, and counts two things: the fuel that an interpreter charges for instructions, and the calls between host and
//! VM in both directions. The same filter and the same requests yield the same numbers on every machine, however busy
//! it is.
//!
//! The interpreter charges for a block of instructions on entry, even if it leaves the block early. So fuel exceeds the
//! number of executed instructions. It is suitable for comparing builds, but not for estimating times.

mod imports;
pub mod scenario;
mod state;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use omniflow_policy::gateway::{AUDIT_PATH, MANIFEST_MEDIA_TYPE, POLL_PATH, chunk_path};
use omniflow_policy::snapshot::Image;
use wasmi::{Config, Engine, Instance, Linker, Module, Store, TypedFunc, WasmParams, WasmResults};

pub use crate::state::Headers;
use crate::state::{Sent, State};

/// More than any measured exchange takes.
const FUEL: u64 = u64::MAX / 2;
const ROOT: u32 = 1;
/// A snapshot is available after fewer ticks than this.
const MOST_TICKS: u32 = 100;

/// A VM of the filter, with an effective snapshot.
pub struct Vm {
    store: Store<State>,
    instance: Instance,
    image: Image,
    next_context: u32,
}

/// A request and its response.
#[derive(Clone, Debug, Default)]
pub struct Exchange {
    /// The headers of the request, pseudo-headers first.
    pub request: Vec<(String, String)>,
    /// The chunks of its body.
    pub body: Vec<Vec<u8>>,
}

/// The cost and the outcome of an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// The fuel charged by the interpreter.
    pub fuel: u64,
    /// The fuel of each callback.
    pub in_callback: BTreeMap<&'static str, u64>,
    /// Every host call in order, with the fuel since the previous one.
    pub fuel_left: Vec<(&'static str, u64)>,
    /// Calls from the host into the VM, including `proxy_on_memory_allocate`.
    pub callbacks: BTreeMap<&'static str, u64>,
    /// Calls from the VM to the host.
    pub host_calls: BTreeMap<&'static str, u64>,
    /// The status of the response.
    pub status: u16,
    /// The headers of the forwarded request, if it was forwarded.
    pub forwarded: Option<Headers>,
    /// The headers of the response.
    pub response: Headers,
}

fn steps(mut before: u64, fuel_left: &[(&'static str, u64)]) -> Vec<(&'static str, u64)> {
    let step = |(name, left): &(&'static str, u64)| (*name, std::mem::replace(&mut before, *left) - left);
    fuel_left.iter().map(step).collect()
}

impl Cost {
    /// Calls between host and VM, in both directions.
    pub fn crossings(&self) -> u64 {
        self.callbacks.values().chain(self.host_calls.values()).sum()
    }
}

impl Vm {
    /// Starts the filter in this file and gives it a snapshot.
    pub fn start(wasm: &Path, image: Image) -> Result<Self> {
        let mut config = Config::default();
        config.consume_fuel(true);
        let engine = Engine::new(&config);
        let code = std::fs::read(wasm).with_context(|| wasm.display().to_string())?;
        let module = Module::new(&engine, &code[..])?;
        let mut store = Store::new(&engine, State::default());
        store.set_fuel(FUEL)?;
        let mut linker = Linker::new(&engine);
        imports::define(&mut linker)?;
        imports::trap_others(&mut linker, &module);
        let instance = linker.instantiate_and_start(&mut store, &module)?;
        let mut vm = Self { store, instance, image, next_context: ROOT + 1 };
        vm.call::<_, ()>("_initialize", ())?;
        vm.call::<_, ()>("proxy_on_context_create", (ROOT, 0u32))?;
        ensure!(
            vm.call::<_, u32>("proxy_on_configure", (ROOT, 0u32))? == 1,
            "the filter refuses its configuration"
        );
        vm.come_into_step()?;
        Ok(vm)
    }

    /// One exchange, from its first header to its end. The upstream responds with 200 and two bytes.
    pub fn exchange(&mut self, exchange: &Exchange) -> Result<Cost> {
        let context = self.next_context;
        self.next_context += 1;
        self.store.data_mut().begin(&exchange.request);
        let before = self.store.get_fuel()?;
        let ends = exchange.body.is_empty();
        self.call::<_, ()>("proxy_on_context_create", (context, ROOT))?;
        let count = exchange.request.len() as u32;
        let mut goes_on =
            self.call::<_, u32>("proxy_on_request_headers", (context, count, u32::from(ends)))? == 0;
        if goes_on {
            for (index, piece) in exchange.body.iter().enumerate() {
                let ends = index + 1 == exchange.body.len();
                self.store.data_mut().body = piece.clone();
                let size = piece.len() as u32;
                goes_on &=
                    self.call::<_, u32>("proxy_on_request_body", (context, size, u32::from(ends)))? == 0;
            }
        }
        let body = self.store.data_mut().answer(goes_on)?;
        let count = self.store.data().response_headers.len() as u32;
        self.call::<_, u32>("proxy_on_response_headers", (context, count, 0u32))?;
        self.call::<_, u32>("proxy_on_response_body", (context, body as u32, 1u32))?;
        self.call_if_exported("proxy_on_log", context)?;
        ensure!(self.call::<_, u32>("proxy_on_done", (context,))? == 1, "a request is not done");
        self.call_if_exported("proxy_on_delete", context)?;
        let fuel = before - self.store.get_fuel()?;
        let state = self.store.data_mut();
        Ok(Cost {
            fuel,
            in_callback: std::mem::take(&mut state.in_callback),
            fuel_left: steps(before, &std::mem::take(&mut state.fuel_left)),
            callbacks: std::mem::take(&mut state.callbacks),
            host_calls: std::mem::take(&mut state.host_calls),
            status: state.status(),
            forwarded: goes_on.then(|| std::mem::take(&mut state.request_headers)),
            response: std::mem::take(&mut state.response_headers),
        })
    }

    /// Advances the time, which otherwise does not advance, and ticks.
    pub fn tick(&mut self, milliseconds: u64) -> Result<()> {
        self.store.data_mut().nanoseconds += milliseconds * 1_000_000;
        self.call::<_, ()>("proxy_on_tick", (ROOT,))?;
        self.deliver()
    }

    fn come_into_step(&mut self) -> Result<()> {
        let version = self.image.manifest().version;
        for _ in 0..MOST_TICKS {
            self.tick(100)?;
            if self.store.data().gauges.values().any(|value| *value == version) {
                return Ok(());
            }
        }
        bail!("the filter does not come into step: {:?}", self.store.data().log)
    }

    /// Responds to the calls of the filter and delivers the messages in its queues, until nothing is left.
    fn deliver(&mut self) -> Result<()> {
        loop {
            let queues = std::mem::take(&mut self.store.data_mut().ready);
            for queue in &queues {
                self.call::<_, ()>("proxy_on_queue_ready", (ROOT, *queue))?;
            }
            let sent = std::mem::take(&mut self.store.data_mut().sent);
            for call in &sent {
                self.answer(call)?;
            }
            if queues.is_empty() && sent.is_empty() {
                return Ok(());
            }
        }
    }

    fn answer(&mut self, call: &Sent) -> Result<()> {
        let (status, media_type, body) = if call.path == POLL_PATH {
            if std::mem::replace(&mut self.store.data_mut().has_polled, true) {
                // The control plane holds it.
                return Ok(());
            }
            ("200", MANIFEST_MEDIA_TYPE, self.image.manifest().encode())
        } else if let Some(chunk) = self.chunk(&call.path) {
            ("200", "application/octet-stream", chunk)
        } else if call.path == AUDIT_PATH {
            self.store.data_mut().batches.push(call.body.clone());
            ("204", "", Vec::new())
        } else {
            ("204", "", Vec::new())
        };
        let size = body.len() as u32;
        let state = self.store.data_mut();
        state.answer_headers = vec![
            (b":status".to_vec(), status.as_bytes().to_vec()),
            (b"content-type".to_vec(), media_type.as_bytes().to_vec()),
        ];
        state.answer_body = body;
        self.call::<_, ()>("proxy_on_http_call_response", (ROOT, call.id, 2u32, size, 0u32))
    }

    fn chunk(&self, path: &str) -> Option<Vec<u8>> {
        let number = path.rsplit('/').next()?.parse().ok()?;
        (path == chunk_path(self.image.manifest().version, number)).then(|| self.image.chunk_bytes(number))?
    }

    /// Batches of audit records that have reached the control plane.
    pub fn batches(&self) -> &[Vec<u8>] {
        &self.store.data().batches
    }

    /// A callback that Envoy makes only if the module exports it.
    fn call_if_exported(&mut self, name: &'static str, context: u32) -> Result<()> {
        if self.instance.get_func(&self.store, name).is_some() {
            self.call::<_, ()>(name, (context,))?;
        }
        Ok(())
    }

    fn call<P: WasmParams, R: WasmResults>(&mut self, name: &'static str, parameters: P) -> Result<R> {
        let function: TypedFunc<P, R> = self.instance.get_typed_func(&self.store, name)?;
        *self.store.data_mut().callbacks.entry(name).or_default() += 1;
        let before = self.store.get_fuel()?;
        let answer = function.call(&mut self.store, parameters);
        let spent = before.saturating_sub(self.store.get_fuel()?);
        *self.store.data_mut().in_callback.entry(name).or_default() += spent;
        answer.with_context(|| format!("{name}: {:?}", self.store.data().log))
    }
}
