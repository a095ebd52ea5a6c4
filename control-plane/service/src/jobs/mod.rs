//! Background jobs: each runs until the process is asked to end.

pub mod checkpoints;
pub mod detection;
pub mod gateway_loss;
pub mod retention;
