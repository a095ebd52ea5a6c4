//! Keys in JSON.

use omniflow_policy::address::Allowlist;
use omniflow_policy::key::Environment;
use omniflow_policy::limit::RateLimit;
use omniflow_policy::scope::ScopeSet;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;
use zeroize::Zeroize;

use super::gateway::EnforcementJson;
use super::schema;
use super::time::Time;
use omniflow_domain::key::{KeyStatus, KeyVersion};
use omniflow_domain::key_details::KeyDetails;
use omniflow_domain::name::Name;

/// Body of `POST /v1/keys`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "name": "crm-sync", "environment": "live", "scopes": ["contacts:read", "tickets:write"],
    "rate_limit": {"per_minute": 600, "burst": 50}, "ip_allowlist": ["203.0.113.0/24"],
    "expires_at": "2099-01-31T00:00:00Z", "description": "Nightly CRM import",
}))]
pub struct CreateKey {
    /// Name of the key; must be unique.
    #[schema(value_type = schema::KeyName)]
    pub name: String,
    /// Environment in which the key is valid: `live` or `test`.
    #[schema(value_type = schema::Environment)]
    pub environment: String,
    /// Scopes that the key grants. The policy must define them.
    #[schema(value_type = schema::Scopes)]
    pub scopes: Vec<String>,
    /// Rate limits; 60 calls per minute if omitted.
    #[serde(default)]
    #[schema(value_type = Option<schema::RateLimit>)]
    pub rate_limit: Option<RateLimit>,
    /// Addresses and networks from which the key may be used; any if omitted or empty.
    #[serde(default)]
    #[schema(value_type = Option<schema::Networks>)]
    pub ip_allowlist: Option<Vec<String>>,
    /// When the key expires; if omitted, it never expires.
    #[serde(default)]
    #[schema(value_type = Option<schema::Instant>)]
    pub expires_at: Option<String>,
    /// Purpose of the key.
    #[serde(default)]
    #[schema(value_type = Option<schema::Description>)]
    pub description: Option<String>,
    /// SHA-256, in hexadecimal, of a key issued by another system. That key is imported, and no secret is generated.
    #[serde(default)]
    #[schema(value_type = Option<schema::Sha256>)]
    pub digest: Option<String>,
    /// Up to four characters of the imported key, shown to identify it.
    #[serde(default)]
    #[schema(value_type = Option<schema::Hint>)]
    pub hint: Option<String>,
}

/// Body of `PATCH /v1/keys/{id}`. Absent fields keep their values; null resets a field.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"rate_limit": {"per_hour": 1000}, "expires_at": null}))]
pub struct UpdateKey {
    /// Scopes that the key grants. Replaces the current list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Scopes>)]
    pub scopes: Option<Vec<String>>,
    /// Rate limits. Replaces all current limits; null restores the default.
    #[serde(default, deserialize_with = "stated", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::RateLimit>)]
    pub rate_limit: Option<Option<RateLimit>>,
    /// Addresses and networks from which the key may be used. Replaces the current list; null allows any address.
    #[serde(default, deserialize_with = "stated", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Networks>)]
    pub ip_allowlist: Option<Option<Vec<String>>>,
    /// When the key expires; null if it never expires.
    #[serde(default, deserialize_with = "stated", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Instant>)]
    pub expires_at: Option<Option<String>>,
    /// Purpose of the key; null to remove it.
    #[serde(default, deserialize_with = "stated", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Description>)]
    pub description: Option<Option<String>>,
}

/// Body of `POST /v1/keys/{id}/rotate`.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"overlap": "24h"}))]
pub struct RotateKey {
    /// How long earlier versions are still accepted; 24 hours if omitted.
    #[serde(default)]
    #[schema(value_type = Option<schema::Duration>)]
    pub overlap: Option<String>,
}

/// A key.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Key)]
pub struct KeyJson {
    /// Identifier of the key.
    #[schema(value_type = schema::Identifier)]
    pub id: Uuid,
    /// Name of the key.
    #[schema(value_type = schema::KeyName)]
    pub name: Name,
    /// Environment in which the key is valid.
    #[schema(value_type = schema::Environment)]
    pub environment: Environment,
    /// Status of the key.
    #[schema(value_type = schema::KeyStatus)]
    pub status: KeyStatus,
    /// Scopes that the key grants.
    #[schema(value_type = schema::Scopes)]
    pub scopes: ScopeSet,
    /// Rate limits of the key.
    #[schema(value_type = schema::RateLimit)]
    pub rate_limit: RateLimit,
    /// Networks from which the key may be used; empty if any address may use it.
    #[schema(value_type = schema::Networks)]
    pub ip_allowlist: Allowlist,
    /// Purpose of the key; null if not set.
    #[schema(value_type = Option<schema::Description>, required = true)]
    pub description: Option<String>,
    /// Name of the token that created the key.
    pub created_by: String,
    /// When the key was created.
    #[schema(value_type = schema::Instant)]
    pub created_at: Time,
    /// When the key expires; null if it never expires.
    #[schema(value_type = Option<schema::Instant>, required = true)]
    pub expires_at: Option<Time>,
    /// When a call with the key was last allowed; null if none was.
    #[schema(value_type = Option<schema::Instant>, required = true)]
    pub last_used_at: Option<Time>,
    /// When the key is due for rotation; null if rotation is not configured or no version is accepted.
    #[schema(value_type = Option<schema::Instant>, required = true)]
    pub rotation_due_at: Option<Time>,
    /// Versions of the key, oldest first.
    pub versions: Vec<KeyVersionJson>,
    /// Revision of the key. Each change increments it. The `ETag` header has the same value.
    pub revision: u64,
}

/// One version of a key.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = KeyVersion)]
pub struct KeyVersionJson {
    /// Version number.
    #[schema(minimum = 1)]
    pub id: u16,
    /// Last characters of the secret.
    #[schema(value_type = schema::Hint)]
    pub hint: String,
    /// When the version was created.
    #[schema(value_type = schema::Instant)]
    pub created_at: Time,
    /// When the version expires; null if it never expires.
    #[schema(value_type = Option<schema::Instant>, required = true)]
    pub expires_at: Option<Time>,
    /// When the version was revoked; null if it was not.
    #[schema(value_type = Option<schema::Instant>, required = true)]
    pub revoked_at: Option<Time>,
    /// When a call with the version was last allowed; null if none was.
    #[schema(value_type = Option<schema::Instant>, required = true)]
    pub last_used_at: Option<Time>,
}

/// A key that was created or rotated, with its secret. The secret is shown only once.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct CreatedKey {
    /// The key.
    pub key: KeyJson,
    /// The secret; absent if the key was imported.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = schema::Secret)]
    pub secret: Option<String>,
    /// Enforcement status of the change. Present only with `?wait=`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = EnforcementJson)]
    pub enforcement: Option<EnforcementJson>,
}

impl Drop for CreatedKey {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

/// A key after an update.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct UpdatedKey {
    /// The key.
    #[serde(flatten)]
    #[schema(inline)]
    pub key: KeyJson,
    /// Enforcement status of the change. Present only with `?wait=`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = EnforcementJson)]
    pub enforcement: Option<EnforcementJson>,
}

/// A key after a revocation.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RevokedKey {
    /// The key.
    pub key: KeyJson,
    /// Enforcement status of the change. Present only with `?wait=`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = EnforcementJson)]
    pub enforcement: Option<EnforcementJson>,
}

// === impl UpdateKey ===

impl UpdateKey {
    /// Whether the request changes nothing.
    pub fn is_empty(&self) -> bool {
        let Self { scopes, rate_limit, ip_allowlist, expires_at, description } = self;
        scopes.is_none()
            && rate_limit.is_none()
            && ip_allowlist.is_none()
            && expires_at.is_none()
            && description.is_none()
    }
}

// === impl KeyJson ===

impl From<KeyDetails> for KeyJson {
    fn from(details: KeyDetails) -> Self {
        let last_used_at = details.last_used_at().map(Time);
        let KeyDetails { key, status, rotation_due_at, last_used } = details;
        let version = |version: KeyVersion| KeyVersionJson {
            id: version.version,
            hint: version.hint,
            created_at: Time(version.created_at),
            expires_at: version.expires_at.map(Time),
            revoked_at: version.revoked_at.map(Time),
            last_used_at: last_used.get(&version.version).copied().map(Time),
        };
        Self {
            id: key.id,
            name: key.name,
            environment: key.environment,
            status,
            scopes: key.scopes,
            rate_limit: key.rate_limit,
            ip_allowlist: key.ip_allowlist,
            description: key.description,
            created_by: key.created_by,
            created_at: Time(key.created_at),
            expires_at: key.expires_at.map(Time),
            last_used_at,
            rotation_due_at: rotation_due_at.map(Time),
            versions: key.versions.into_iter().map(version).collect(),
            revision: key.revision,
        }
    }
}

/// Distinguishes a field that is null from one that is absent.
fn stated<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn absent_and_null_fields_of_an_update_stay_distinct() {
        let json =
            json!({"expires_at": null, "rate_limit": {"per_minute": 5, "per_hour": null, "burst": null}});
        let update: UpdateKey = serde_json::from_value(json.clone()).unwrap();
        assert_eq!((&update.expires_at, &update.description), (&Some(None), &None));
        assert_eq!(serde_json::to_value(&update).unwrap(), json);
        assert!(!update.is_empty() && UpdateKey::default().is_empty());
        assert_eq!(serde_json::to_value(UpdateKey::default()).unwrap(), json!({}));
    }

    #[test]
    fn a_key_is_read_as_it_was_written() {
        let json = json!({
            "id": "0190163d-8694-739b-aea5-966c26f8ad91", "name": "ci", "environment": "live", "status": "rotating",
            "scopes": ["contacts:read"], "rate_limit": {"per_minute": 60, "per_hour": null, "burst": null},
            "ip_allowlist": ["203.0.113.0/24"], "description": null, "created_by": "owner",
            "created_at": "2027-01-15T08:00:00.000Z", "expires_at": "2027-02-15T08:00:00.000Z", "last_used_at": null,
            "rotation_due_at": null, "revision": 2, "versions": [{
                "id": 1, "hint": "ab6M", "created_at": "2027-01-15T08:00:00.000Z", "expires_at": null,
                "revoked_at": null, "last_used_at": null,
            }],
        });
        let key: KeyJson = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(serde_json::to_value(&key).unwrap(), json);
        let mut wrong = json;
        wrong["name"] = json!("-");
        assert!(serde_json::from_value::<KeyJson>(wrong).is_err());
    }
}
