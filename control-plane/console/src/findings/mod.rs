//! What is unusual in the use of keys, and what to do when a secret has leaked.

mod leak;
mod list;

#[cfg(test)]
mod tests;

use super::Section;
use crate::routes::{PageRoutes, READ, WRITE};

pub(super) const SECTION: Section =
    Section { path: "/findings", label: "Findings", group: "Activity", access: READ, routes };

fn routes(routes: PageRoutes) -> PageRoutes {
    routes.page("/findings", READ, list::show).page("/findings/leak", WRITE, leak::show).form(
        "/findings/leak",
        WRITE,
        leak::report,
    )
}
