//! Behaviour that spans several endpoints and background jobs.

mod detection;
mod gateway_loss;
mod retention;
