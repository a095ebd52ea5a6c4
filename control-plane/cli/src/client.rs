//! The client of the control plane's API.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use omniflow_api_types::gateway::EnforcementJson;
use omniflow_api_types::page::{MAX_LIMIT, Page};
use omniflow_api_types::problem::ProblemJson;
use omniflow_api_types::values::{MAX_WAIT, UnixMillis};
use omniflow_files::secret;
use omniflow_http_client::root_cause;
pub(crate) use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, DATE};
use reqwest::{RequestBuilder, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde::{Deserialize as _, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use super::args::{Connection, DEFAULT_URL, TokenSource};
use super::http::{Http, Response};
use super::output::Answer;
use super::trust;

/// Timeout of a call: longer than the longest wait of the API.
const TIMEOUT: Duration = MAX_WAIT.saturating_mul(2);

/// A client for one control plane, with its token.
pub(crate) struct Client {
    http: Http,
    url: String,
    token: Zeroizing<String>,
    /// Source of the token, for error messages.
    token_source: String,
    ca_file: Option<PathBuf>,
}

/// A prepared call.
#[derive(Debug)]
pub(crate) struct Call {
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

/// The rejection of a call by the control plane.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Rejection {
    text: String,
    /// The problem document.
    pub(crate) problem: Value,
}

/// A response of any server, with any status.
#[derive(Debug)]
pub(crate) struct Probe {
    /// Status code.
    pub(crate) status: u16,
    /// `Date` header.
    pub(crate) date: Option<UnixMillis>,
    /// Body; empty if it is not text.
    pub(crate) body: String,
    /// Duration until the whole response was received.
    pub(crate) took: Duration,
}

impl Client {
    pub(crate) fn new(connection: &Connection) -> anyhow::Result<Self> {
        let url = connection.url.trim_end_matches('/');
        if url.is_empty() {
            // The default would be wrong: a script with an empty variable would change another installation.
            bail!(
                "the URL of the control plane is empty: set OMF_URL or --url to a URL such as {DEFAULT_URL}, or unset OMF_URL"
            );
        }
        let has_scheme = ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme));
        if !has_scheme || Url::parse(url).is_err() {
            bail!("{url} is not a valid control plane URL: use http://HOST:PORT or https://HOST:PORT");
        }
        let (token, token_source) = match connection.token_source() {
            Some(TokenSource::Value(name, token)) => (Zeroizing::new(token.to_owned()), name.to_owned()),
            Some(TokenSource::File(name, path)) => (
                secret::read_text(path).with_context(|| format!("{}", path.display()))?,
                format!("{name} ({})", path.display()),
            ),
            None => bail!("no token: set OMF_TOKEN, OMF_TOKEN_FILE or --token-file"),
        };
        let ca_file = connection.ca_file();
        Ok(Self {
            http: Http::new(ca_file, TIMEOUT)?,
            url: url.to_owned(),
            token: Zeroizing::new(token.trim().to_owned()),
            token_source,
            ca_file: ca_file.map(Path::to_owned),
        })
    }

    /// Sends `GET`. Query parameters without a value are left out.
    pub(crate) fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, Option<String>)],
    ) -> anyhow::Result<Answer<T>> {
        self.send(Call::new(Method::GET, path).query(query))
    }

    /// Gets a page of a list.
    pub(crate) fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, Option<String>)],
    ) -> anyhow::Result<Answer<Page<T>>> {
        self.get(path, query)
    }

    /// Gets all pages of a list.
    pub(crate) fn list_all<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<Vec<T>> {
        let mut items = Vec::new();
        let mut cursor = None;
        loop {
            let query = [("limit", Some(MAX_LIMIT.to_string())), ("cursor", cursor)];
            let page = self.list(path, &query)?.body;
            items.extend(page.items);
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(items);
            }
        }
    }

    /// Sends `DELETE`.
    pub(crate) fn delete(&self, path: &str) -> anyhow::Result<()> {
        match self.body(self.answer(Call::new(Method::DELETE, path))?)? {
            None => Ok(()),
            Some(_) => Err(self.not_a_control_plane_error()),
        }
    }

    /// Sends a call with a JSON response.
    pub(crate) fn send<T: DeserializeOwned>(&self, call: Call) -> anyhow::Result<Answer<T>> {
        let json = self.body(self.answer(call)?)?.ok_or_else(|| self.not_a_control_plane_error())?;
        Answer::read(json).map_err(|error| self.unexpected(error))
    }

    /// Sends a call whose response contains a new secret. Only the secret is parsed, because it cannot be retrieved again and an
    /// unknown form of the rest must not prevent its output.
    pub(crate) fn send_for_secret(&self, call: Call) -> anyhow::Result<NewSecret> {
        let json = self.body(self.answer(call)?)?.ok_or_else(|| self.not_a_control_plane_error())?;
        let secret =
            json.get("secret").and_then(Value::as_str).map(|secret| Zeroizing::new(secret.to_owned()));
        let enforcement = json.get("enforcement").map(EnforcementJson::deserialize).transpose()?;
        Ok(NewSecret { secret: secret.ok_or_else(|| self.not_a_control_plane_error())?, enforcement, json })
    }

    /// Sends a call whose response is text of this media type.
    pub(crate) fn text(&self, call: Call, media_type: &str) -> anyhow::Result<String> {
        let response = self.answer(call.header("accept", media_type))?;
        if !response.status().is_success() {
            return Err(self.rejected(response));
        }
        let is_text = self::media_type(&response) == Some(media_type);
        let body = response.body().map_err(|error| self.unreachable(error))?.filter(|_| is_text);
        body.and_then(|body| String::from_utf8(body).ok()).ok_or_else(|| self.not_a_control_plane_error())
    }

    /// Sends a call whose response is a stream of this media type, without a timeout.
    pub(crate) fn stream(&self, call: Call, media_type: &str) -> anyhow::Result<impl Read> {
        let response = self.http.send(self.request(call)?, None).map_err(|error| self.unreachable(error))?;
        if !response.status().is_success() {
            return Err(self.rejected(response));
        }
        if self::media_type(&response) != Some(media_type) {
            return Err(self.not_a_control_plane_error());
        }
        Ok(response)
    }

    /// Sends `GET` and accepts any status.
    pub(crate) fn probe(&self, path: &str) -> anyhow::Result<Probe> {
        self.probe_with(Call::new(Method::GET, path))
    }

    /// Sends `PATCH` without a change and accepts any status.
    pub(crate) fn probe_patch(&self, path: &str) -> anyhow::Result<Probe> {
        self.probe_with(Call::new(Method::PATCH, path).json(&serde_json::json!({}))?)
    }

    fn probe_with(&self, call: Call) -> anyhow::Result<Probe> {
        let request = self.request(call)?;
        Probe::send(&self.http, request, TIMEOUT).map_err(|error| self.unreachable(error))
    }

    /// The source of the token.
    pub(crate) fn token_source(&self) -> &str {
        &self.token_source
    }

    fn answer(&self, call: Call) -> anyhow::Result<Response<'_>> {
        self.http.send(self.request(call)?, Some(TIMEOUT)).map_err(|error| self.unreachable(error))
    }

    fn request(&self, call: Call) -> anyhow::Result<RequestBuilder> {
        let Call { method, path, headers, body } = call;
        let url = Url::parse(&format!("{}{path}", self.url))?;
        // The parser resolves `.` and `..`, which would change the path.
        if !url.as_str().ends_with(&path) {
            bail!("\".\" and \"..\" are not valid names");
        }
        let mut request = self.http.request(method, url.as_str()).bearer_auth(self.token.as_str()).body(body);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        Ok(request)
    }

    /// The body of a response, if it has one.
    fn body(&self, response: Response<'_>) -> anyhow::Result<Option<Value>> {
        let status = response.status();
        if status == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        if !status.is_success() {
            return Err(self.rejected(response));
        }
        let body = response.body().map_err(|error| self.unreachable(error))?.unwrap_or_default();
        serde_json::from_slice(&body).map(Some).map_err(|_| self.not_a_control_plane_error())
    }

    fn rejected(&self, response: Response<'_>) -> anyhow::Error {
        let status = response.status();
        let body = response.body().ok().flatten().unwrap_or_default();
        let problem = serde_json::from_slice(&body).ok();
        match problem.and_then(|json| Answer::<ProblemJson>::read(json).ok()) {
            Some(Answer { json, body }) => {
                Rejection { text: format_problem(status, &body, &self.token_source), problem: json }.into()
            }
            None => self.not_a_control_plane_error().context(format!("the response has the status {status}")),
        }
    }

    fn unreachable(&self, error: reqwest::Error) -> anyhow::Error {
        if error.is_builder() {
            return anyhow!("cannot send the request: {}", root_cause(&error));
        }
        match trust::explain(&error, &self.url, self.ca_file.as_deref()) {
            Some(what) => anyhow!(what),
            None => anyhow!(root_cause(&error)).context(format!(
                "cannot reach the control plane at {}: is it running? Check --url or OMF_URL, such as {DEFAULT_URL}",
                self.url
            )),
        }
    }

    fn not_a_control_plane_error(&self) -> anyhow::Error {
        anyhow!(self.not_a_control_plane())
    }

    /// The error of a response with unexpected fields.
    pub(crate) fn unexpected(&self, error: serde_json::Error) -> anyhow::Error {
        anyhow::Error::from(error).context(self.not_a_control_plane())
    }

    fn not_a_control_plane(&self) -> String {
        format!("{} does not look like an Omniflow control plane: check --url or OMF_URL", self.url)
    }
}

/// Sends `GET` to any URL, without the token, and accepts any status.
pub(crate) fn probe_without_token(
    url: &str,
    ca_file: Option<&Path>,
    timeout: Duration,
) -> anyhow::Result<Probe> {
    let http = Http::new(ca_file, timeout)?;
    let answer = Probe::send(&http, http.request(Method::GET, url), timeout);
    answer.map_err(|error| match trust::explain(&error, url, ca_file) {
        Some(what) => anyhow!(what),
        None => anyhow!(root_cause(&error)).context(format!("cannot reach {url}: check the URL")),
    })
}

/// The media type of a response, without parameters.
fn media_type<'a>(response: &'a Response<'_>) -> Option<&'a str> {
    response.header(CONTENT_TYPE)?.split(';').next().map(str::trim)
}

/// Formats a problem on one line: place, detail, status and code.
fn format_problem(status: StatusCode, problem: &ProblemJson, token_source: &str) -> String {
    let ProblemJson { code, detail, field, line, .. } = problem;
    let line = line.map(|line| format!("line {line}: ")).unwrap_or_default();
    match field {
        _ if status == StatusCode::UNAUTHORIZED => {
            format!("the token from {token_source} is not valid for this control plane ({status}, {code})")
        }
        Some(field) if !starts_with_field(detail, field) => {
            format!("{line}{field}: {detail} ({status}, {code})")
        }
        _ => format!("{line}{detail} ({status}, {code})"),
    }
}

/// Whether a detail begins with the name of its field, so that the field need not precede it. A detail never names a place
/// in a list.
fn starts_with_field(detail: &str, field: &str) -> bool {
    let in_list = field.split('/').any(|segment| segment.parse::<usize>().is_ok());
    let (_, name) = field.rsplit_once('/').unwrap_or(("", field));
    let subject = detail.strip_prefix("a ").or_else(|| detail.strip_prefix("an ")).unwrap_or(detail);
    !in_list && subject.strip_prefix(name).is_some_and(|rest| rest.starts_with(' '))
}

/// The query string, with its question mark; empty without parameters.
fn encoded(query: &[(&str, Option<String>)]) -> String {
    let pairs = query.iter().filter_map(|(name, value)| Some(format!("{name}={}", segment(value.as_ref()?))));
    let pairs: Vec<String> = pairs.collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

/// Percent-encodes a path segment or the value of a query parameter.
pub(crate) fn segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// The response to a call that created a secret.
pub(crate) struct NewSecret {
    /// Secret.
    pub(crate) secret: Zeroizing<String>,
    /// Which gateways enforce it; `None` unless the call waited for that.
    pub(crate) enforcement: Option<EnforcementJson>,
    /// Whole response.
    pub(crate) json: Value,
}

// === impl Call ===

impl Call {
    /// A call without a body.
    pub(crate) fn new(method: Method, path: &str) -> Self {
        Self { method, path: path.to_owned(), headers: Vec::new(), body: Vec::new() }
    }

    /// Adds query parameters. Those without a value are left out.
    pub(crate) fn query(mut self, query: &[(&str, Option<String>)]) -> Self {
        self.path.push_str(&encoded(query));
        self
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Adds the condition that the revision or version is still this number.
    pub(crate) fn if_match(self, number: Option<u64>) -> Self {
        match number {
            Some(number) => self.header("if-match", format!("\"{number}\"")),
            None => self,
        }
    }

    /// Sets a JSON body.
    pub(crate) fn json(self, body: &impl Serialize) -> serde_json::Result<Self> {
        Ok(self.body("application/json", serde_json::to_vec(body)?))
    }

    /// Sets a body without reformatting it, so that errors refer to its own lines.
    pub(crate) fn body(self, media_type: &str, body: Vec<u8>) -> Self {
        Self { body, ..self.header("content-type", media_type) }
    }
}

// === impl Probe ===

impl Probe {
    #[expect(clippy::disallowed_methods, reason = "doctor measures how long a synchronous call takes")]
    fn send(http: &Http, request: RequestBuilder, timeout: Duration) -> reqwest::Result<Self> {
        let started = Instant::now();
        let response = http.send(request, Some(timeout))?;
        let status = response.status().as_u16();
        let date = response.header(DATE).and_then(|date| {
            let date = jiff::fmt::rfc2822::parse(date).ok()?;
            u64::try_from(date.timestamp().as_millisecond()).ok().map(UnixMillis)
        });
        let body = response.body()?.and_then(|body| String::from_utf8(body).ok()).unwrap_or_default();
        Ok(Self { status, date, body, took: started.elapsed() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::connection;

    fn problem(code: &str, detail: &str, field: Option<&str>) -> ProblemJson {
        ProblemJson {
            r#type: "about:blank".to_owned(),
            title: String::new(),
            status: 400,
            code: code.to_owned(),
            detail: detail.to_owned(),
            field: field.map(str::to_owned),
            line: None,
        }
    }

    #[test]
    fn empty_url_is_rejected() {
        for url in ["", "/"] {
            let words = ["omf", "key", "list", "--token", "t", "--url", url];
            let error = Client::new(&connection(words)).err().map(|error| error.to_string());
            assert!(error.as_deref().is_some_and(|error| error.contains("is empty")), "{url:?}: {error:?}");
        }
    }

    #[test]
    fn names_are_percent_encoded() {
        assert_eq!(segment("CI deploy/é"), "CI%20deploy%2F%C3%A9");
        let query = [("status", Some("4xx".to_owned())), ("ip", None), ("q", Some("a&b=c".to_owned()))];
        assert_eq!(encoded(&query), "?status=4xx&q=a%26b%3Dc");
        assert_eq!(encoded(&[("ip", None)]), "");
    }

    #[test]
    fn a_rejection_contains_field_and_code() {
        let said = |field: &str, detail: &str| {
            let problem = problem("invalid_field", detail, Some(field));
            format_problem(StatusCode::UNPROCESSABLE_ENTITY, &problem, "OMF_TOKEN")
        };
        let code = "(422 Unprocessable Entity, invalid_field)";
        for (field, detail, expected) in [
            ("/scopes/0", "no such scope", "/scopes/0: no such scope"),
            ("/rate_limit", "state per_minute", "/rate_limit: state per_minute"),
            ("status", "status must be a status", "status must be a status"),
            ("status", "a status must be \"active\"", "a status must be \"active\""),
            ("/environment", "an environment must be \"live\"", "an environment must be \"live\""),
            ("/rate_limit/burst", "burst is 0", "burst is 0"),
            ("/routes/0/path", "path is bad", "/routes/0/path: path is bad"),
            ("ip", "ipv4 is old", "ip: ipv4 is old"),
        ] {
            assert_eq!(said(field, detail), format!("{expected} {code}"));
        }
    }

    #[test]
    fn a_rejected_token_is_named_by_its_source() {
        let problem = problem("unauthenticated", "Send a valid token", None);
        let error = format_problem(StatusCode::UNAUTHORIZED, &problem, "--token-file (/x)");
        let expected = "the token from --token-file (/x) is not valid for this control plane (401 Unauthorized, unauthenticated)";
        assert_eq!(error, expected);
    }

    #[test]
    fn a_call_with_a_dot_segment_is_not_sent() {
        let client = Client::new(&connection(["omf", "--token", "t", "doctor"])).unwrap();
        for name in [".", ".."] {
            let path = format!("/v1/keys/{}/revoke", segment(name));
            let error = client.send::<Value>(Call::new(Method::POST, &path)).err().unwrap().to_string();
            assert!(error.contains("not valid names"), "{error}");
        }
    }

    #[test]
    fn a_url_has_a_scheme() {
        for url in ["127.0.0.1:8080", "localhost", "ftp://127.0.0.1", "http://:80"] {
            let connection = connection(["omf", "--url", url, "--token", "t", "doctor"]);
            let error = Client::new(&connection).err().unwrap().to_string();
            assert!(error.contains(url) && error.contains("use http://HOST:PORT"), "{error}");
        }
    }
}
