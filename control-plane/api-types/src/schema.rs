//! OpenAPI schemas of types that are defined elsewhere: the strings, numbers and enumerations of the API, with the limits
//! that the code checks, and the types of `omniflow-policy`, which does not depend on OpenAPI.

// These types are never constructed. An end-to-end test checks every response against the document, so that a schema
// that differs from the real type is found.
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
use omniflow_domain::gateway::GatewayState as Liveness;
use omniflow_domain::key::{KeyOrder as Order, KeyStatus as Status, MAX_DESCRIPTION_LENGTH, MAX_HINT_LENGTH};
use omniflow_domain::name::MAX_NAME_LENGTH;
use omniflow_domain::stats::Dimension as StatsDimension;
use omniflow_domain::token::Role as TokenRole;

use crate::problem_code::ProblemCode;

/// Defines types that only have a schema.
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
    KeyName: "1 to 64 letters, digits, spaces, `.`, `_` and `-`, beginning and ending with a letter or digit. Must not be a UUID."
        = pattern("^[A-Za-z0-9]([A-Za-z0-9 ._-]*[A-Za-z0-9])?$")
            .min_length(Some(1)).max_length(Some(MAX_NAME_LENGTH)).examples(["crm-sync"]);
    Code: "Stable, machine-readable error code." = words(ProblemCode::all().map(ProblemCode::as_str));
    Identifier: "UUID, version 7." = text().format(Some(SchemaFormat::Custom("uuid".to_owned())));
    Instant: "Time in RFC 3339 format. Requests may use any offset; responses are in UTC with milliseconds."
        = text().format(Some(SchemaFormat::Custom("date-time".to_owned()))).examples(["2027-01-31T00:00:00.000Z"]);
    Duration: "Integer with a unit: `ms`, `s`, `m`, `h` or `d`."
        = pattern("^[0-9]+(ms|s|m|h|d)$").examples(["24h"]);
    Description: "Text of at most 1,024 bytes." = text().max_length(Some(MAX_DESCRIPTION_LENGTH));
    Hint: "Up to four characters of the secret, shown to identify it."
        = pattern("^[!-~]*$").max_length(Some(MAX_HINT_LENGTH));
    Sha256: "SHA-256 in hexadecimal." = pattern("^[0-9A-Fa-f]{64}$");
    Secret: "The secret. It is shown only once." = text();
    Scope: "`resource:action`. Both parts consist of lowercase letters, digits, `-` and `_`, and begin with a letter."
        = pattern("^[a-z][a-z0-9_-]*:[a-z][a-z0-9_-]*$").max_length(Some(MAX_SCOPE_LENGTH))
            .examples(["contacts:read"]);
    Scopes: "Scopes that the policy defines." = list::<Scope>(MAX_SCOPES_PER_KEY);
    Network: "An IP address, or a network such as `203.0.113.0/24`."
        = pattern("^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$").examples(["203.0.113.0/24"]);
    Networks: "Networks from which the key may be used; empty if any address may use it." = list::<Network>(MAX_NETWORKS);
    Address: "An IPv4 or IPv6 address." = pattern("^[0-9A-Fa-f:.]+$").examples(["203.0.113.7"]);
    Prefix: "Prefix of all keys: 2 to 12 lowercase letters and digits, beginning with a letter."
        = pattern("^[a-z][a-z0-9]{1,11}$").examples(["omf"]);
    Template: "Path template: literal segments, `{name}` for one segment, and `{*name}` at the end for one or more segments."
        = pattern("^/").max_length(Some(MAX_TEMPLATE_LENGTH)).examples(["/api/v1/contacts/{id}"]);
    MethodSelector: "An HTTP method such as `GET`, or `read` (GET and HEAD), `write` (all others) or `any`."
        = pattern("^(read|write|any|[A-Z-]{1,32})$").examples(["read"]);
    Header: "Name and value of a header."
        = ArrayBuilder::new().items(text()).min_items(Some(2)).max_items(Some(2));
    GatewayPattern: "Name of a gateway, or a prefix of names followed by `*`. Printable ASCII characters without spaces."
        = pattern("^[!-)+-~]*[!-~]$").max_length(Some(128)).examples(["edge-1", "eu/*"]);
    Incarnation: "ID of a process or VM: 64 random bits in hexadecimal, new at each start." = pattern("^[0-9a-f]{16}$");
    Number: "A number, as a string." = pattern("^[0-9]+$");
    Dimensions: "One or two of `hour`, `key`, `endpoint`, `address`, `status`, `grpc_status` and `reason`, separated by a comma."
        = pattern("^(hour|key|endpoint|address|status|grpc_status|reason)(,(hour|key|endpoint|address|status|grpc_status|reason))?$").examples(["hour,key"]);
    Cursor: "`next_cursor` of the previous page, unchanged." = text();
    StatusFilter: "An HTTP status such as `404`, or a class such as `4xx`."
        = pattern("^([1-5]xx|[0-9]{1,3})$").examples(["4xx"]);
    GrpcStatusFilter: "A gRPC status such as `14`, or `error` for every status other than 0."
        = pattern("^(error|[0-9]{1,9})$").examples(["error"]);
    Environment: "Environment of a key. It determines the upstream."
        = words([KeyEnvironment::Live, KeyEnvironment::Test].map(KeyEnvironment::as_str));
    KeyStatus: "`active`: one version is accepted; `rotating`: several versions are accepted; `revoked`: all versions are revoked; `expired`: no version is accepted, and not all of them are revoked."
        = words(Status::ALL.map(Status::as_str));
    KeyOrder: "Sort order: by creation time, or by name (compared byte by byte)." = words(Order::ALL.map(Order::as_str));
    VersionStatus: "`active`: accepted; `rotating`: accepted until its overlap ends; `revoked`: revoked; `expired`: no longer accepted, but not revoked."
        = words(Status::ALL.map(Status::as_str));
    GatewayState: "`in_step`: live, and all workers enforce the published version; `behind`: live, but not all do; `ahead`: it reports a version that this control plane has not published, so its polls are refused; `silent`: no request for longer than the lease; `token_expired`, `token_revoked`: its requests to the control plane are rejected, but it may still be serving clients; `ended`: its connection closed when it had no audit records left to send, and it has sent nothing for longer than the lease."
        = words(Liveness::ALL.map(Liveness::as_str));
    Role: "Role of a token." = words(TokenRole::ALL.map(TokenRole::as_str));
    Action: "Kind of change." = words(AdminAction::ALL.map(AdminAction::as_str));
    ExportFormat: "Format of an export." = words(["ndjson", "csv"]);
    Dimension: "Property that calls are grouped by." = words(StatsDimension::ALL.map(StatsDimension::as_str));
    Decision: "Whether the call was allowed or denied." = words(["allowed", "denied"]);
    Reason: "Reason for a decision: `allowed`, `non_key_credential`, or the code of a refusal." = words(Outcome::all().map(Outcome::reason));
    FieldPointer: "JSON pointer (RFC 6901) to a field of the arguments. `*` matches every member or element."
        = pattern("^/([^~]|~[01])*$").max_length(Some(MAX_FIELD_LENGTH)).examples(["/card/number"]);
    BodyEncoding: "`text`, or `base64` if the body is not UTF-8." = words(["text", "base64"]);
    PayloadState: "`whole`: complete; `cut`: the end is missing; `no_room`: the gateway's buffer was full; `not_redactable`: the body is missing, because the fields to redact cannot be located in it."
        = words(State::ALL.map(State::as_str));
    AnomalyKind: "Kind of anomaly." = words(Kind::ALL.map(Kind::as_str));
    Interruption: "Why a response is incomplete: `upstream_reset`, `timeout` (at the gateway), `client_disconnected`, `key_no_longer_valid` (the filter ended the call because its key was revoked or expired), or `unknown`."
        = words(Interrupted::ALL.map(Interrupted::as_str));
    GapCause: "Why records are missing. Causes that begin with `purged_` mean that the records arrived but were purged, because \
        the log reached `audit_max_mib`." = words(Cause::ALL.map(Cause::as_str));
    DenialCode: "Reason for a refusal." = words(Denial::ALL.map(Denial::code));
    StepWord: "Step of a decision." = words(StepName::ALL.map(StepName::as_str));
    VerdictWord: "Result of a step." = words(["passed", "refused", "not_reached"]);
    WindowWord: "Rate limit that was exceeded." = words([
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

/// Rate limits. At least one field is required. If only `burst` is set, the limit is 60 calls per minute.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Sustained calls per minute.
    #[schema(minimum = 1, maximum = 1_000_000)]
    per_minute: Option<u32>,
    /// Sustained calls per hour.
    #[schema(minimum = 1, maximum = 1_000_000)]
    per_hour: Option<u32>,
    /// Burst size in calls, for the limit with the shorter period; if omitted, it equals that limit.
    #[schema(minimum = 1, maximum = 1_000_000)]
    burst: Option<u32>,
}

/// Routes and scopes.
#[derive(ToSchema)]
pub struct PolicyDocument {
    key_prefix: Prefix,
    /// Whether gateways accept imported keys, which have a different format; absent if false.
    #[schema(required = false)]
    imported_keys: bool,
    /// The parts of the call arguments that are stored; absent if this is the default.
    #[schema(required = false)]
    payloads: PayloadPolicy,
    #[schema(max_items = 500)]
    scopes: Vec<ScopeDefinition>,
    #[schema(max_items = 2_000)]
    routes: Vec<RouteDefinition>,
}

/// A scope and its description.
#[derive(ToSchema)]
pub struct ScopeDefinition {
    name: Scope,
    /// Description of what the scope allows, for the admins who grant it; empty if omitted.
    #[schema(required = false)]
    description: String,
}

/// A route and the scope that it requires.
#[derive(ToSchema)]
pub struct RouteDefinition {
    path: Template,
    /// Methods of the route. A method name takes precedence over `read` and `write`, which take precedence over `any`.
    #[schema(min_items = 1)]
    methods: Vec<MethodSelector>,
    scope: Scope,
    /// Whether the arguments of calls are stored; absent if true.
    #[schema(required = false)]
    payload: bool,
    /// Parameters of the path whose values are redacted in records; absent if empty.
    #[schema(required = false)]
    redact: Vec<String>,
}

/// The parts of the call arguments that are stored.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PayloadPolicy {
    /// Maximum number of bytes stored per call, query string and body together; 0 to store none; 65536 if omitted.
    #[schema(required = false, maximum = 262_144)]
    max_bytes: u32,
    /// Fields whose values are redacted before the arguments are stored.
    #[schema(required = false, max_items = 64)]
    redact: Vec<FieldPointer>,
}

/// The parts of the call arguments that are stored, before and after.
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
    /// Reason for the refusal; absent if the step did not refuse.
    #[schema(value_type = DenialCode, required = false)]
    reason: DenialCode,
    /// What the step checked, and the result. Contains no secrets.
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

/// A path with one method selector, and the scope that it requires.
#[derive(ToSchema)]
pub struct MappedRoute {
    path: Template,
    method: MethodSelector,
    scope: Scope,
    /// Whether the arguments of calls are stored; absent if true.
    #[schema(required = false)]
    payload: bool,
    /// Parameters of the path whose values are redacted in records; absent if empty.
    #[schema(required = false)]
    redact: Vec<String>,
}

/// A route that exists in both policies.
#[derive(ToSchema)]
pub struct ChangedRoute {
    path: Template,
    method: MethodSelector,
    /// Scope that the route requires, if different.
    #[schema(required = false)]
    scope: ChangedText,
    /// Whether call arguments are stored, if different.
    #[schema(required = false)]
    payload: ChangedFlag,
    /// Parameters of the path that are redacted in records, if different.
    #[schema(required = false)]
    redact: ChangedNames,
}

/// A string before and after.
#[derive(ToSchema)]
pub struct ChangedText {
    before: String,
    after: String,
}

/// A list of names, before and after.
#[derive(ToSchema)]
pub struct ChangedNames {
    before: Vec<String>,
    after: Vec<String>,
}

/// A flag, before and after.
#[derive(ToSchema)]
pub struct ChangedFlag {
    before: bool,
    after: bool,
}

/// Checks the limits in the derive attributes, which must be literals, against those of the code.
const _: () = assert!(MAX_LIMIT == 1_000_000 && MAX_SCOPES == 500 && MAX_ROUTES == 2_000);
const _: () = assert!(MAX_PAYLOAD_BYTES == 262_144 && MAX_REDACTED_FIELDS == 64);
