//! The workers of one Envoy: each runs a VM of this filter, and they share state through Envoy's shared data and queues.
//!
//! | module | what |
//! |---|---|
//! | [`entry_key`] | authentication of the entries |
//! | [`shared_data`] | names and layouts of the entries, compare-and-swap |
//! | [`member_table`] | the table of VMs, as it is stored |
//! | [`membership`] | this VM's place in that table |
//! | [`lease`] | which VM is the leader |
//! | [`message`] | messages between VMs |

pub(crate) mod entry_key;
pub(crate) mod lease;
pub(crate) mod member_table;
pub(crate) mod membership;
pub(crate) mod message;
pub(crate) mod shared_data;
