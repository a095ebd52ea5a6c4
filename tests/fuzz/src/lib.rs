//! Helpers for several fuzz targets.

pub mod server;
