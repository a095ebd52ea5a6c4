//! Why a request failed. The HTTP client wraps errors; the relevant one is among their sources.

use std::error::Error;
use std::io;
use std::iter::successors;

use crate::proxy::proxy_of;

/// The TLS error that caused a failure.
pub fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    chain(error).find_map(|error| error.downcast_ref())
}

/// Whether the server responded, but not in HTTP.
pub fn is_not_http(error: &(dyn Error + 'static)) -> bool {
    chain(error).filter_map(|error| error.downcast_ref()).any(hyper::Error::is_parse)
}

/// The text of the error that caused all others, and the proxy that the request was sent through. It does not contain the
/// URL, which may be a secret.
pub fn root_cause(error: &(dyn Error + 'static)) -> String {
    let cause = innermost(error);
    let url = chain(error).find_map(|error| error.downcast_ref::<reqwest::Error>()?.url());
    match url.and_then(proxy_of) {
        Some(proxy) => {
            format!("{cause} (through the proxy {proxy}, set by HTTP_PROXY, HTTPS_PROXY or ALL_PROXY)")
        }
        None => cause,
    }
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    match chain(error).last() {
        // Without a cause, the last error is that of the client, and its text ends with the URL.
        Some(last) if last.downcast_ref::<reqwest::Error>().is_some_and(|error| error.url().is_some()) => {
            "the request failed".to_owned()
        }
        last => last.map(ToString::to_string).unwrap_or_default(),
    }
}

/// An error and its sources.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(Some(error), |error| source(*error))
}

/// The error that another one wraps. The `source` of an I/O error that wraps an error is that one's own source, which
/// would leave it out.
fn source<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}
