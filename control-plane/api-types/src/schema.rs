//! What the OpenAPI document says of types that stand elsewhere: the texts, numbers and words of the API with the very
//! limits that the code checks, and the shapes of `omniflow-policy`, which knows nothing of HTTP.

// Nothing here is ever made; the document asks for the types only. What differs from the true shapes is found by the
// end-to-end test that holds every answer against the document.
#![allow(dead_code)]

use omniflow_policy::address::MAX_NETWORKS;
use omniflow_policy::audit::Interruption as Interrupted;
use omniflow_policy::denial::{Denial, Outcome};
use omniflow_policy::explain::StepName;
use omniflow_policy::key::Environment as KeyEnvironment;
use omniflow_policy::limit::{INTROSPECTION_LIMIT_NAME, MAX_LIMIT, Window};
use omniflow_policy::payload::{
    MAX_FIELD_LENGTH, MAX_PAYLOAD_BYTES, MAX_REDACTED_FIELDS, PayloadState as State,
};
use omniflow_policy::policy::{MAX_ROUTES, MAX_SCOPES, MAX_TEMPLATE_LENGTH};
use omniflow_policy::scope::{MAX_SCOPE_LENGTH, MAX_SCOPES_PER_KEY};
use serde_json::Value;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use omniflow_domain::admin_event::Action as AdminAction;
use omniflow_domain::anomaly::AnomalyKind as Kind;
use omniflow_domain::audit::GapCause as Cause;
use omniflow_domain::error::ErrorCode;
use omniflow_domain::gateway::GatewayState as Liveness;
use omniflow_domain::key::{KeyOrder as Order, KeyStatus as Status, MAX_DESCRIPTION_LENGTH, MAX_HINT_LENGTH};
use omniflow_domain::name::MAX_NAME_LENGTH;
use omniflow_domain::stats::Dimension as StatsDimension;
use omniflow_domain::token::Role as TokenRole;

/// Types that are nothing but a schema.
macro_rules! schemas {
    ($($name:ident: $text:literal = $schema:expr;)*) => {
        $(
            #[doc = $text]
            pub enum $name {}

            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    $schema.description(Some($text)).build().into()
                }
            }

            impl ToSchema for $name {}
        )*
    };
}

schemas! {
    KeyName: "1 to 64 letters, digits, spaces, `.`, `_` and `-`, with a letter or digit at both ends. Not a UUID."
        = pattern("^[A-Za-z0-9]([A-Za-z0-9 ._-]*[A-Za-z0-9])?$")
            .min_length(Some(1)).max_length(Some(MAX_NAME_LENGTH)).examples(["crm-sync"]);
    Code: "What went wrong, for programs." = words(ErrorCode::ALL.iter().map(|code| code.as_str()));
    Identifier: "UUID version 7." = text().format(Some(SchemaFormat::Custom("uuid".to_owned())));
    Instant: "RFC 3339. Requests may have any offset, answers are in UTC with milliseconds."
        = text().format(Some(SchemaFormat::Custom("date-time".to_owned()))).examples(["2027-01-31T00:00:00.000Z"]);
    Duration: "A whole number and a unit: `ms`, `s`, `m`, `h` or `d`."
        = pattern("^[0-9]+(ms|s|m|h|d)$").examples(["24h"]);
    Description: "At most 1,024 bytes." = text().max_length(Some(MAX_DESCRIPTION_LENGTH));
    Hint: "Up to four characters of the secret, by which a person tells it from others."
        = pattern("^[!-~]*$").max_length(Some(MAX_HINT_LENGTH));
    Sha256: "A SHA-256 in hexadecimal digits." = pattern("^[0-9A-Fa-f]{64}$");
    Secret: "The secret, which is shown this once." = text();
    Scope: "`resource:action`, each of lower-case letters, digits, `-` and `_`, beginning with a letter."
        = pattern("^[a-z][a-z0-9_-]*:[a-z][a-z0-9_-]*$").max_length(Some(MAX_SCOPE_LENGTH))
            .examples(["contacts:read"]);
    Scopes: "Scopes that the policy defines." = list::<Scope>(MAX_SCOPES_PER_KEY);
    Network: "An address, or a network such as `203.0.113.0/24`."
        = pattern("^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$").examples(["203.0.113.0/24"]);
    Networks: "Networks from which the key may be used; empty for any." = list::<Network>(MAX_NETWORKS);
    Address: "An IPv4 or IPv6 address." = pattern("^[0-9A-Fa-f:.]+$").examples(["203.0.113.7"]);
    Prefix: "2 to 12 lower-case letters and digits, beginning with a letter: how all keys begin."
        = pattern("^[a-z][a-z0-9]{1,11}$").examples(["omf"]);
    Template: "Literal segments, `{name}` for one segment, `{*name}` at the end for one or more."
        = pattern("^/").max_length(Some(MAX_TEMPLATE_LENGTH)).examples(["/api/v1/contacts/{id}"]);
    MethodSelector: "A method such as `GET`; `read` (GET and HEAD), `write` (all others) or `any`."
        = pattern("^(read|write|any|[A-Z-]{1,32})$").examples(["read"]);
    Header: "Name and value of a header."
        = ArrayBuilder::new().items(text()).min_items(Some(2)).max_items(Some(2));
    Incarnation: "64 random bits that name one run of a process or VM." = pattern("^[0-9a-f]{16}$");
    Number: "The number of a record, as text." = pattern("^[0-9]+$");
    Dimensions: "One or two of `hour`, `key`, `endpoint`, `address`, `status`, `reason`, with a comma between."
        = pattern("^(hour|key|endpoint|address|status|reason)(,(hour|key|endpoint|address|status|reason))?$").examples(["hour,key"]);
    Cursor: "`next_cursor` of an earlier page, unchanged." = text();
    StatusFilter: "A status such as `404`, or a class such as `4xx`."
        = pattern("^([1-5]xx|[0-9]{1,3})$").examples(["4xx"]);
    Environment: "Which upstream a key reaches."
        = words([KeyEnvironment::Live, KeyEnvironment::Test].map(KeyEnvironment::as_str));
    KeyStatus: "`active`: one version is accepted; `rotating`: several; `revoked`: all were revoked; `expired`: otherwise."
        = words(Status::ALL.map(Status::as_str));
    KeyOrder: "An order: by when keys were made, or by name, byte by byte." = words(Order::ALL.map(Order::as_str));
    VersionStatus: "`active`: accepted; `rotating`: accepted until the end of its overlap; `revoked`: revoked before; `expired`: otherwise."
        = words(Status::ALL.map(Status::as_str));
    GatewayState: "`in_step`: live, and all workers enforce the published version; `behind`: live, but not all do; `silent`: not heard of for longer than the lease."
        = words(Liveness::ALL.map(Liveness::as_str));
    Role: "What a token may do." = words(TokenRole::ALL.map(TokenRole::as_str));
    Action: "What was done." = words(AdminAction::ALL.map(AdminAction::as_str));
    ExportFormat: "In which form records are sent." = words(["ndjson", "csv"]);
    Dimension: "By what calls are grouped." = words(StatsDimension::ALL.map(StatsDimension::as_str));
    Decision: "Whether a call was let through." = words(["allowed", "denied"]);
    Reason: "Why: `allowed`, `non_key_credential`, or the code of a refusal." = words(Outcome::all().map(Outcome::reason));
    FieldPointer: "A JSON pointer (RFC 6901) to a field of the arguments, in which `*` stands for every member or element."
        = pattern("^/([^~]|~[01])*$").max_length(Some(MAX_FIELD_LENGTH)).examples(["/card/number"]);
    BodyEncoding: "`text`, or `base64` where it is no UTF-8." = words(["text", "base64"]);
    PayloadState: "`whole`; `cut`: the end is missing; `no_room`: the gateway had no room for it; `not_redactable`: the body is missing, as fields to be redacted cannot be found in it."
        = words(State::ALL.map(State::as_str));
    AnomalyKind: "A kind of anomaly." = words(Kind::ALL.map(Kind::as_str));
    Interruption: "Why a response was not complete: `upstream_reset`, `timeout` (of the gateway), `client_disconnected`, or `unknown`."
        = words(Interrupted::ALL.map(Interrupted::as_str));
    GapCause: "Why records never arrived." = words(Cause::ALL.map(Cause::as_str));
    DenialCode: "Why a step refused." = words(Denial::ALL.map(Denial::code));
    StepWord: "Which step." = words(StepName::ALL.map(StepName::as_str));
    VerdictWord: "What came of it." = words(["passed", "refused", "not_reached"]);
    WindowWord: "Which limit." = words([
        Window::Minute.as_str(), Window::Hour.as_str(), INTROSPECTION_LIMIT_NAME,
    ]);
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn pattern(pattern: &str) -> ObjectBuilder {
    text().pattern(Some(pattern))
}

fn words<W: Into<Value>>(words: impl IntoIterator<Item = W>) -> ObjectBuilder {
    text().enum_values(Some(words))
}

fn list<T: PartialSchema>(most: usize) -> ArrayBuilder {
    ArrayBuilder::new().items(T::schema()).max_items(Some(most))
}

/// Limits. At least one of `per_minute` and `per_hour` is stated; with neither but a `burst`, 60 a minute.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Calls in a minute, sustained.
    #[schema(minimum = 1, maximum = 1_000_000)]
    per_minute: Option<u32>,
    /// Calls in an hour, sustained.
    #[schema(minimum = 1, maximum = 1_000_000)]
    per_hour: Option<u32>,
    /// Calls at once under the shorter of the limits; without it, that limit itself.
    #[schema(minimum = 1, maximum = 1_000_000)]
    burst: Option<u32>,
}

/// Routes and scopes.
#[derive(ToSchema)]
pub struct PolicyDocument {
    key_prefix: Prefix,
    /// Whether gateways take keys of another form as well; left out where false.
    #[schema(required = false)]
    imported_keys: bool,
    /// What is kept of the arguments of calls; left out where it is as it is by itself.
    #[schema(required = false)]
    payloads: PayloadPolicy,
    #[schema(max_items = 500)]
    scopes: Vec<ScopeDefinition>,
    #[schema(max_items = 2_000)]
    routes: Vec<RouteDefinition>,
}

/// A scope and what it is for.
#[derive(ToSchema)]
pub struct ScopeDefinition {
    name: Scope,
    /// What it allows, for the person who gives it; empty if left out.
    #[schema(required = false)]
    description: String,
}

/// A route and the scope that it needs.
#[derive(ToSchema)]
pub struct RouteDefinition {
    path: Template,
    /// A name beats `read` and `write`, which beat `any`.
    #[schema(min_items = 1)]
    methods: Vec<MethodSelector>,
    scope: Scope,
    /// Whether the arguments of calls are kept; left out where true.
    #[schema(required = false)]
    payload: bool,
}

/// What is kept of the arguments of calls.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PayloadPolicy {
    /// How many bytes of one call, query string and body together; 0 for none at all, 65536 if left out.
    #[schema(required = false, maximum = 262_144)]
    max_bytes: u32,
    /// Fields whose values are replaced before anything is stored.
    #[schema(required = false, max_items = 64)]
    redact: Vec<FieldPointer>,
}

/// What is kept of the arguments of calls, before and after.
#[derive(ToSchema)]
pub struct ChangedPayloads {
    before: PayloadPolicy,
    after: PayloadPolicy,
}

/// One step of a decision.
#[derive(ToSchema)]
pub struct Step {
    name: StepWord,
    verdict: VerdictWord,
    /// Where it was refused.
    #[schema(value_type = DenialCode, required = false)]
    reason: DenialCode,
    /// The facts, in plain sentences. Never a secret.
    detail: String,
}

/// The scopes that differ.
#[derive(ToSchema)]
pub struct ScopeDiff {
    added: Vec<ScopeDefinition>,
    removed: Vec<ScopeDefinition>,
    changed: Vec<ChangedScope>,
}

/// A scope whose description differs.
#[derive(ToSchema)]
pub struct ChangedScope {
    name: Scope,
    description: ChangedText,
}

/// The routes that differ.
#[derive(ToSchema)]
pub struct RouteDiff {
    added: Vec<MappedRoute>,
    removed: Vec<MappedRoute>,
    changed: Vec<ChangedRoute>,
}

/// A path with one method selector, and the scope that it needs.
#[derive(ToSchema)]
pub struct MappedRoute {
    path: Template,
    method: MethodSelector,
    scope: Scope,
    /// Whether the arguments of calls are kept; left out where true.
    #[schema(required = false)]
    payload: bool,
}

/// A route that is there before and after.
#[derive(ToSchema)]
pub struct ChangedRoute {
    path: Template,
    method: MethodSelector,
    /// The scope that a key needs, where it differs.
    #[schema(required = false)]
    scope: ChangedText,
    /// Whether the arguments of calls are kept, where it differs.
    #[schema(required = false)]
    payload: ChangedFlag,
}

/// A text before and after.
#[derive(ToSchema)]
pub struct ChangedText {
    before: String,
    after: String,
}

/// Yes or no, before and after.
#[derive(ToSchema)]
pub struct ChangedFlag {
    before: bool,
    after: bool,
}

/// The derives take literals only: these are the limits that the code checks.
const _: () = assert!(MAX_LIMIT == 1_000_000 && MAX_SCOPES == 500 && MAX_ROUTES == 2_000);
const _: () = assert!(MAX_PAYLOAD_BYTES == 262_144 && MAX_REDACTED_FIELDS == 64);
