//! `Idempotency-Key`: a create whose answer was lost can be sent again, and makes nothing twice.
//!
//! That it was done is stored for a day. The answer itself holds a secret, which is never stored: it is kept in memory
//! for some minutes, as long as clients and proxies repeat a call by themselves. After that a repetition is refused,
//! and told what there is.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use omniflow_policy::digest::Digest;
use omniflow_policy::time::UnixMillis;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::extract::{Body, FromBody};
use super::precondition::entity_tag;
use super::problem::Problem;
use crate::service::app::App;
use crate::storage::{Attempt, Transaction};
use omniflow_domain::error::{Error, ErrorCode};
use omniflow_domain::principal::Principal;

const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer is the one of an earlier call.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// The most bytes of the header, as with others that have it.
const MAX_LENGTH: usize = 255;
/// How long a create is known, in milliseconds: a day.
const KNOWN_MS: u64 = 24 * 3_600_000;
/// How long its answer is kept in memory, in milliseconds: longer than any automatic repetition takes.
const KEPT_MS: u64 = 10 * 60_000;
/// The most answers that are kept, and the most bytes of them. Most have a kilobyte; the oldest goes first.
const MAX_KEPT: usize = 1_024;
const MAX_KEPT_BYTES: usize = 16 * 1024 * 1024;
/// What an answer has, most times.
const USUAL_BYTES: usize = 4 * 1024;

/// The body of a create, and how its principal names this attempt.
pub(super) struct Once<B> {
    /// The body.
    pub(super) body: B,
    /// The attempt; `None` if the principal names none.
    pub(super) attempt: Option<Attempt>,
}

/// The answer to a create, or to a call that makes something on the side. It holds a secret: no Debug.
#[derive(Clone)]
pub(crate) struct Created {
    /// Where it is; `None` where the call was made for something else, and what it made stands in the body.
    location: Option<String>,
    revision: Option<u64>,
    body: Zeroizing<String>,
    /// Whether this is the answer to an earlier call.
    is_replayed: bool,
}

/// The answers of the last minutes, which are nowhere else.
#[derive(Default)]
pub(crate) struct Answers(Mutex<HashMap<Attempt, (UnixMillis, Created)>>);

impl<S, B> FromRequest<S> for Once<B>
where
    S: Send + Sync,
    B: FromBody,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        let principal = request.extensions().get::<Principal>().cloned().ok_or_else(Error::internal)?;
        let key = key(request.headers())?;
        let headers = request.headers().clone();
        let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
        // Not the authority, which stands in the target over HTTP/2 only.
        let call = format!("{} {path}\n", request.method());
        let Body(bytes) = Body::from_request(request, state).await?;
        let attempt = key.map(|key| Attempt {
            token: principal.id,
            key,
            request: Digest::of(&[call.as_bytes(), &bytes].concat()),
        });
        Ok(Self { body: B::from_body(&headers, &bytes)?, attempt })
    }
}

fn key(headers: &HeaderMap) -> Result<Option<Digest>, Error> {
    let mut values = headers.get_all(HEADER).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return if headers.contains_key(HEADER) { Err(refused_header()) } else { Ok(None) };
    };
    let fits = (1..=MAX_LENGTH).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic);
    if fits { Ok(Some(Digest::of(value.as_bytes()))) } else { Err(refused_header()) }
}

fn refused_header() -> Error {
    Error::invalid_header(
        "Idempotency-Key",
        format!("Idempotency-Key is 1 to {MAX_LENGTH} printable ASCII characters without spaces, sent once"),
    )
}

/// The answer of an earlier attempt under the same key, where there is one. The principal holds the writer, so that two
/// attempts at once come one after the other.
pub(super) async fn repeated(
    app: &App,
    transaction: &mut Transaction<'_>,
    attempt: Option<&Attempt>,
    now: UnixMillis,
) -> Result<Option<Created>, Error> {
    let Some(attempt) = attempt else { return Ok(None) };
    let Some(done) = transaction.done_attempt(attempt, known_since(now)).await? else { return Ok(None) };
    if done.request != attempt.request {
        return Err(Error::new(
            ErrorCode::IdempotencyKeyReused,
            "Another call was made with this Idempotency-Key. Send a new one with each new call.",
        ));
    }
    let kept = app.answers.get(attempt, now).ok_or_else(|| {
        Error::new(ErrorCode::AlreadyCreated,
            format!(
                "A call with this Idempotency-Key has made {} already. Its answer is no longer kept, and its secret \
                 nowhere: if you never got it, rotate the key or make another token.",
                done.location
            ),
        )
    })?;
    Ok(Some(Created { is_replayed: true, ..kept }))
}

/// Notes, in the transaction that makes it, that an attempt makes what is at `location`.
pub(super) async fn note(
    transaction: &mut Transaction<'_>,
    attempt: Option<&Attempt>,
    location: &str,
    now: UnixMillis,
) -> Result<(), Error> {
    match attempt {
        Some(attempt) => Ok(transaction.insert_attempt(attempt, location, now, known_since(now)).await?),
        None => Ok(()),
    }
}

fn known_since(now: UnixMillis) -> UnixMillis {
    UnixMillis(now.0.saturating_sub(KNOWN_MS))
}

fn serialised(body: &impl Serialize) -> Result<Zeroizing<String>, Error> {
    let failed = |error: &dyn fmt::Display| {
        tracing::error!(%error, "what was made cannot be told");
        Error::internal()
    };
    // As large as most become: a buffer that grows leaves copies of a secret behind.
    let mut text = Zeroizing::new(Vec::with_capacity(USUAL_BYTES));
    serde_json::to_writer(&mut *text, body).map_err(|error| failed(&error))?;
    let text = String::from_utf8(std::mem::take(&mut *text)).map_err(|error| failed(&error.utf8_error()))?;
    Ok(Zeroizing::new(text))
}

// === impl Created ===

impl Created {
    /// What was made, at `location`, with the number of its state where it has one.
    pub(super) fn new(location: String, revision: Option<u64>, body: &impl Serialize) -> Result<Self, Error> {
        Ok(Self { location: Some(location), revision, body: serialised(body)?, is_replayed: false })
    }

    /// What was done, and on the side made.
    pub(super) fn on_the_side(body: &impl Serialize) -> Result<Self, Error> {
        Ok(Self { location: None, revision: None, body: serialised(body)?, is_replayed: false })
    }

    /// The answer, marked as the one to an earlier call if `is_replayed`.
    pub(super) fn replayed_if(self, is_replayed: bool) -> Self {
        Self { is_replayed, ..self }
    }

    /// The answer, kept for whoever repeats the attempt.
    pub(super) fn kept(self, app: &App, attempt: Option<Attempt>, now: UnixMillis) -> Self {
        if let Some(attempt) = attempt {
            app.answers.keep(attempt, self.clone(), now);
        }
        self
    }

    /// Whether this is the answer to an earlier call, and nothing was made by this one.
    pub(super) fn is_replayed(&self) -> bool {
        self.is_replayed
    }

    /// The answer as its principal reads it.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_str(&self.body).map_err(|error| {
            tracing::error!(%error, "what was made cannot be read");
            Error::internal()
        })
    }
}

impl IntoResponse for Created {
    fn into_response(self) -> Response {
        // Wiped once it is sent.
        let body = Bytes::from_owner(self.body);
        let mut answer = ([(header::CONTENT_TYPE, "application/json")], body).into_response();
        let headers = answer.headers_mut();
        if self.is_replayed {
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
        }
        let Some(location) = &self.location else { return answer };
        let Ok(location) = HeaderValue::try_from(location) else {
            return Problem::from(Error::internal()).into_response();
        };
        headers.insert(header::LOCATION, location);
        if let Some(tag) = self.revision.and_then(|revision| HeaderValue::try_from(entity_tag(revision)).ok())
        {
            headers.insert(header::ETAG, tag);
        }
        *answer.status_mut() = StatusCode::CREATED;
        answer
    }
}

// === impl Answers ===

impl Answers {
    fn get(&self, attempt: &Attempt, now: UnixMillis) -> Option<Created> {
        let mut kept = self.lock();
        forget_old(&mut kept, now);
        kept.get(attempt).map(|(_, created)| created.clone())
    }

    fn keep(&self, attempt: Attempt, created: Created, now: UnixMillis) {
        let mut kept = self.lock();
        forget_old(&mut kept, now);
        let bytes = |kept: &HashMap<_, (_, Created)>| -> usize {
            kept.values().map(|(_, kept)| kept.body.len()).sum()
        };
        while kept.len() >= MAX_KEPT || bytes(&kept) + created.body.len() > MAX_KEPT_BYTES {
            let oldest = kept.iter().min_by_key(|(_, (at, _))| at.0).map(|(attempt, _)| *attempt);
            // One that is too long by itself is kept all the same: it is the one that may be asked for.
            let Some(oldest) = oldest else { break };
            kept.remove(&oldest);
        }
        kept.insert(attempt, (now, created));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Attempt, (UnixMillis, Created)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The distance either way: a clock that is set back must not keep secrets for longer.
fn forget_old(kept: &mut HashMap<Attempt, (UnixMillis, Created)>, now: UnixMillis) {
    kept.retain(|_, (at, _)| now.0.abs_diff(at.0) < KEPT_MS);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::http::{Method, Request};
    use serde_json::{Value, json};

    use super::*;
    use crate::http::testing::{Answer, Plane, request};

    async fn create(plane: &Plane, path: &str, key: &str, body: Value) -> Answer {
        create_as(plane, &plane.owner, path, key, body).await
    }

    async fn create_as(plane: &Plane, token: &str, path: &str, key: &str, body: Value) -> Answer {
        let mut request = request(Method::POST, path, token, Some(body));
        request.headers_mut().insert(HEADER, key.parse().unwrap());
        plane.call(request).await
    }

    fn ci(name: &str) -> Value {
        json!({"name": name, "environment": "live", "scopes": ["contacts:read"]})
    }

    #[tokio::test]
    async fn a_repeated_create_answers_alike_and_makes_nothing() {
        let plane = Plane::new().await;
        plane.key("rotated").await;
        for (path, body, next) in [
            ("/v1/keys", ci("one"), ci("another")),
            ("/v1/keys/rotated/rotate", json!({}), json!({"overlap": "1h"})),
            (
                "/v1/tokens",
                json!({"name": "edge", "role": "gateway"}),
                json!({"name": "next", "role": "gateway"}),
            ),
        ] {
            let first = create(&plane, path, "0190-abc", body.clone()).await;
            assert!(first.headers.get(&REPLAYED).is_none());
            let version = plane.app.publisher.publication.version().unwrap();
            plane.pass(Duration::from_secs(599));
            let second = create(&plane, path, "0190-abc", body.clone()).await;
            assert_eq!(second.headers[&REPLAYED], "true", "{path}");
            for header in [header::LOCATION, header::CONTENT_TYPE] {
                assert_eq!(first.headers[&header], second.headers[&header], "{path}");
            }
            assert_eq!(first.headers.get(header::ETAG), second.headers.get(header::ETAG));
            assert_eq!(first.expect(StatusCode::CREATED), second.expect(StatusCode::CREATED), "{path}");
            assert_eq!(plane.app.publisher.publication.version().unwrap(), version, "{path}");

            plane.pass(Duration::from_secs(2));
            let late = create(&plane, path, "0190-abc", body.clone()).await;
            assert_eq!(late.problem(), (409, "already_created".to_owned(), String::new()), "{path}");
            plane.pass(Duration::from_secs(24 * 3_600));
            let other = create(&plane, path, "0190-abc", next).await;
            assert_eq!(other.status, StatusCode::CREATED, "{path}: forgotten after a day: {other:?}");
            plane.pass(Duration::from_secs(24 * 3_600 + 1));
        }
    }

    #[tokio::test]
    async fn a_restart_keeps_what_was_done_and_not_its_secret() {
        let plane = Plane::new().await;
        create(&plane, "/v1/keys", "a", ci("one")).await.expect(StatusCode::CREATED);
        let plane = plane.restart().await;
        let again = create(&plane, "/v1/keys", "a", ci("one")).await;
        assert_eq!(again.problem().1, "already_created");
        assert!(again.json()["detail"].as_str().unwrap().contains("/v1/keys/"), "{again:?}");
        let list = plane.get("/v1/keys").await.expect(StatusCode::OK);
        assert_eq!(list["items"].as_array().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_key_stands_for_one_call_of_one_caller() {
        let plane = Plane::new().await;
        create(&plane, "/v1/keys", "a", ci("one")).await.expect(StatusCode::CREATED);
        let reused = create(&plane, "/v1/keys", "a", ci("two")).await;
        assert_eq!(reused.problem(), (422, "idempotency_key_reused".to_owned(), String::new()));
        let admin = plane.token("admin").await;
        create_as(&plane, &admin, "/v1/keys", "a", ci("three")).await.expect(StatusCode::CREATED);
        assert_eq!(create(&plane, "/v1/keys", "b", ci("one")).await.problem().1, "name_taken");
        let refused = create(&plane, "/v1/keys", "c", ci("a/b")).await;
        assert_eq!(refused.problem().1, "invalid_field");
        create(&plane, "/v1/keys", "c", ci("four")).await.expect(StatusCode::CREATED);
    }

    #[tokio::test]
    async fn the_form_of_the_target_makes_no_difference() {
        let plane = Plane::new().await;
        let first = create(&plane, "/v1/keys", "a", ci("one")).await.expect(StatusCode::CREATED);
        // As HTTP/2 has it.
        let again = create(&plane, "https://keys.example/v1/keys", "a", ci("one")).await;
        assert_eq!(again.expect(StatusCode::CREATED), first);
    }

    #[tokio::test]
    async fn many_at_once_make_one_key() {
        let plane = Plane::new().await;
        let create = || create(&plane, "/v1/keys", "a", ci("one"));
        let answers = tokio::join!(create(), create(), create(), create());
        let secrets = [answers.0, answers.1, answers.2, answers.3]
            .map(|answer| answer.expect(StatusCode::CREATED)["secret"].as_str().unwrap().to_owned());
        assert!(secrets.iter().all(|secret| *secret == secrets[0]));
    }

    #[tokio::test]
    async fn what_is_no_key_is_refused() {
        let plane = Plane::new().await;
        let long = "x".repeat(MAX_LENGTH + 1);
        for wrong in ["", "a b", &long] {
            let answer = create(&plane, "/v1/keys", wrong, ci("one")).await;
            assert_eq!(answer.problem(), (400, "invalid_header".to_owned(), "Idempotency-Key".to_owned()));
        }
        let twice = Request::post("/v1/keys")
            .header(header::AUTHORIZATION, format!("Bearer {}", plane.owner))
            .header(header::CONTENT_TYPE, "application/json")
            .header(HEADER, "a")
            .header(HEADER, "a")
            .body(axum::body::Body::from(ci("one").to_string()))
            .unwrap();
        assert_eq!(plane.call(twice).await.problem().1, "invalid_header");
    }

    #[test]
    fn answers_do_not_pile_up() {
        let answers = Answers::default();
        let attempt = |number: u32| Attempt {
            token: uuid::Uuid::nil(),
            key: Digest::of(&number.to_be_bytes()),
            request: Digest::of(b""),
        };
        let created =
            Created { location: None, revision: None, body: Zeroizing::default(), is_replayed: false };
        for number in 0..=MAX_KEPT as u32 {
            answers.keep(attempt(number), created.clone(), UnixMillis(u64::from(number)));
        }
        assert_eq!(answers.lock().len(), MAX_KEPT);
        assert!(answers.get(&attempt(0), UnixMillis(1)).is_none());
        assert!(answers.get(&attempt(1), UnixMillis(1)).is_some());
        let long = |number: u32| {
            let body = Zeroizing::new("x".repeat(MAX_KEPT_BYTES / 2));
            let created = Created { location: None, revision: None, body, is_replayed: false };
            answers.keep(attempt(number), created, UnixMillis(u64::from(number)));
        };
        (5_000..5_003).for_each(long);
        let kept: Vec<u64> = answers.lock().values().map(|(at, _)| at.0).collect();
        assert_eq!(kept.len(), 2, "{kept:?}");
    }
}
