//! Background jobs: each runs until the process is asked to end.

pub(crate) mod checkpoints;
pub(crate) mod detection;
pub(crate) mod gateway_loss;
pub(crate) mod retention;
