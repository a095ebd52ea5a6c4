//! Extractors of page handlers. A rejection becomes an error page.

use std::time::Duration;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::page::PageError;
use omniflow_api_types::problem_code::HttpErrorCode;
use omniflow_api_types::request_error::HttpError;
use omniflow_domain::error::Error;
use omniflow_domain::principal::Principal;

/// Time in which a whole form must arrive. The largest form, 3 MiB, needs 420 kbit/s.
const BODY_TIME: Duration = Duration::from_secs(60);

/// The principal of the request's session.
pub(super) struct Authenticated(pub(super) Principal);

/// The query string. Unknown and repeated parameters are rejected.
pub(super) struct StrictQuery<T>(pub(super) T);

/// The variable segments of the path.
pub(super) struct Segments<T>(pub(super) T);

/// Limits the time to read a body. A slow client could otherwise send it for days.
pub(super) async fn in_time<T>(reading: impl Future<Output = T>) -> Result<T, HttpError> {
    timeout(BODY_TIME, reading).await.map_err(|_| {
        HttpError::new(
            HttpErrorCode::BodyIncomplete,
            "The body ended early or took too long. Send the request again.",
        )
    })
}

impl<S: Sync> FromRequestParts<S> for Authenticated {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        // Only the session middleware inserts it. A page that is public by mistake fails here.
        Ok(Self(parts.extensions.get::<Principal>().cloned().ok_or_else(Error::internal)?))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for StrictQuery<T> {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let query = serde_urlencoded::from_str(parts.uri.query().unwrap_or_default()).map_err(|error| {
            HttpError::new(HttpErrorCode::InvalidQuery, format!("The query string is invalid: {error}."))
        })?;
        Ok(Self(query))
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Segments<T> {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let Path(segments) = Path::<T>::from_request_parts(parts, state)
            .await
            .map_err(|_| Error::not_found("There is no page at this URL. Check the ID in the URL."))?;
        Ok(Self(segments))
    }
}
