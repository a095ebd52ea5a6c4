//! Tests of `deploy/`: the chart as rendered, its schemas and messages, alerts and dashboards, the systemd unit, the Debian
//! package, the OCI images, and the data plane in a real Envoy.

mod alerts;
mod chart;
mod dashboards;
mod data_plane;
mod images;
mod package;
mod rendering;
mod systemd;
mod tokens;
