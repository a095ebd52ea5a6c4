//! Anomalies in the usage of keys, and the report of a leaked key.

mod leak;
mod list;

#[cfg(test)]
mod tests;

use crate::routes::{PageRoutes, READ, WRITE};

pub(super) fn routes(routes: PageRoutes) -> PageRoutes {
    routes.query("/anomalies", READ, list::show).page("/anomalies/leak", WRITE, leak::show).form(
        "/anomalies/leak",
        WRITE,
        leak::report,
    )
}
