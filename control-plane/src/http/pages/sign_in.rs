//! Signing in with a token, and out.

use crate::http::problem::status as problem_status;
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::{Extensions, HeaderValue, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Redirect, Response};
use omniflow_policy::digest::Digest;
use serde::Deserialize;

use super::form::{Form, sentence};
use super::frame::Frame;
use super::refusal::{Page, PageResult};
use super::session::{self, Begun};
use super::visitor::Visitor;
use crate::http::access::{Access, Authenticated, Endpoints, READ, valid_token};
use crate::http::extract::StrictQuery;
use crate::http::refusals::Reason;
use crate::service::app::App;
use omniflow_domain::error::{Error, ErrorCode};
use omniflow_domain::token::Token;
use omniflow_net::admission::Connection;

/// Where pages send who is not signed in.
const PATH: &str = "/sign-in";
/// The field in which a form comes along that is to be sent again.
const CARRIED: &str = "carried";

pub(super) fn endpoints(endpoints: Endpoints) -> Endpoints {
    endpoints
        .page(PATH, Access::Public, show)
        .form(PATH, Access::Public, sign_in)
        .form("/sign-out", READ, sign_out)
        .form("/sign-out/everywhere", READ, sign_out_everywhere)
}

/// Where to go then, and why the reader is here.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    #[serde(default)]
    to: String,
    #[serde(default)]
    why: String,
}

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage {
    frame: Frame,
    to: String,
    /// A form that came after the session had ended, to be sent again then. It may have no fields.
    carried: Option<String>,
    note: Option<&'static str>,
    error: Option<String>,
}

/// Why a token does not sign in.
struct NotAdmitted {
    text: String,
    status: StatusCode,
    /// Seconds until another may be tried.
    retry_after: Option<u64>,
}

#[derive(Template)]
#[template(path = "send_again.html")]
struct SendAgainPage<'a> {
    frame: Frame,
    path: &'a str,
    csrf: &'a str,
    fields: Vec<(&'a str, &'a str)>,
}

/// The path that asks for a token and leads on to `target`.
pub(super) fn path_to(target: &str, had_session: bool) -> String {
    let why = if had_session { Some(("why", "ended")) } else { None };
    let to = Some(("to", target)).filter(|(_, target)| *target != "/");
    let query =
        serde_urlencoded::to_string(to.into_iter().chain(why).collect::<Vec<_>>()).unwrap_or_default();
    if query.is_empty() { PATH.to_owned() } else { format!("{PATH}?{query}") }
}

/// The path, if it is one of this server; its front page otherwise. Browsers take `//host` and `/\host` for other
/// servers, and pass over control characters.
pub(super) fn local_path(text: &str) -> &str {
    let is_local = text.starts_with('/')
        && !text.starts_with("//")
        && !text.starts_with(PATH)
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_local { text } else { "/" }
}

/// Asks for a token before a form, which came after its session had ended, is sent again: nothing typed is lost.
pub(super) fn ask_before(visitor: &Visitor, form: &Form) -> Response {
    let page = SignInPage {
        frame: visitor.frame("Sign in"),
        to: visitor.path().to_owned(),
        carried: Some(form.encoded()),
        note: Some("Your session has ended. Sign in again, and what you typed is still there."),
        error: None,
    };
    (StatusCode::UNAUTHORIZED, Page(page)).into_response()
}

/// Asks whether to send a form again, with the token of the session that there is now.
pub(super) fn ask_to_send_again(visitor: &Visitor, path: &str, form: &Form, csrf: &str) -> Response {
    let fields = form.returnable();
    Page(SendAgainPage { frame: visitor.frame("Send it again?"), path, csrf, fields }).into_response()
}

async fn show(visitor: Visitor, StrictQuery(query): StrictQuery<Query>) -> PageResult {
    if visitor.principal().is_some() {
        return Ok(Redirect::to(local_path(&query.to)).into_response());
    }
    let note = match query.why.as_str() {
        "ended" => Some("Your session has ended. Sign in again to go on where you were."),
        "out" => Some("You are signed out."),
        _ => None,
    };
    let to = local_path(&query.to).to_owned();
    let page = SignInPage { frame: visitor.frame("Sign in"), to, carried: None, note, error: None };
    Ok(Page(page).into_response())
}

async fn sign_in(
    State(app): State<Arc<App>>,
    extensions: Extensions,
    visitor: Visitor,
    form: Form,
) -> PageResult {
    let to = local_path(form.text("to"));
    let carried = form.names(CARRIED).then(|| form.text(CARRIED));
    let refuse = |why: NotAdmitted| {
        let page = SignInPage {
            frame: visitor.frame("Sign in"),
            to: to.to_owned(),
            carried: carried.map(str::to_owned),
            note: None,
            error: Some(why.text),
        };
        let mut answer = (why.status, Page(page)).into_response();
        if let Some(seconds) = why.retry_after {
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        Ok(answer)
    };
    let token = match admitted(&app, &extensions, form.text("token")).await? {
        Ok(token) => token,
        Err(why) => return refuse(why),
    };
    Connection::trust(&extensions);
    let Some(Begun { cookie, csrf }) = session::begin(&app, &visitor, &token).await? else {
        return refuse("This token was revoked just now.".into());
    };
    let next = match carried.and_then(|carried| Form::parse(carried.as_bytes())) {
        Some(carried) => ask_to_send_again(&visitor, to, &carried, &csrf),
        None => Redirect::to(to).into_response(),
    };
    Ok(([(header::SET_COOKIE, cookie)], next).into_response())
}

/// The token, if it is one that signs in; otherwise why not. Only who has a token learns that it has expired, or that it
/// is a gateway's. Who tries many that are none is told so for a while, and can sign in with a right one all the same.
async fn admitted(
    app: &App,
    extensions: &Extensions,
    text: &str,
) -> Result<Result<Token, NotAdmitted>, Error> {
    if text.is_empty() {
        return Ok(Err("Paste a token of the control plane.".into()));
    }
    let token = match valid_token(app, Digest::of(text.as_bytes()), app.now()).await? {
        Ok(token) => token,
        Err(reason) => {
            let problem = app.throttle.refuse(reason, extensions, false);
            if problem.code() == ErrorCode::TooManyAttempts {
                return Ok(Err(NotAdmitted::from(&problem)));
            }
            let text = match reason {
                Reason::ExpiredToken => "This token has expired. An owner can make another under Tokens.",
                _ => {
                    "This is no token of this control plane, or it was revoked. Check that you pasted all of it."
                }
            };
            return Ok(Err(text.into()));
        }
    };
    Ok(match token {
        token if !session::is_for_people(token.role) => Err(
            "This token is a gateway's: it takes snapshots and delivers records, and cannot sign in. Use one with the \
             role owner, admin or auditor."
                .into(),
        ),
        token => Ok(token),
    })
}

async fn sign_out(State(app): State<Arc<App>>, visitor: Visitor) -> PageResult {
    if let Some(session) = visitor.session() {
        let mut writer = app.storage.main.writer().await;
        let mut transaction = writer.begin().await?;
        transaction.delete_session(session.digest).await?;
        transaction.commit().await?;
    }
    signed_out(&visitor)
}

async fn sign_out_everywhere(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    Authenticated(principal): Authenticated,
) -> PageResult {
    let mut writer = app.storage.main.writer().await;
    let mut transaction = writer.begin().await?;
    let sessions = transaction.delete_sessions_of(principal.id).await?;
    transaction.commit().await?;
    tracing::info!(token = %principal.id, name = principal.name.as_str(), sessions, "all sessions of a token were ended");
    signed_out(&visitor)
}

fn signed_out(visitor: &Visitor) -> PageResult {
    let cookies = session::forget(visitor)?.into_iter().map(|cookie| (header::SET_COOKIE, cookie));
    let cookies: Vec<(_, HeaderValue)> = cookies.collect();
    let answer: Response = Redirect::to("/sign-in?why=out").into_response();
    Ok((AppendHeaders(cookies), answer).into_response())
}

// === impl NotAdmitted ===

impl From<&str> for NotAdmitted {
    fn from(text: &str) -> Self {
        Self { text: text.to_owned(), status: StatusCode::UNPROCESSABLE_ENTITY, retry_after: None }
    }
}

impl From<&Error> for NotAdmitted {
    fn from(problem: &Error) -> Self {
        Self {
            text: sentence(problem.detail()),
            status: problem_status(problem.code()),
            retry_after: problem.retry_after(),
        }
    }
}
