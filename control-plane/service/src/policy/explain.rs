//! The decision on one request, step by step, by the code that gateways run.

use std::net::IpAddr;
use std::sync::Arc;

use omniflow_domain::error::{Error, ErrorCode, Facts, Missing};
use omniflow_domain::key::{Key, KeyVersion};
use omniflow_domain::policy::Explanation;
use omniflow_domain::principal::Principal;
use omniflow_domain::time::parse_time;
use omniflow_policy::address::parse_source_address;
use omniflow_policy::authorize::{
    Call, CredentialView, Decision, GatewaySettings, INTROSPECTION_PATH, Request, authorize, authorize_named,
};
use omniflow_policy::credential::{find_credential, find_method};
use omniflow_policy::denial::Outcome;
use omniflow_policy::explain::explain;
use omniflow_policy::limit::{INTROSPECTION_LIMIT, LimitDecision, LimitState, RateLimit};
use omniflow_policy::policy::Policy;
use omniflow_policy::snapshot::Image;
use omniflow_policy::time::{MonotonicNanos, UnixMillis};

use super::Policies;
use super::document::Draft;
use crate::publication::NumberedPolicy;
use omniflow_domain::key::KeyReference;
use omniflow_store::Store;

/// Maximum number of calls that are charged to the limits before the explained one.
const MAX_CALLS_BEFORE: u32 = 100_000;
/// When these calls were made: any instant is suitable.
const SOME_INSTANT: MonotonicNanos = MonotonicNanos(1_000_000_000_000);

/// A request to explain, either with the key named by `key` or with the credential in `headers`. It may contain a
/// secret, so it does not implement `Debug`.
#[derive(Default)]
pub struct Explain {
    /// Name or identifier of a key.
    pub key: Option<KeyReference>,
    /// The version of the key; by default, the newest accepted one.
    pub version: Option<u16>,
    /// Name and value of each header, in place of a key. Requires a principal that may write.
    pub headers: Option<Vec<(String, String)>>,
    /// The method.
    pub method: String,
    /// The path, with its query string if it has one.
    pub path: String,
    /// The client's address; unknown if absent.
    pub source_ip: Option<IpAddr>,
    /// When the request is made; now if absent.
    pub at: Option<UnixMillis>,
    /// Number of calls that the key has made at that moment; limits are not checked if absent.
    pub calls_before: Option<u32>,
    /// A draft, in place of the effective policy.
    pub draft: Option<Draft>,
}

impl Policies {
    /// Explains the decision on one request.
    ///
    /// Fails with `forbidden` if headers are stated by a principal that may not write, with `invalid_field`, and with
    /// `key_not_published` while the key is being published.
    pub async fn explain(&self, principal: &Principal, request: Explain) -> Result<Explanation, Error> {
        if request.headers.is_some() && !principal.may_write() {
            let detail = "Only tokens with the role owner or admin may send headers, because headers could be used to guess credentials. Send key instead, with the name or ID of the key.";
            return Err(Error::forbidden(detail));
        }
        let (policy, version) = self.draft_or_current(request.draft).await?;
        let settings = default_settings();
        let pairs = request.headers.iter().flatten().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let method = find_method(pairs.clone(), request.method.as_bytes(), settings.method_override);
        let target = Request {
            method: request.method.as_bytes(),
            is_method_overridden: method.is_err(),
            target: request.path.as_bytes(),
            source: request.source_ip,
            now: request.at.unwrap_or_else(|| self.clock.now()),
        };
        let version_of_key = match &request.key {
            Some(key) => Some(version_of(&*self.store, key, request.version, target.now).await?),
            None => None,
        };
        // After the key was read, so that the image contains it.
        let image = self.publisher.publication.image()?;
        let (decision, credential) = match (version_of_key, &request.headers) {
            (Some(_), Some(_)) => {
                return Err(Error::invalid_field(
                    "/headers",
                    "specify either key or headers with a credential, not both",
                ));
            }
            (Some(version), None) => {
                let credential = credential(&image, &version)?;
                (authorize_named(&policy, &settings, &target, credential, version.imported), None)
            }
            (None, _) => {
                if request.version.is_some() {
                    return Err(Error::invalid_field(
                        "/version",
                        "version requires key: specify the key that has this version, or omit version",
                    ));
                }
                let credential = find_credential(pairs, policy.key_prefix(), settings.credential_header);
                let call = Call { credential, request: target };
                (authorize(&policy, &settings, &call, |digest| image.find(digest)), Some(call.credential))
            }
        };
        let limit = limit(&decision, request.calls_before)?;
        let steps = explain(&policy, credential, &target, &decision, limit.as_ref());
        Ok(Explanation::new(&decision, limit.as_ref(), version, steps))
    }

    /// The draft, if there is one, or else the effective policy and its version.
    async fn draft_or_current(&self, draft: Option<Draft>) -> Result<(Arc<Policy>, Option<u64>), Error> {
        let NumberedPolicy { version, policy: current } = self.current()?;
        match draft {
            Some(draft) => Ok((Arc::new(draft.compile(current.key_prefix()).await?), None)),
            None => Ok((current, Some(version))),
        }
    }
}

/// The settings of a gateway with its defaults.
pub(super) fn default_settings() -> GatewaySettings {
    GatewaySettings { introspection_path: Some(INTROSPECTION_PATH.to_owned()), ..GatewaySettings::default() }
}

/// Reads [`Explain::source_ip`].
pub fn source_ip(text: &str) -> Result<IpAddr, Error> {
    let wrong = || Error::invalid_field("/source_ip", "source_ip must be an address such as 203.0.113.7");
    parse_source_address(text.as_bytes()).ok_or_else(wrong)
}

/// Reads [`Explain::at`].
pub fn instant(text: &str) -> Result<UnixMillis, Error> {
    let wrong = || Error::invalid_field("/at", "at must be a time such as 2027-01-31T00:00:00Z");
    parse_time(text).ok_or_else(wrong)
}

/// The requested version of the key, or else the newest that is accepted at `at`, or else the newest.
async fn version_of(
    store: &dyn Store,
    key: &KeyReference,
    stated: Option<u16>,
    at: UnixMillis,
) -> Result<KeyVersion, Error> {
    let no_key = || {
        Error::invalid_field("/key", "no key has this identifier or name").about(Facts::Missing(Missing::Key))
    };
    let key: Key = store.key(key).await?.ok_or_else(no_key)?;
    let version = match stated {
        Some(stated) => key.versions.iter().find(|version| version.version == stated),
        None => key.newest_accepted(at).or(key.versions.last()),
    };
    version.cloned().ok_or_else(|| Error::invalid_field("/version", "the key has no such version"))
}

/// The version, as gateways have it.
fn credential<'i>(image: &'i Image, version: &KeyVersion) -> Result<CredentialView<'i>, Error> {
    // A key is published before its response is sent, but this request may have read the key in between.
    image
        .find(&version.digest)
        .ok_or_else(|| Error::new(ErrorCode::KeyNotPublished, "The key is still being published. Try again."))
}

/// The decision of the limits after `before` simultaneous calls; `None` if `before` is absent.
fn limit(decision: &Decision<'_, '_>, before: Option<u32>) -> Result<Option<LimitDecision>, Error> {
    let Some(before) = before else { return Ok(None) };
    if before > MAX_CALLS_BEFORE {
        let detail = format!("calls_before must be at most {MAX_CALLS_BEFORE}");
        return Err(Error::invalid_field("/calls_before", detail));
    }
    let charged = decision.credential.filter(|_| decision.outcome == Outcome::Allowed);
    Ok(charged.map(|credential| {
        after(if decision.is_introspection { &INTROSPECTION_LIMIT } else { &credential.rate_limit }, before)
    }))
}

fn after(rate_limit: &RateLimit, calls: u32) -> LimitDecision {
    let mut state = LimitState::default();
    for _ in 0..calls {
        match rate_limit.charge(state, SOME_INSTANT) {
            LimitDecision::Admitted { state: next, .. } => state = next,
            // A refused call costs nothing, so all further calls have the same outcome.
            refused @ LimitDecision::Refused { .. } => return refused,
        }
    }
    rate_limit.charge(state, SOME_INSTANT)
}
