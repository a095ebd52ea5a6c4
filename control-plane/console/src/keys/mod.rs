//! API keys: list, creation, details, changes, rotation and revocation.

mod detail;
mod enforcement;
mod fields;
mod list;
mod new;
mod revoke;
mod rotate;
mod secret;
mod usage;

#[cfg(test)]
mod tests;

use axum::response::{IntoResponse, Redirect, Response};

use super::form::Form;
use crate::routes::{PageRoutes, READ, WRITE};
use omniflow_domain::error::Error;
use omniflow_domain::key::KeyVersion;

pub(super) fn routes(routes: PageRoutes) -> PageRoutes {
    routes
        .query("/keys", READ, list::show)
        .form("/keys", WRITE, new::create)
        .page("/keys/new", WRITE, new::show)
        .form("/keys/new", WRITE, new::review)
        .form("/keys/check", WRITE, new::check)
        .form("/keys/secret-file", WRITE, secret::file)
        .page("/keys/{id}", READ, detail::show)
        .form("/keys/{id}", WRITE, detail::save)
        .page("/keys/{id}/rotate", WRITE, rotate::show)
        .form("/keys/{id}/rotate", WRITE, rotate::rotate)
        .page("/keys/{id}/revoke", WRITE, revoke::show)
        .form("/keys/{id}/revoke", WRITE, revoke::revoke)
        .page("/keys/{id}/versions/{version}/revoke", WRITE, revoke::show_version)
        .form("/keys/{id}/versions/{version}/revoke", WRITE, revoke::revoke_version)
        .page("/keys/{id}/enforcement/{version}", READ, enforcement::show)
        .live("/keys/{id}/enforcement/{version}/live", READ, enforcement::live)
}

/// The recognizable part of a secret: its hint, after the prefix if this installation created the secret.
fn version_hint(version: &KeyVersion, prefix: &str, environment: &str) -> String {
    if version.imported {
        format!("…{}", version.hint)
    } else {
        format!("{prefix}_{environment}_…{}", version.hint)
    }
}

/// The revision of the key when the form was loaded.
fn revision(form: &Form) -> Result<u64, Error> {
    form.number("revision", "/revision")?
        .ok_or_else(|| Error::invalid_field("/revision", "reload the page and submit the form again"))
}

/// Redirects after a form that changed something, so that a reload does not submit the form again.
fn see_other(path: &str) -> Response {
    Redirect::to(path).into_response()
}
