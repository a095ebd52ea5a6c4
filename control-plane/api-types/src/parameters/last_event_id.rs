//! The header in which a client that reconnects to a stream sends the ID of the last event it received.

use crate::problem_code::HttpErrorCode;
use crate::request_error::HttpError;

/// The name of the header.
pub const LAST_EVENT_ID: &str = "last-event-id";

/// The number of the record after which the client continues, from all values of the header.
pub fn last_event_id<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Result<Option<i64>, HttpError> {
    let mut values = values.into_iter();
    let Some(value) = values.next() else { return Ok(None) };
    let wrong = || {
        HttpError::new(
            HttpErrorCode::InvalidHeader,
            "Last-Event-ID must be the ID of an event, sent only once.",
        )
        .at("Last-Event-ID")
    };
    if values.next().is_some() {
        return Err(wrong());
    }
    std::str::from_utf8(value).ok().and_then(record_number).map(Some).ok_or_else(wrong)
}

/// The number of a record, from its text.
pub fn record_number(text: &str) -> Option<i64> {
    text.parse().ok().filter(|id: &i64| *id >= 0)
}
