//! What is unusual in the use of keys, and what to do when a secret has leaked.

mod leak;
mod list;

#[cfg(test)]
mod tests;

use crate::routes::{PageRoutes, READ, WRITE};

pub(super) fn routes(routes: PageRoutes) -> PageRoutes {
    routes.page("/findings", READ, list::show).page("/findings/leak", WRITE, leak::show).form(
        "/findings/leak",
        WRITE,
        leak::report,
    )
}
