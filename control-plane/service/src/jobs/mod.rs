//! Background jobs: each runs until the process is asked to end.

pub mod detection;
pub mod gateway_loss;
pub mod maintenance;
pub mod repartition;
pub mod retention;
pub mod sightings;
