//! The stable codes of problems. A program may rely on them; `docs/API.md` says of each when it comes.

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// Makes the enum and its list out of one table, so that no code can miss in the list.
macro_rules! codes {
    ($($code:ident $text:literal $status:ident,)*) => {
        /// What went wrong, for programs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        pub(crate) enum Code {
            $(#[doc = concat!("`", $text, "`")] #[serde(rename = $text)] $code,)*
        }

        impl Code {
            /// All codes.
            pub(crate) const ALL: &[Self] = &[$(Self::$code,)*];

            /// The code as it travels.
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$code => $text,)* }
            }

            /// The status of every problem with this code.
            pub(crate) const fn status(self) -> StatusCode {
                match self { $(Self::$code => StatusCode::$status,)* }
            }
        }
    };
}

codes! {
    InvalidJson "invalid_json" BAD_REQUEST,
    InvalidToml "invalid_toml" BAD_REQUEST,
    InvalidQuery "invalid_query" BAD_REQUEST,
    InvalidHeader "invalid_header" BAD_REQUEST,
    BodyIncomplete "body_incomplete" BAD_REQUEST,
    InvalidBatch "invalid_batch" BAD_REQUEST,
    Unauthenticated "unauthenticated" UNAUTHORIZED,
    Forbidden "forbidden" FORBIDDEN,
    NotFound "not_found" NOT_FOUND,
    MethodNotAllowed "method_not_allowed" METHOD_NOT_ALLOWED,
    NameTaken "name_taken" CONFLICT,
    DigestTaken "digest_taken" CONFLICT,
    ImportsNotTaken "imports_not_taken" CONFLICT,
    KeyRevoked "key_revoked" CONFLICT,
    KeyExpired "key_expired" CONFLICT,
    VersionsExhausted "versions_exhausted" CONFLICT,
    AlreadyCreated "already_created" CONFLICT,
    ScopeInUse "scope_in_use" CONFLICT,
    ImportsInUse "imports_in_use" CONFLICT,
    KeyNotPublished "key_not_published" CONFLICT,
    LastOwnerToken "last_owner_token" CONFLICT,
    PayloadUnreadable "payload_unreadable" CONFLICT,
    ImageGone "image_gone" GONE,
    VersionMismatch "version_mismatch" PRECONDITION_FAILED,
    BodyTooLarge "body_too_large" PAYLOAD_TOO_LARGE,
    UnsupportedMediaType "unsupported_media_type" UNSUPPORTED_MEDIA_TYPE,
    InvalidField "invalid_field" UNPROCESSABLE_ENTITY,
    IdempotencyKeyReused "idempotency_key_reused" UNPROCESSABLE_ENTITY,
    TooManyAttempts "too_many_attempts" TOO_MANY_REQUESTS,
    InternalError "internal_error" INTERNAL_SERVER_ERROR,
    NotReady "not_ready" SERVICE_UNAVAILABLE,
    Busy "busy" SERVICE_UNAVAILABLE,
}

impl PartialSchema for Code {
    fn schema() -> RefOr<Schema> {
        let codes = Self::ALL.iter().map(|code| code.as_str());
        ObjectBuilder::new()
            .schema_type(Type::String)
            .enum_values(Some(codes))
            .description(Some("What went wrong, for programs."))
            .build()
            .into()
    }
}

impl ToSchema for Code {}
