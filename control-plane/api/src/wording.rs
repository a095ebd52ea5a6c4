//! The texts of the API for errors of the use cases, where the way out depends on HTTP.

use omniflow_api_types::request_error::RequestError;
use omniflow_domain::error::{Error, ErrorCode, Facts, Missing};
use omniflow_domain::idempotency::{Created, CreatedKind};

use super::entity_tag::entity_tag;

/// The text for a client.
pub(super) fn detail(error: &RequestError) -> String {
    match error {
        RequestError::Http(error) => error.detail().to_owned(),
        RequestError::UseCase(error) => of_use_case(error),
    }
}

/// The error's own sentence, or one in terms of HTTP.
fn of_use_case(error: &Error) -> String {
    match (error.code(), error.facts()) {
        (ErrorCode::Unauthenticated, _) => {
            "The token is missing or invalid. Send one valid control plane token, as 'Authorization: Bearer TOKEN'."
                .to_owned()
        }
        (ErrorCode::IdempotencyKeyReused, _) => {
            "This Idempotency-Key was sent with a different request. Use a new one for each new request.".to_owned()
        }
        (ErrorCode::AlreadyCreated, Some(Facts::Created(created))) => already_created(created),
        (ErrorCode::VersionMismatch, Some(Facts::Revision { subject, current, expected })) => {
            let named: Vec<String> = expected.iter().map(|revision| entity_tag(*revision)).collect();
            let named = if named.is_empty() { "not the ETag of a revision".to_owned() } else { named.join(", ") };
            let current = entity_tag(*current);
            format!(
                "{subject} has changed: its ETag is {current}, but If-Match is {named}. Read it again, then repeat the change."
            )
        }
        (_, Some(Facts::Missing(missing))) => with_hint(error.detail(), list_hint(*missing)),
        _ => error.detail().to_owned(),
    }
}

fn already_created(created: &Created) -> String {
    let (folder, way_out) = match created.kind {
        CreatedKind::Key => ("keys", "rotate the key"),
        CreatedKind::Token => ("tokens", "create another token"),
    };
    let paths: Vec<String> = created.ids.iter().map(|id| format!("/v1/{folder}/{id}")).collect();
    format!(
        "A request with this Idempotency-Key has already succeeded ({}). Its response is no longer available, and its \
         secret is not stored: if you did not receive it, {way_out}.",
        paths.join(" and ")
    )
}

fn list_hint(missing: Missing) -> &'static str {
    match missing {
        Missing::Key => "list keys with GET /v1/keys",
        Missing::KeyVersion => "GET /v1/keys/{id} shows its versions",
        Missing::Token => "list tokens with GET /v1/tokens",
        Missing::Gateway => "list gateways with GET /v1/gateways",
        Missing::PolicyVersion => "list versions with GET /v1/policy/versions",
    }
}

/// The detail and the hint, as two sentences or as one phrase.
fn with_hint(detail: &str, hint: &str) -> String {
    let mut letters = hint.chars();
    match (detail.strip_suffix('.'), letters.next()) {
        (Some(_), Some(first)) => format!("{detail} {}{}.", first.to_ascii_uppercase(), letters.as_str()),
        _ => format!("{detail}: {hint}"),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn hints_follow_sentences_and_phrases() {
        assert_eq!(
            of_use_case(&Error::missing(Missing::Token)),
            "No token has this identifier. List tokens with GET /v1/tokens."
        );
        let field = Error::invalid_field("/key", "no key has this name").about(Facts::Missing(Missing::Key));
        assert_eq!(of_use_case(&field), "no key has this name: list keys with GET /v1/keys");
    }

    #[test]
    fn everything_that_was_created_is_named() {
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let created = Created { kind: CreatedKind::Key, ids: vec![one, other] };
        let error = Error::new(ErrorCode::AlreadyCreated, "").about(Facts::Created(created));
        assert!(of_use_case(&error).contains(&format!("/v1/keys/{one} and /v1/keys/{other}")));
    }
}
