//! API keys: listed, made, shown, changed, rotated and revoked.

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
        .form("/keys", WRITE, new::make)
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

/// How a person tells a secret from others: what it begins with, where this installation made it, and its hint.
fn version_hint(version: &KeyVersion, prefix: &str, environment: &str) -> String {
    if version.imported {
        format!("…{}", version.hint)
    } else {
        format!("{prefix}_{environment}_…{}", version.hint)
    }
}

/// The revision that the form's reader saw.
fn revision(form: &Form) -> Result<u64, Error> {
    form.number("revision", "/revision")?
        .ok_or_else(|| Error::invalid_field("/revision", "load the page anew, and send the form again"))
}

/// Leads on after a form that changed something, so that loading the next page anew sends nothing again.
fn see_other(path: &str) -> Response {
    Redirect::to(path).into_response()
}
