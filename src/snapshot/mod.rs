//! The snapshot: all credentials and the policy, in segments in shared data.
//!
//! | module | what |
//! |---|---|
//! | [`view`] | this VM's view: the policy, and look-ups by digest |
//! | [`segment_cache`] | its copies of segments |
//! | [`sync`] | the leader's work: polling, deltas, full images |

mod segment_cache;
pub(crate) mod sync;
pub(crate) mod view;
