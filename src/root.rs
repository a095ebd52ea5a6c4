//! The root context: keeps this VM in step with the others and with the control plane.

use std::rc::Rc;
use std::time::Duration;

use omniflow_policy::audit::AuditSource;
use omniflow_policy::gateway::is_gateway_name;
use omniflow_policy::time::MonotonicNanos;

use crate::abi::LogLevel;
use crate::clock::{self, Clocks};
use crate::config::{Config, TOKEN_VARIABLE};
use crate::control_plane::{self, CallId};
use crate::host;
use crate::legacy::{Legacies, Legacy};
use crate::lost::LostVms;
use crate::peers::{Message, Peers};
use crate::settlement::Settlement;
use crate::stream::Stream;
use crate::sync::{self, Leader, Progress};
use crate::vm::Vm;

/// How often a VM looks after itself.
pub(crate) const TICK: Duration = Duration::from_millis(100);
/// The first tick comes at once.
const FIRST_TICK: Duration = Duration::from_millis(1);
/// For so long the last VM of all tries to deliver what is left, where Envoy lets it.
const LAST_TRY: Duration = Duration::from_secs(10);

/// The root context.
pub(crate) struct Root {
    vm: Option<Rc<Vm>>,
    gateway: String,
    source: Option<AuditSource>,
    /// Present while this VM has the lead.
    leader: Option<Leader>,
    lost_vms: LostVms,
    /// What the control plane knows, while this VM has the lead or is the last.
    settlement: Option<Settlement>,
    legacies: Legacies,
    /// When the last try ends. This VM is none of the others any more.
    ends: Option<MonotonicNanos>,
}

impl Root {
    pub(crate) fn new() -> Self {
        Self {
            vm: None,
            gateway: String::new(),
            source: None,
            leader: None,
            lost_vms: LostVms::new(),
            settlement: None,
            legacies: Legacies::default(),
            ends: None,
        }
    }

    fn configure(&mut self) -> Result<(), String> {
        let json = host::plugin_configuration();
        let config = Config::parse(&json, std::env::var(TOKEN_VARIABLE).ok())?;
        self.gateway = match &config.gateway {
            Some(gateway) => gateway.clone(),
            None => node_id().unwrap_or_else(|| "envoy".to_owned()),
        };
        self.vm = Some(Rc::new(Vm::new(config)));
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
    fn lead(&mut self, vm: &Vm, work: impl FnOnce(&mut Leader, &sync::Context<'_>) -> Progress) {
        let peers = vm.peers.borrow();
        let (Some(peers), Some(leader)) = (peers.as_ref(), self.leader.as_mut()) else { return };
        let now = clock::monotonic();
        if !peers.lead(now) {
            // This thread was held up for so long that another VM has taken the lead.
            self.leader = None;
            return;
        }
        let context =
            sync::Context { config: &vm.config, gateway: &self.gateway, metrics: &vm.metrics, peers, now };
        let progress = work(leader, &context);
        if progress.more {
            peers.tell_self(&Message::Continue);
        }
        if let Some(changed) = progress.changed {
            let message = Message::Changed { from: changed.from, to: changed.to, pages: changed.pages };
            peers.tell_others(&message);
            // This VM hears it last: the others have a thread to wake up.
            peers.tell_self(&message);
        }
    }

    fn changed(&mut self, vm: &Vm, from: u64, to: u64, pages: Option<&[u32]>) {
        let version = {
            let mut store = vm.store.borrow_mut();
            match pages {
                Some(pages) => store.refresh_pages(from, to, pages),
                None => store.refresh(),
            }
            store.version()
        };
        self.beat(vm, version);
        if let Some(peers) = vm.peers.borrow().as_ref() {
            peers.tell_leader(&Message::Enforced);
        }
        self.lead(vm, Leader::enforced);
    }

    fn beat(&self, vm: &Vm, version: u64) {
        if let Some(peers) = vm.peers.borrow_mut().as_mut() {
            let forgotten = peers.beat(clock::monotonic(), version, vm.progress());
            vm.metrics.audit_lost(forgotten);
        }
    }

    /// As the leader, delivers what VMs that have ended have left, reports what they have not, and tells whether that is
    /// all.
    fn settle(&mut self, vm: &Vm) {
        let peers = vm.peers.borrow();
        let (Some(peers), Some(source)) = (peers.as_ref(), &self.source) else { return };
        vm.metrics.audit_waiting(peers.waiting());
        let now = clock::monotonic();
        // What is on its way is not to be taken for lost.
        if !self.legacies.inherit(&vm.config, peers) {
            self.lost_vms.tick(&vm.config, source, peers, now);
        }
        let settlement = self.settlement.get_or_insert_with(|| Settlement::new(now));
        settlement.tick(&vm.config, source, peers, now);
        vm.metrics.audit_unsettled(!settlement.is_told());
    }

    fn deliver_legacies(&mut self, vm: &Vm) {
        if let Some(peers) = vm.peers.borrow().as_ref() {
            self.legacies.deliver(&vm.config, peers, clock::monotonic(), &vm.metrics);
        }
    }

    /// Leaves all records to the other VMs. Tells whether there is none, so that this one has to see to the end.
    fn hand_over(&mut self, vm: &Vm) -> bool {
        let mut peers = vm.peers.borrow_mut();
        let (Some(peers), Some(source)) = (peers.as_mut(), &self.source) else { return false };
        let now = clock::monotonic();
        let progress = vm.progress();
        let records = vm.audit.borrow_mut().take_undelivered(now, &vm.metrics);
        let own = Legacy { source: source.clone(), records };
        peers.announce_end(now, progress);
        for legacy in self.legacies.take(now, &vm.metrics).into_iter().chain([own]) {
            if !legacy.records.is_empty() {
                peers.bequeath(&legacy);
            }
        }
        peers.leave()
    }

    /// One tick of the last VM of all: it delivers what is left, and has the last word.
    fn last_try(&mut self, vm: &Vm, ends: MonotonicNanos) {
        if let Some(peers) = vm.peers.borrow_mut().as_mut() {
            peers.look();
        }
        self.deliver_legacies(vm);
        self.settle(vm);
        // Whoever has come meanwhile has the last word instead.
        let is_over = self.settlement.as_ref().is_none_or(Settlement::is_told)
            || vm.peers.borrow().as_ref().is_none_or(Peers::are_there);
        if is_over || clock::monotonic() >= ends {
            self.give_up(vm);
            host::set_tick(Duration::ZERO);
            host::done();
            // Envoy calls no more: nobody would let go of this otherwise, with its copies of pages.
            self.vm = None;
        }
    }

    /// Puts what could not be delivered back, for a VM that may come.
    fn give_up(&mut self, vm: &Vm) {
        if let Some(peers) = vm.peers.borrow().as_ref()
            && let Some(legacy) = self.legacies.take(clock::monotonic(), &vm.metrics)
        {
            let calls = legacy.records.calls();
            peers.bequeath(&legacy);
            host::log(
                LogLevel::Warn,
                &format!("{calls} audit records wait for the filter to be there again"),
            );
        }
    }

    fn flush(&self, vm: &Vm) {
        vm.flush_wanted.set(false);
        let sent = match (&self.source, vm.peers.borrow().as_ref()) {
            (Some(source), Some(peers)) => {
                let now = clock::monotonic();
                vm.audit.borrow_mut().flush(&vm.config, source, peers, now, &vm.metrics)
            }
            _ => return,
        };
        if sent {
            // So that no more is ever delivered than the others know of.
            let version = vm.store.borrow().version();
            self.beat(vm, version);
        }
    }
}

// === callbacks ===

impl Root {
    pub(crate) fn on_http_call_response(&mut self, token: u32, headers: usize, body_size: usize) {
        let Some(vm) = self.vm.clone() else { return };
        let id = CallId(token);
        let answer = control_plane::answer(headers, body_size);
        let taken = vm.audit.borrow_mut().answered(id, answer.as_ref(), clock::monotonic(), &vm.metrics);
        if taken {
            self.flush(&vm);
            return;
        }
        if self.legacies.answered(id, answer.as_ref(), clock::monotonic(), &vm.metrics) {
            self.deliver_legacies(&vm);
            return;
        }
        if let Some(peers) = vm.peers.borrow().as_ref()
            && self.lost_vms.answered(id, answer.as_ref(), peers, clock::monotonic(), &vm.metrics)
        {
            return;
        }
        if let Some(settlement) = &mut self.settlement
            && settlement.answered(id, answer.as_ref(), clock::monotonic())
        {
            return;
        }
        self.lead(&vm, |leader, context| leader.answered(context, id, answer));
    }

    /// Tells whether nothing is left to do.
    pub(crate) fn on_done(&mut self) -> bool {
        // By now all requests of this configuration have ended: each of them holds on to it.
        self.leader = None;
        if let Some(vm) = self.vm.clone()
            && self.hand_over(&vm)
        {
            // No call from here: when Envoy's process ends, its clusters may be gone already. The tick goes on.
            self.settlement = None;
            self.ends = Some(clock::monotonic().after(LAST_TRY));
            return false;
        }
        // Envoy leaves the tick of an old root context running.
        host::set_tick(Duration::ZERO);
        true
    }
    pub(crate) fn on_configure(&mut self) -> bool {
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

    pub(crate) fn on_tick(&mut self) {
        let Some(vm) = self.vm.clone() else { return };
        if let Some(ends) = self.ends {
            return self.last_try(&vm, ends);
        }
        self.join(&vm);
        let version = {
            let mut store = vm.store.borrow_mut();
            store.tick(clock::monotonic());
            store.version()
        };
        vm.clocks.set(Clocks::read());
        self.beat(&vm, version);
        let leads = vm.peers.borrow().as_ref().is_some_and(|peers| peers.lead(clock::monotonic()));
        match (leads, self.leader.is_some()) {
            (true, false) => self.leader = Some(Leader::new(vm.names.clone())),
            (false, true) => self.leader = None,
            _ => {}
        }
        self.lead(&vm, Leader::tick);
        if self.leader.is_some() {
            self.settle(&vm);
        } else {
            // The next lead begins without knowing what others have told meanwhile.
            self.settlement = None;
        }
        self.deliver_legacies(&vm);
        self.flush(&vm);
    }

    pub(crate) fn on_queue_ready(&mut self) {
        let Some(vm) = self.vm.clone().filter(|_| self.ends.is_none()) else { return };
        let messages = vm.peers.borrow().as_ref().map(Peers::receive).unwrap_or_default();
        for message in messages {
            match message {
                Message::Changed { from, to, pages } => self.changed(&vm, from, to, pages.as_deref()),
                Message::Enforced => {
                    if let Some(peers) = vm.peers.borrow_mut().as_mut() {
                        peers.look();
                    }
                    self.lead(&vm, Leader::enforced);
                }
                Message::Continue => {
                    self.lead(&vm, Leader::step);
                }
                Message::Flush => self.flush(&vm),
            }
        }
    }

    /// The context of a request; `None` where the configuration was refused.
    pub(crate) fn stream(&self) -> Option<Stream> {
        self.vm.clone().map(Stream::new)
    }
}

/// Envoy's node id. Its place among the attributes depends on the version of Envoy.
fn node_id() -> Option<String> {
    let id = host::property("xds\0node\0id").or_else(|| host::property("node\0id"))?;
    let id = String::from_utf8(id).ok()?;
    is_gateway_name(&id).then_some(id)
}
