//! The gateways: a list with the snapshot version that each enforces, and the removal of those that have ended.

mod list;
mod remove;

use crate::routes::{PageRoutes, READ, WRITE};

pub(super) fn routes(routes: PageRoutes) -> PageRoutes {
    let routes = routes.page("/gateways", READ, list::show);
    routes.page("/gateways/remove", WRITE, remove::show).form("/gateways/remove", WRITE, remove::submit)
}
