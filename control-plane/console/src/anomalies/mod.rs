//! Anomalies in the use of keys, and what to do when a secret has leaked.

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
