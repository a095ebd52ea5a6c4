//! The policy: routes and scopes, document, explanation, drafts and versions.

mod difference;
mod draft;
mod explain;
mod overview;
mod versions;

#[cfg(test)]
mod tests;

use crate::routes::{PageRoutes, READ, WRITE};

pub(super) fn routes(routes: PageRoutes) -> PageRoutes {
    routes
        .page("/policy", READ, overview::show)
        .page("/policy/document", READ, overview::document)
        .page("/policy/explain", READ, explain::show)
        .page("/policy/draft", READ, draft::show)
        .query_form("/policy/draft", READ, draft::compare)
        .form("/policy/publish", WRITE, draft::publish)
        .page("/policy/versions", READ, versions::list)
        .page("/policy/versions/{version}", READ, versions::show)
        .form("/policy/versions/{version}/roll-back", WRITE, versions::roll_back)
}
