//! How pages word errors of the use cases.

use omniflow_api_types::request_error::RequestError;
use omniflow_domain::error::{Error, ErrorCode, Facts};
use omniflow_domain::idempotency::CreatedKind;

/// The sentence that a page shows for an error of a request.
pub(super) fn of_request(error: &RequestError) -> String {
    match error {
        RequestError::Http(error) => sentence(error.detail()),
        RequestError::UseCase(error) => text(error),
    }
}

/// The sentence that a page shows for an error of a use case.
pub(super) fn text(error: &Error) -> String {
    match (error.code(), error.facts()) {
        (ErrorCode::Unauthenticated, _) => "Your token was revoked or has expired. Sign in again.".to_owned(),
        (ErrorCode::IdempotencyKeyReused, _) => {
            "This form was submitted before with other values. Submit it again to continue.".to_owned()
        }
        (ErrorCode::AlreadyCreated, Some(Facts::Created(created))) => {
            let way_out = match created.kind {
                CreatedKind::Key => "rotate the key",
                CreatedKind::Token => "create another token",
            };
            format!(
                "This form was submitted before, and its secret is no longer available. If you did not copy it, {way_out}."
            )
        }
        _ => sentence(error.detail()),
    }
}

/// A detail as a sentence.
pub(super) fn sentence(detail: &str) -> String {
    let mut letters = detail.chars();
    let text: String = letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect();
    if text.ends_with(['.', '!', '?', ':']) { text } else { format!("{text}.") }
}
