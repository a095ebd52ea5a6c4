//! Sign-in with a token, and sign-out.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{Extensions, HeaderValue, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::browser_session::BrowserSession;
use super::extract::{Authenticated, StrictQuery};
use super::form::Form;
use super::page::{Page, PageResult, error_status};
use super::routes::{Access, PageRoutes, READ};
use super::session_cookie;
use super::sign_in_page::{PATH, SignInPage, confirm_resubmit, local_path};
use super::wording;
use omniflow_api_types::request_error::retry_after;
use omniflow_net::connection_table::Connection;
use omniflow_service::sessions::{Sessions, SignIn, SignInRejection};

/// Field that carries a form to be resubmitted after sign-in.
const CARRIED: &str = "carried";

pub(super) fn routes(routes: PageRoutes) -> PageRoutes {
    routes
        .page(PATH, Access::Public, show)
        .form(PATH, Access::Public, sign_in)
        .form("/sign-out", READ, sign_out)
        .form("/sign-out/everywhere", READ, sign_out_everywhere)
}

/// The target after sign-in, and the reason for asking.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    #[serde(default)]
    to: String,
    #[serde(default)]
    why: String,
}

async fn show(browser: BrowserSession, StrictQuery(query): StrictQuery<Query>) -> PageResult {
    if browser.principal().is_some() {
        return Ok(Redirect::to(local_path(&query.to)).into_response());
    }
    let note = match query.why.as_str() {
        "ended" => Some("Your session has ended. Sign in again to continue."),
        "out" => Some("You are signed out."),
        _ => None,
    };
    let to = local_path(&query.to).to_owned();
    let page = SignInPage { layout: browser.layout("Sign in"), to, carried: None, note, error: None };
    Ok(Page(page).into_response())
}

async fn sign_in(
    State(sessions): State<Arc<Sessions>>,
    extensions: Extensions,
    browser: BrowserSession,
    form: Form,
) -> PageResult {
    let to = local_path(form.text("to"));
    let carried = form.has(CARRIED).then(|| form.text(CARRIED));
    let request = SignIn { token: form.text("token"), replaces: browser.session(), peer: browser.peer() };
    let started = match sessions.sign_in(request).await? {
        Ok(started) => started,
        Err(rejection) => return Ok(rejection_page(&browser, to, carried, &rejection)),
    };
    Connection::trust(&extensions);
    let csrf = session_cookie::form_token(&started.identifier);
    let next = match carried.and_then(|carried| Form::parse(carried.as_bytes())) {
        Some(carried) => confirm_resubmit(&browser, to, &carried, &csrf),
        None => Redirect::to(to).into_response(),
    };
    let cookie = session_cookie::keep(&started.identifier, browser.is_secure())?;
    Ok(([(header::SET_COOKIE, cookie)], next).into_response())
}

/// The sign-in page with the reason for the rejection of the last token.
fn rejection_page(
    browser: &BrowserSession,
    to: &str,
    carried: Option<&str>,
    rejection: &SignInRejection,
) -> Response {
    let page = SignInPage {
        layout: browser.layout("Sign in"),
        to: to.to_owned(),
        carried: carried.map(str::to_owned),
        note: None,
        error: Some(explanation(rejection)),
    };
    let SignInRejection::TooManyAttempts(error) = rejection else {
        return (StatusCode::UNPROCESSABLE_ENTITY, Page(page)).into_response();
    };
    let mut response = (error_status(error.code()), Page(page)).into_response();
    if let Some(seconds) = retry_after(error) {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn explanation(rejection: &SignInRejection) -> String {
    let text = match rejection {
        SignInRejection::NoToken => "Enter a token.",
        SignInRejection::UnknownToken => {
            "This token does not exist or was revoked. Check that you pasted the whole token."
        }
        SignInRejection::ExpiredToken => "This token has expired. An owner can create another under Tokens.",
        SignInRejection::GatewayToken => {
            "This is a gateway token. It fetches snapshots and delivers audit records, and cannot sign in. Use a token \
             with the role owner, admin or auditor."
        }
        SignInRejection::RevokedMeanwhile => "This token was just revoked.",
        SignInRejection::TooManyAttempts(error) => return wording::text(error),
    };
    text.to_owned()
}

async fn sign_out(State(sessions): State<Arc<Sessions>>, browser: BrowserSession) -> PageResult {
    if let Some(session) = browser.session() {
        sessions.end(session).await?;
    }
    signed_out(&browser)
}

async fn sign_out_everywhere(
    State(sessions): State<Arc<Sessions>>,
    browser: BrowserSession,
    Authenticated(principal): Authenticated,
) -> PageResult {
    sessions.end_all(&principal).await?;
    signed_out(&browser)
}

fn signed_out(browser: &BrowserSession) -> PageResult {
    let cookies =
        session_cookie::forget(browser.is_secure())?.into_iter().map(|cookie| (header::SET_COOKIE, cookie));
    let cookies: Vec<(_, HeaderValue)> = cookies.collect();
    let response: Response = Redirect::to("/sign-in?why=out").into_response();
    Ok((AppendHeaders(cookies), response).into_response())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::body::Body;
    use axum::extract::ConnectInfo;
    use axum::http::{Request, StatusCode, header};

    use omniflow_test_server::TestServer;

    #[tokio::test]
    async fn sign_in_is_throttled_but_a_valid_token_is_accepted() {
        let server = TestServer::new().await;
        let sign_in = async |token: &str| {
            let mut request = Request::post("/sign-in")
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .header("sec-fetch-site", "same-origin")
                .body(Body::from(format!("token={token}")))
                .unwrap();
            request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([192, 0, 2, 7], 4711))));
            server.call(request).await
        };
        assert_eq!(sign_in("omf_token_wrong").await.status, StatusCode::UNPROCESSABLE_ENTITY);
        let mut last = sign_in("omf_token_wrong").await;
        for _ in 0..100 {
            last = sign_in("omf_token_wrong").await;
        }
        assert_eq!(last.status, StatusCode::TOO_MANY_REQUESTS);
        assert!(last.headers.contains_key(header::RETRY_AFTER));
        let text = String::from_utf8_lossy(&last.body).into_owned();
        assert!(text.contains("it is accepted immediately"), "{text}");
        assert_eq!(sign_in(&server.owner).await.status, StatusCode::SEE_OTHER);
    }
}
