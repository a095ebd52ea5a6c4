//! The root context: keeps this VM in step with the other VMs and with the control plane.

use std::rc::Rc;
use std::time::Duration;

use omniflow_policy::audit::AuditSource;
use omniflow_policy::gateway::is_gateway_name;
use omniflow_policy::time::MonotonicNanos;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;

use crate::audit::crash_report::CrashReporter;
use crate::audit::handover::HandoverDelivery;
use crate::audit::quiescence::QuiescenceReporter;
use crate::audit::undelivered::Handover;
use crate::clock::{self, Clocks};
use crate::config::{Config, TOKEN_VARIABLE};
use crate::control_plane::{self, CallToken};
use crate::host::{self, ContextId, LogLevel};
use crate::request::calls::Calls;
use crate::request::{RequestContext, redirect};
use crate::snapshot::sync::{Leader, SyncContext, SyncOutcome};
use crate::vm::Vm;
use crate::workers::membership::Membership;
use crate::workers::message::Message;

/// The period of the tick.
pub(crate) const TICK: Duration = Duration::from_millis(100);
/// The first tick follows immediately.
const FIRST_TICK: Duration = Duration::from_millis(1);
/// How long the very last VM tries to deliver the handovers, if Envoy allows it.
const FINAL_DELIVERY: Duration = Duration::from_secs(10);

/// The root context, one per configuration of a VM.
pub(crate) struct Root {
    id: ContextId,
    /// `None` until there is a valid configuration.
    vm: Option<Rc<Vm>>,
    calls: Rc<Calls>,
    gateway: String,
    source: Option<AuditSource>,
    /// Present while this VM is the leader.
    leader: Option<Leader>,
    crash_reporter: CrashReporter,
    /// Present while this VM is the leader, or the last one.
    quiescence: Option<QuiescenceReporter>,
    handovers: HandoverDelivery,
    /// The deadline of the final delivery. This VM is no longer a member.
    ends: Option<MonotonicNanos>,
}

// === configuration and membership ===

impl Root {
    pub(crate) fn new(id: ContextId) -> Self {
        Self {
            id,
            vm: None,
            calls: Rc::default(),
            gateway: String::new(),
            source: None,
            leader: None,
            crash_reporter: CrashReporter::new(),
            quiescence: None,
            handovers: HandoverDelivery::default(),
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
        redirect::declare_state();
        self.vm = Some(Rc::new(Vm::new(config)));
        Ok(())
    }

    /// Joins the other VMs, at the first tick.
    fn join(&mut self, vm: &Vm) {
        if vm.membership.borrow().is_some() {
            return;
        }
        host::set_tick_period(TICK);
        let joined = Membership::join(&vm.names);
        if let Some(membership) = &joined {
            self.source = Some(AuditSource {
                gateway: self.gateway.clone(),
                incarnation: membership.process(),
                vm: membership.id(),
            });
        }
        *vm.membership.borrow_mut() = joined;
    }

    fn heartbeat(&self, vm: &Vm, version: u64) {
        if let Some(membership) = vm.membership.borrow_mut().as_mut() {
            let needs_image = vm.snapshot.borrow().needs_image();
            let dropped = membership.heartbeat(clock::monotonic(), version, needs_image, vm.progress());
            vm.metrics.add_audit_lost(dropped);
        }
    }
}

// === the snapshot ===

impl Root {
    /// Runs `work` if this VM is the leader, and forwards its outcome.
    fn lead(&mut self, vm: &Vm, work: impl FnOnce(&mut Leader, &SyncContext<'_>) -> SyncOutcome) {
        let membership = vm.membership.borrow();
        let (Some(membership), Some(leader)) = (membership.as_ref(), self.leader.as_mut()) else { return };
        let now = clock::monotonic();
        if !membership.acquire_lease(now) {
            // This thread was blocked for so long that another VM has the lease.
            self.leader = None;
            return;
        }
        let context =
            SyncContext { config: &vm.config, gateway: &self.gateway, metrics: &vm.metrics, membership, now };
        let outcome = work(leader, &context);
        if outcome.has_more {
            membership.send_to_self(&Message::Continue);
        }
        if let Some(changed) = outcome.changed {
            let message =
                Message::SnapshotChanged { from: changed.from, to: changed.to, segments: changed.segments };
            membership.send_to_others(&message);
            // This VM comes last, because the threads of the others have to wake up first.
            membership.send_to_self(&message);
        }
    }

    fn adopt_snapshot(&mut self, vm: &Vm, from: u64, to: u64, segments: Option<&[u32]>) {
        let version = {
            let mut snapshot = vm.snapshot.borrow_mut();
            match segments {
                Some(segments) => snapshot.refresh_segments(from, to, segments),
                None => snapshot.refresh(),
            }
            snapshot.version()
        };
        // Before the heartbeat: a version counts as enforced when the calls of revoked keys are being ended.
        self.calls.supervise(vm, self.id);
        self.heartbeat(vm, version);
        if let Some(membership) = vm.membership.borrow().as_ref() {
            membership.send_to_leader(&Message::Enforced);
        }
        self.lead(vm, Leader::on_enforced);
    }
}

// === audit records ===

impl Root {
    fn flush(&self, vm: &Vm) {
        vm.flush_requested.set(false);
        let sent = match (&self.source, vm.membership.borrow().as_ref()) {
            (Some(source), Some(membership)) => {
                let now = clock::monotonic();
                vm.audit.borrow_mut().flush(&vm.config, source, membership, now, &vm.metrics)
            }
            _ => return,
        };
        if sent {
            // The table always covers the delivered records.
            let version = vm.snapshot.borrow().version();
            self.heartbeat(vm, version);
        }
    }

    /// The leader's reports: takes handovers, reports crashed VMs and quiescence.
    fn report(&mut self, vm: &Vm) {
        let membership = vm.membership.borrow();
        let (Some(membership), Some(source)) = (membership.as_ref(), &self.source) else { return };
        vm.metrics.set_audit_waiting(membership.waiting());
        let now = clock::monotonic();
        // A VM whose handover is being delivered must not be reported as crashed.
        if !self.handovers.take_next(&vm.config, membership) {
            self.crash_reporter.tick(&vm.config, source, membership, now);
        }
        let quiescence = self.quiescence.get_or_insert_with(|| QuiescenceReporter::new(now));
        quiescence.tick(&vm.config, source, membership, now);
        vm.metrics.set_quiescent(quiescence.is_reported());
    }

    fn deliver_handovers(&mut self, vm: &Vm) {
        if let Some(membership) = vm.membership.borrow().as_ref() {
            self.handovers.deliver(&vm.config, membership, clock::monotonic(), &vm.metrics);
        }
    }

    /// Hands all records over to the other VMs. Returns whether there are no other VMs, so that this VM has to deliver
    /// the records.
    fn hand_over(&mut self, vm: &Vm) -> bool {
        let mut membership = vm.membership.borrow_mut();
        let (Some(membership), Some(source)) = (membership.as_mut(), &self.source) else { return false };
        let now = clock::monotonic();
        let progress = vm.progress();
        let records = vm.audit.borrow_mut().take_undelivered(now, &vm.metrics);
        let own = Handover { source: source.clone(), records };
        membership.announce_departure(now, progress);
        for handover in self.handovers.abort(now, &vm.metrics).into_iter().chain([own]) {
            if !handover.records.is_empty() {
                membership.hand_over(&handover);
            }
        }
        membership.leave()
    }

    /// A tick of the very last VM: it delivers the handovers and reports quiescence.
    fn final_delivery(&mut self, vm: &Vm, ends: MonotonicNanos) {
        if let Some(membership) = vm.membership.borrow_mut().as_mut() {
            membership.refresh();
        }
        self.deliver_handovers(vm);
        self.report(vm);
        // A VM that joined in the meantime takes over.
        let is_over = self.quiescence.as_ref().is_none_or(QuiescenceReporter::is_reported)
            || vm.membership.borrow().as_ref().is_none_or(Membership::any_present);
        if is_over || clock::monotonic() >= ends {
            self.return_handover(vm);
            host::set_tick_period(Duration::ZERO);
            host::done();
            // Frees the copies of segments now: Envoy deletes the context later.
            self.vm = None;
        }
    }

    /// Puts an undelivered handover back into the queue, for a VM that may join later.
    fn return_handover(&mut self, vm: &Vm) {
        if let Some(membership) = vm.membership.borrow().as_ref()
            && let Some(handover) = self.handovers.abort(clock::monotonic(), &vm.metrics)
        {
            let calls = handover.records.calls();
            membership.hand_over(&handover);
            host::log(LogLevel::Warn, &format!("{calls} audit records kept for the next VM of this filter"));
        }
    }
}

// === callbacks ===

impl RootContext for Root {
    fn on_configure(&mut self, _plugin_configuration_size: usize) -> bool {
        match self.configure() {
            Ok(()) => {
                // No work starts here: a canary VM also gets this callback, but no ticks.
                host::set_tick_period(FIRST_TICK);
                true
            }
            Err(error) => {
                host::log(LogLevel::Error, &format!("plugin configuration rejected: {error}"));
                false
            }
        }
    }

    fn on_tick(&mut self) {
        let Some(vm) = self.vm.clone() else { return };
        if let Some(ends) = self.ends {
            return self.final_delivery(&vm, ends);
        }
        self.join(&vm);
        let version = {
            let mut snapshot = vm.snapshot.borrow_mut();
            snapshot.tick(clock::monotonic());
            snapshot.version()
        };
        vm.clocks.set(Clocks::read());
        self.calls.supervise(&vm, self.id);
        self.calls.finish_abandoned(&vm, false);
        self.heartbeat(&vm, version);
        vm.report_rejected_entries(clock::monotonic());
        let membership = vm.membership.borrow();
        let is_leader = membership.as_ref().is_some_and(|member| member.acquire_lease(clock::monotonic()));
        drop(membership);
        match (is_leader, self.leader.is_some()) {
            (true, false) => self.leader = Some(Leader::new(vm.names.clone())),
            (false, true) => self.leader = None,
            _ => {}
        }
        self.lead(&vm, Leader::tick);
        if self.leader.is_some() {
            self.report(&vm);
        } else {
            // Other leaders may report in the meantime.
            self.quiescence = None;
        }
        self.deliver_handovers(&vm);
        self.flush(&vm);
    }

    fn on_queue_ready(&mut self, _queue: u32) {
        let Some(vm) = self.vm.clone().filter(|_| self.ends.is_none()) else { return };
        let messages = vm.membership.borrow().as_ref().map(Membership::receive).unwrap_or_default();
        for message in messages {
            match message {
                Message::SnapshotChanged { from, to, segments } => {
                    self.adopt_snapshot(&vm, from, to, segments.as_deref());
                }
                Message::Enforced => {
                    if let Some(membership) = vm.membership.borrow_mut().as_mut() {
                        membership.refresh();
                    }
                    self.lead(&vm, Leader::on_enforced);
                }
                Message::Continue => self.lead(&vm, Leader::step),
                Message::Flush => self.flush(&vm),
            }
        }
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    /// Always a context: the SDK panics on `None`.
    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(RequestContext::new(self.vm.clone(), Rc::clone(&self.calls), ContextId(context_id))))
    }
}

impl Context for Root {
    fn on_http_call_response(
        &mut self,
        token: u32,
        num_headers: usize,
        body_size: usize,
        _num_trailers: usize,
    ) {
        let Some(vm) = self.vm.clone() else { return };
        let call = CallToken(token);
        let response = control_plane::response(num_headers, body_size);
        let now = clock::monotonic();
        let is_own_batch = vm.audit.borrow_mut().on_response(call, response.as_ref(), now, &vm.metrics);
        if is_own_batch {
            return self.flush(&vm);
        }
        if self.handovers.on_response(call, response.as_ref(), now, &vm.metrics) {
            return self.deliver_handovers(&vm);
        }
        if let Some(membership) = vm.membership.borrow().as_ref()
            && self.crash_reporter.on_response(call, response.as_ref(), membership, now, &vm.metrics)
        {
            return;
        }
        if let Some(quiescence) = &mut self.quiescence
            && quiescence.on_response(call, response.as_ref(), now)
        {
            return;
        }
        self.lead(&vm, |leader, context| leader.on_response(context, call, response));
    }

    /// Returns whether no work is left.
    fn on_done(&mut self) -> bool {
        // All requests of this configuration have ended, because each of them holds a reference to it.
        self.leader = None;
        if let Some(vm) = &self.vm {
            self.calls.finish_abandoned(vm, true);
        }
        if let Some(vm) = self.vm.clone()
            && self.hand_over(&vm)
        {
            // No call is made here: when Envoy's process ends, its clusters may no longer exist. The tick continues the
            // work.
            self.quiescence = None;
            self.ends = Some(clock::monotonic().after(FINAL_DELIVERY));
            return false;
        }
        // Envoy keeps the tick of an old root context running.
        host::set_tick_period(Duration::ZERO);
        true
    }
}

/// Envoy's node ID. Its location among the attributes depends on the version of Envoy.
fn node_id() -> Option<String> {
    let id = host::property("xds\0node\0id").or_else(|| host::property("node\0id"))?;
    let id = String::from_utf8(id).ok()?;
    is_gateway_name(&id).then_some(id)
}
