//! The state that the requests of a VM share with its root context.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use omniflow_policy::audit::AuditRecord;
use omniflow_policy::payload::CallPayload;
use omniflow_policy::time::{MonotonicNanos, UnixMillis};

use crate::audit::buffer::AuditBuffer;
use crate::clock::{self, Clocks};
use crate::config::Config;
use crate::host::{self, LogLevel};
use crate::metrics::Metrics;
use crate::request::payload::PayloadRoom;
use crate::snapshot::view::SnapshotView;
use crate::workers::member_table::CallProgress;
use crate::workers::membership::Membership;
use crate::workers::message::Message;
use crate::workers::shared_data::{self, Names, Rejected};

/// At most one warning about `X-Forwarded-For` is logged per this interval.
const FORWARDED_WARNING_PERIOD: Duration = Duration::from_secs(60);
/// The same, about entries of shared data that another plugin has written.
const REJECTED_WARNING_PERIOD: Duration = Duration::from_secs(60);

/// This VM. It belongs to one thread. VMs share state in shared data only.
pub(crate) struct Vm {
    pub(crate) config: Config,
    pub(crate) names: Names,
    pub(crate) snapshot: RefCell<SnapshotView>,
    pub(crate) metrics: Metrics,
    pub(crate) audit: RefCell<AuditBuffer>,
    /// Room for the payloads of calls in flight.
    pub(crate) payload_room: Rc<PayloadRoom>,
    /// The number of calls that were decided. Each makes a record when it ends.
    pub(crate) begun: Cell<u64>,
    /// When an unparseable X-Forwarded-For was last logged.
    forwarded_warned: Cell<Option<MonotonicNanos>>,
    /// When rejected entries of shared data were last logged.
    rejected_warned: Cell<Option<MonotonicNanos>>,
    /// Both clocks at the last tick.
    pub(crate) clocks: Cell<Clocks>,
    /// A full batch is waiting, and the root context was asked to send it.
    pub(crate) flush_requested: Cell<bool>,
    /// Present from the first tick onwards.
    pub(crate) membership: RefCell<Option<Membership>>,
}

/// A call that has ended.
pub(crate) struct FinishedCall {
    pub(crate) record: AuditRecord,
    pub(crate) payload: Option<CallPayload>,
    /// Whether it was charged to the limits of its key.
    pub(crate) is_metered: bool,
    /// Its number, if it was reported as in progress.
    pub(crate) reported: Option<u64>,
}

impl Vm {
    /// A VM that is not a member yet. It joins at its first tick.
    pub(crate) fn new(config: Config) -> Self {
        let names = Names::new(&config.cluster, &config.authorization);
        let mut snapshot = SnapshotView::new(names.clone(), config.key_cache_bytes);
        snapshot.refresh();
        Self {
            audit: RefCell::new(AuditBuffer::new(&config)),
            // As much as the buffer has for payloads awaiting delivery.
            payload_room: PayloadRoom::new(config.audit_buffer_bytes / 2),
            config,
            snapshot: RefCell::new(snapshot),
            names,
            metrics: Metrics::define(),
            begun: Cell::new(0),
            forwarded_warned: Cell::new(None),
            rejected_warned: Cell::new(None),
            clocks: Cell::new(Clocks::read()),
            flush_requested: Cell::new(false),
            membership: RefCell::new(None),
        }
    }

    /// The wall clock at an instant of the monotonic clock, usually without a host call.
    pub(crate) fn wall_clock(&self, now: MonotonicNanos) -> UnixMillis {
        if self.clocks.get().is_stale(now) {
            self.clocks.set(Clocks::read());
        }
        self.clocks.get().wall_clock(now)
    }

    /// Counts a request whose `X-Forwarded-For` Envoy cannot parse, and logs the first in a minute.
    pub(crate) fn warn_of_forwarded_address(&self, source: Option<IpAddr>, now: MonotonicNanos) {
        self.metrics.add_forwarded_unparsed();
        if self.forwarded_warned.get().is_none_or(|last| now.since(last) >= FORWARDED_WARNING_PERIOD) {
            self.forwarded_warned.set(Some(now));
            let source = source.map_or_else(|| "unknown".to_owned(), |source| source.to_string());
            let message = format!(
                "X-Forwarded-For contains an address with a port or in brackets, which Envoy cannot parse, so {source} is \
                 used as the client's address; configure the proxy in front of Envoy to send plain addresses"
            );
            host::log(LogLevel::Warn, &message);
        }
    }

    /// Counts entries of shared data that another plugin has written, and logs the first in a minute.
    pub(crate) fn report_rejected_entries(&self, now: MonotonicNanos) {
        let Some(Rejected { number, name }) = shared_data::take_rejected() else { return };
        self.metrics.add_shared_data_rejected(number);
        if self.rejected_warned.get().is_none_or(|last| now.since(last) >= REJECTED_WARNING_PERIOD) {
            self.rejected_warned.set(Some(now));
            let message = format!(
                "{number} entries of shared data rejected, the last one is {name}: another plugin of this proxy writes entries of \
                 this filter; remove it, or give this filter its own vm_id"
            );
            host::log(LogLevel::Error, &message);
        }
    }

    /// The progress of this VM's records.
    pub(crate) fn progress(&self) -> CallProgress {
        CallProgress {
            begun: self.begun.get(),
            acknowledged: self.audit.borrow().acknowledged(),
            at: clock::now(),
        }
    }

    /// Adds the record of a call that has ended.
    pub(crate) fn record(&self, call: FinishedCall, now: MonotonicNanos) {
        let is_full = self.audit.borrow_mut().push(call, now, &self.metrics);
        // Only the root context can send a batch: a call made by a request is cancelled with the request.
        if is_full
            && !self.flush_requested.replace(true)
            && let Some(membership) = self.membership.borrow().as_ref()
        {
            membership.send_to_self(&Message::Flush);
        }
    }
}
