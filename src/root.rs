//! The root context: keeps this VM in step with the others and with the control plane.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use omniflow_policy::audit::{AuditRecord, AuditSource};
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{BufferType, ContextType, LogLevel};

use crate::audit::AuditBuffer;
use crate::clock;
use crate::config::{Config, TOKEN_VARIABLE, is_gateway_name};
use crate::control_plane::{self, Token};
use crate::host;
use crate::metrics::Metrics;
use crate::peers::{Message, Peers};
use crate::shared::Names;
use crate::store::Store;
use crate::stream::Stream;
use crate::sync::{Env, Leader, Progress};

/// How often a VM looks after itself.
pub(crate) const TICK: Duration = Duration::from_millis(100);
/// The first tick comes at once.
const FIRST_TICK: Duration = Duration::from_millis(1);

/// What the requests of this VM share with its root context.
pub(crate) struct Vm {
    pub(crate) config: Config,
    pub(crate) names: Names,
    pub(crate) store: RefCell<Store>,
    pub(crate) metrics: Metrics,
    audit: RefCell<AuditBuffer>,
    flush_wanted: Cell<bool>,
    /// Known from the first tick on.
    peers: RefCell<Option<Peers>>,
}

/// The root context.
pub(crate) struct Root {
    vm: Option<Rc<Vm>>,
    gateway: String,
    source: Option<AuditSource>,
    /// Present while this VM has the lead.
    leader: Option<Leader>,
}

impl Vm {
    /// Takes over the record of a call that has ended.
    pub(crate) fn record(&self, record: AuditRecord) {
        let full = self.audit.borrow_mut().push(record, clock::monotonic(), &self.metrics);
        // A stream cannot send a batch itself: the call would end with it. The root context is asked to.
        if full
            && !self.flush_wanted.replace(true)
            && let Some(peers) = self.peers.borrow().as_ref()
        {
            peers.tell_self(&Message::Flush);
        }
    }
}

impl Root {
    pub(crate) fn new() -> Self {
        Self { vm: None, gateway: String::new(), source: None, leader: None }
    }

    fn configure(&mut self) -> Result<(), String> {
        let json = hostcalls::get_buffer(BufferType::PluginConfiguration, 0, usize::MAX).ok().flatten();
        let config = Config::parse(&json.unwrap_or_default(), std::env::var(TOKEN_VARIABLE).ok())?;
        self.gateway = match &config.gateway {
            Some(gateway) => gateway.clone(),
            None => node_id().unwrap_or_else(|| "envoy".to_owned()),
        };
        let names = Names::new(&config.cluster);
        let mut store = Store::new(names.clone());
        store.refresh();
        self.vm = Some(Rc::new(Vm {
            audit: RefCell::new(AuditBuffer::new(&config)),
            config,
            store: RefCell::new(store),
            names,
            metrics: Metrics::define(),
            flush_wanted: Cell::new(false),
            peers: RefCell::new(None),
        }));
        Ok(())
    }

    /// Makes this VM known to the others, at its first tick.
    fn join(&mut self, vm: &Vm) {
        if vm.peers.borrow().is_some() {
            return;
        }
        host::set_tick(TICK);
        let joined = Peers::join(&vm.names);
        if let Some(peers) = &joined {
            self.source = Some(AuditSource {
                gateway: self.gateway.clone(),
                incarnation: peers.process(),
                vm: peers.me(),
            });
        }
        *vm.peers.borrow_mut() = joined;
    }

    /// Lets the leader, if it is this VM, do something, and passes on what has come of it.
    fn lead<T>(&mut self, vm: &Vm, work: impl FnOnce(&mut Leader, &Env<'_>) -> (T, Progress)) -> Option<T> {
        let peers = vm.peers.borrow();
        let peers = peers.as_ref()?;
        let leader = self.leader.as_mut()?;
        let env = Env {
            config: &vm.config,
            gateway: &self.gateway,
            metrics: &vm.metrics,
            peers,
            now: clock::monotonic(),
        };
        let (result, progress) = work(leader, &env);
        if progress.more {
            peers.tell_self(&Message::Continue);
        }
        if let Some(changed) = progress.changed {
            let message = Message::Changed { from: changed.from, pages: changed.pages };
            peers.tell_others(&message);
            // This VM hears it last: the others have a thread to wake up.
            peers.tell_self(&message);
        }
        Some(result)
    }

    fn changed(&mut self, vm: &Vm, from: u64, pages: Option<&[u32]>) {
        let version = {
            let mut store = vm.store.borrow_mut();
            match pages {
                Some(pages) => store.refresh_pages(from, pages),
                None => store.refresh(),
            }
            store.version()
        };
        self.beat(vm, version);
        if let Some(peers) = vm.peers.borrow().as_ref() {
            peers.tell_leader(&Message::Enforced);
        }
        self.lead(vm, |leader, env| {
            ((), {
                leader.enforced(env);
                Progress::default()
            })
        });
    }

    fn beat(&self, vm: &Vm, version: u64) {
        if let Some(peers) = vm.peers.borrow_mut().as_mut() {
            peers.beat(clock::monotonic(), version);
        }
    }

    fn flush(&self, vm: &Vm) {
        vm.flush_wanted.set(false);
        if let Some(source) = &self.source {
            vm.audit.borrow_mut().flush(&vm.config, source, clock::monotonic());
        }
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, headers: usize, body_size: usize, _: usize) {
        let Some(vm) = self.vm.clone() else { return };
        let token = Token(token);
        let answer = control_plane::answer(headers, body_size);
        let taken = vm.audit.borrow_mut().answered(token, answer.as_ref(), clock::monotonic(), &vm.metrics);
        if taken {
            self.flush(&vm);
            return;
        }
        self.lead(&vm, |leader, env| {
            let progress = leader.answered(env, token, answer).unwrap_or_default();
            // An answer without news is followed by the next poll at once.
            leader.tick(env);
            ((), progress)
        });
    }

    fn on_done(&mut self) -> bool {
        // Envoy leaves the tick of an old root context running.
        host::set_tick(Duration::ZERO);
        true
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        match self.configure() {
            Ok(()) => {
                // No work here: a canary VM comes here too. It has no ticks.
                host::set_tick(FIRST_TICK);
                true
            }
            Err(error) => {
                host::log(LogLevel::Error, &format!("plugin configuration refused: {error}"));
                false
            }
        }
    }

    fn on_tick(&mut self) {
        let Some(vm) = self.vm.clone() else { return };
        self.join(&vm);
        let version = {
            let mut store = vm.store.borrow_mut();
            store.refresh();
            store.version()
        };
        self.beat(&vm, version);
        let leads = vm.peers.borrow().as_ref().is_some_and(|peers| peers.lead(clock::monotonic()));
        match (leads, self.leader.is_some()) {
            (true, false) => self.leader = Some(Leader::new(vm.names.clone())),
            (false, true) => self.leader = None,
            _ => {}
        }
        self.lead(&vm, |leader, env| {
            ((), {
                leader.tick(env);
                Progress::default()
            })
        });
        self.flush(&vm);
    }

    fn on_queue_ready(&mut self, _: u32) {
        let Some(vm) = self.vm.clone() else { return };
        let messages = vm.peers.borrow().as_ref().map(Peers::receive).unwrap_or_default();
        for message in messages {
            match message {
                Message::Changed { from, pages } => self.changed(&vm, from, pages.as_deref()),
                Message::Enforced => {
                    if let Some(peers) = vm.peers.borrow_mut().as_mut() {
                        peers.look();
                    }
                    self.lead(&vm, |leader, env| {
                        ((), {
                            leader.enforced(env);
                            Progress::default()
                        })
                    });
                }
                Message::Continue => {
                    self.lead(&vm, |leader, env| ((), leader.step(env)));
                }
                Message::Flush => self.flush(&vm),
            }
        }
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        self.vm.clone().map(|vm| Box::new(Stream::new(vm)) as Box<dyn HttpContext>)
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

/// Envoy's node id. Its place among the attributes depends on the version of Envoy.
fn node_id() -> Option<String> {
    let id = host::property(&["xds", "node", "id"]).or_else(|| host::property(&["node", "id"]))?;
    let id = String::from_utf8(id).ok()?;
    is_gateway_name(&id).then_some(id)
}
