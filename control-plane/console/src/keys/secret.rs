//! A new secret. It is shown only in the response to the form that created it.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::IntoResponse;
use omniflow_policy::policy::{MethodSelector, PolicyDocument};
use serde_json::json;

use crate::browser_session::BrowserSession;
use crate::enforcement_status::EnforcementStatus;
use crate::form::Form;
use crate::layout::Layout;
use crate::page::{Page, PageResult};
use crate::state::Console;
use omniflow_api_types::gateway::EnforcementJson;
use omniflow_domain::error::Error;
use omniflow_service::fields;
use omniflow_service::idempotency::Idempotent;
use omniflow_service::keys::Issued;

/// Placeholder for the URL of the gateways if it is not configured.
const UNKNOWN_GATEWAY: &str = "$GATEWAY";

/// The operation that created the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The key is new.
    Created,
    /// The key was rotated.
    Rotated,
}

#[derive(Template)]
#[template(path = "keys/secret.html")]
struct SecretPage {
    layout: Layout,
    /// ID or name of the key.
    key: String,
    name: String,
    is_new: bool,
    version: Option<u16>,
    /// `None` if it was already shown.
    secret: Option<String>,
    curl: Option<String>,
    has_gateway_url: bool,
    /// Which gateways accept it.
    enforcement: Option<EnforcementStatus>,
}

/// The page with the secret, or without it if the form was submitted again.
pub(super) fn page(
    app: &Console,
    browser: &BrowserSession,
    issued: Idempotent<Issued>,
    origin: Origin,
) -> PageResult {
    let Idempotent { value: Issued { key, secret, enforcement }, replayed } = issued;
    let key = key.key;
    if replayed {
        return page_without(browser, key.name.as_str(), origin);
    }
    let policy = app.policies.current()?.policy;
    let gateway = app.gateway_url.as_deref();
    let secret = secret.as_ref().map(|secret| secret.expose());
    let scopes: Vec<String> = key.scopes.iter().map(ToString::to_string).collect();
    let curl = secret.zip(example_path(policy.document(), &scopes));
    let page = SecretPage {
        layout: browser.layout(title(origin)),
        key: key.id.to_string(),
        is_new: origin == Origin::Created,
        version: key.versions.last().map(|version| version.version),
        curl: curl.map(|(secret, path)| {
            let gateway = gateway.unwrap_or(UNKNOWN_GATEWAY);
            format!("curl -i -H 'Authorization: Bearer {secret}' \"{gateway}\"'{path}'")
        }),
        name: key.name.to_string(),
        secret: secret.map(str::to_owned),
        has_gateway_url: gateway.is_some(),
        enforcement: enforcement.map(|enforcement| EnforcementJson::from(enforcement).into()),
    };
    Ok(Page(page).into_response())
}

/// The page for a form that was submitted again, whose secret was already shown.
pub(super) fn page_without(browser: &BrowserSession, key: &str, origin: Origin) -> PageResult {
    let page = SecretPage {
        layout: browser.layout(title(origin)),
        key: key.to_owned(),
        name: key.to_owned(),
        is_new: origin == Origin::Created,
        version: None,
        secret: None,
        curl: None,
        has_gateway_url: false,
        enforcement: None,
    };
    Ok(Page(page).into_response())
}

fn title(origin: Origin) -> &'static str {
    match origin {
        Origin::Created => "Key created",
        Origin::Rotated => "Key rotated",
    }
}

/// A path that a key with these scopes may read, preferably without variables.
fn example_path(policy: &PolicyDocument, scopes: &[String]) -> Option<String> {
    let reads = |method: &MethodSelector| match method {
        MethodSelector::Read | MethodSelector::Any => true,
        MethodSelector::Write => false,
        MethodSelector::Exact(name) => name == "GET",
    };
    let mut paths = policy
        .routes
        .iter()
        .filter(|route| scopes.iter().any(|scope| scope == route.scope.as_str()))
        .filter(|route| route.methods.iter().any(reads))
        .map(|route| route.path.as_str());
    let first = paths.clone().next()?;
    Some(paths.find(|path| !path.contains('{')).unwrap_or(first).replace("{*", "{"))
}

/// `POST /keys/secret-file`: the secret as a file in a format for secret managers. The page sends the secret; it is not stored
/// and not part of the URL.
pub(super) async fn file(State(app): State<Arc<Console>>, form: Form) -> PageResult {
    let secret = form.text("secret");
    if app.policies.key_prefix().check(secret.as_bytes()).is_err() {
        return Err(Error::invalid_field("/secret", "this is not a key of this installation").into());
    }
    let name = fields::name(form.text("name"))?;
    let label = slug(name.as_str());
    let (file, media_type, text) = match form.text("as") {
        "env" => {
            let variable = label.replace('-', "_").to_ascii_uppercase();
            (format!("{label}.env"), "text/plain; charset=utf-8", format!("{variable}_API_KEY={secret}\n"))
        }
        "kubernetes" => {
            let manifest = json!({
                "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
                "metadata": {"name": format!("{label}-api-key")}, "stringData": {"api-key": secret},
            });
            (format!("{label}.secret.json"), "application/json", format!("{manifest:#}\n"))
        }
        "json" => {
            let document = json!({"name": name.as_str(), "api_key": secret});
            (format!("{label}.json"), "application/json", format!("{document:#}\n"))
        }
        _ => return Err(Error::invalid_field("/as", "select env, json or kubernetes").into()),
    };
    let disposition =
        HeaderValue::try_from(format!("attachment; filename=\"{file}\"")).map_err(|_| Error::internal())?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (header::CONTENT_DISPOSITION, disposition),
    ];
    Ok((headers, text).into_response())
}

/// A name in lowercase letters, digits and single dashes, for file names and Kubernetes.
fn slug(name: &str) -> String {
    let mut slug = String::new();
    for letter in name.chars() {
        if letter.is_ascii_alphanumeric() {
            slug.push(letter.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    let starts = slug.starts_with(|letter: char| letter.is_ascii_alphabetic());
    if starts { slug.to_owned() } else { format!("key-{slug}").trim_end_matches('-').to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_file_names() {
        for (name, expected) in [
            ("CI deploy", "ci-deploy"),
            ("crm.sync_2", "crm-sync-2"),
            ("7th", "key-7th"),
            ("-a-", "a"),
            ("…", "key"),
        ] {
            assert_eq!(slug(name), expected);
        }
    }

    #[test]
    fn the_example_path_is_readable_with_the_key() {
        let policy = PolicyDocument::default();
        let try_with = |scope: &str| example_path(&policy, &[scope.to_owned()]);
        assert_eq!(try_with("contacts:read").as_deref(), Some("/api/v1/contacts"));
        assert_eq!(try_with("contacts:write"), None);
        assert_eq!(example_path(&policy, &[]), None);
    }
}
