//! What the control plane keeps: keys with their versions, and tokens with their roles.

pub mod audit;
pub mod key;
pub mod token;
