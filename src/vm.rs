//! What the requests of this VM share with its root context.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use omniflow_policy::audit::AuditRecord;
use omniflow_policy::payload::CallPayload;
use omniflow_policy::time::{MonotonicNanos, UnixMillis};

use crate::audit::AuditBuffer;
use crate::clock::{self, Clocks};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::payload::PayloadRoom;
use crate::peers::{Message, Peers, Progress};
use crate::shared::Names;
use crate::store::Store;

/// This VM. Everything in it belongs to one thread; what VMs share lies in shared data.
pub(crate) struct Vm {
    pub(crate) config: Config,
    pub(crate) names: Names,
    pub(crate) store: RefCell<Store>,
    pub(crate) metrics: Metrics,
    pub(crate) audit: RefCell<AuditBuffer>,
    /// For the arguments of calls under way.
    pub(crate) payload_room: Rc<PayloadRoom>,
    /// Calls that were decided on. Each makes a record when it ends.
    pub(crate) begun: Cell<u64>,
    /// Both clocks at the last tick.
    pub(crate) clocks: Cell<Clocks>,
    /// A full batch is waiting, and the root context was asked to send it.
    pub(crate) flush_wanted: Cell<bool>,
    /// Known from the first tick on.
    pub(crate) peers: RefCell<Option<Peers>>,
}

impl Vm {
    /// Nobody knows this VM yet; it joins the others in its first tick.
    pub(crate) fn new(config: Config) -> Self {
        let names = Names::new(&config.cluster);
        let mut store = Store::new(names.clone(), config.key_cache_bytes);
        store.refresh();
        Self {
            audit: RefCell::new(AuditBuffer::new(&config)),
            // As much again as may wait for the control plane.
            payload_room: PayloadRoom::new(config.audit_buffer_bytes / 2),
            config,
            store: RefCell::new(store),
            names,
            metrics: Metrics::define(),
            begun: Cell::new(0),
            clocks: Cell::new(Clocks::read()),
            flush_wanted: Cell::new(false),
            peers: RefCell::new(None),
        }
    }

    /// The wall clock at an instant of the other one, without asking it each time.
    pub(crate) fn wall_clock(&self, now: MonotonicNanos) -> UnixMillis {
        if self.clocks.get().is_stale(now) {
            self.clocks.set(Clocks::read());
        }
        self.clocks.get().wall_clock(now)
    }

    /// How far this VM has come with its records.
    pub(crate) fn progress(&self) -> Progress {
        Progress {
            begun: self.begun.get(),
            acknowledged: self.audit.borrow().acknowledged(),
            at: clock::now(),
        }
    }

    /// Takes over the record of a call that has ended.
    pub(crate) fn record(&self, record: AuditRecord, payload: Option<CallPayload>, now: MonotonicNanos) {
        let full = self.audit.borrow_mut().push(record, payload, now, &self.metrics);
        // A stream cannot send a batch itself: the call would end with it. The root context is asked to.
        if full
            && !self.flush_wanted.replace(true)
            && let Some(peers) = self.peers.borrow().as_ref()
        {
            peers.tell_self(&Message::Flush);
        }
    }
}
