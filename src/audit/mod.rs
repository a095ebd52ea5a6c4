//! Audit records: from the end of a request to the control plane.
//!
//! | module | what |
//! |---|---|
//! | [`buffer`] | the records of one VM until they are acknowledged |
//! | [`delivery`] | batches in flight, and their retries |
//! | [`undelivered`] | unacknowledged records in handover form |
//! | [`handover`] | records of a VM that shuts down in an orderly way, delivered by the leader |
//! | [`crash_report`] | the leader's reports of VMs that crashed with records |
//! | [`quiescence`] | the leader's reports of whether all records are delivered |

pub(crate) mod buffer;
pub(crate) mod crash_report;
mod delivery;
pub(crate) mod handover;
pub(crate) mod quiescence;
pub(crate) mod undelivered;
