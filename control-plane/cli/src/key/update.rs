//! `omf key update`.

use std::str::FromStr;

use anyhow::bail;
use clap::{ArgGroup, Args};
use omniflow_api_types::key::{KeyJson, UpdateKey, UpdatedKey};
use omniflow_api_types::values::RateLimit;

use super::resource::{describe, path};
use crate::args::Wait;
use crate::client::{Call, Client, Method};
use crate::output::{Answer, Output, report_enforcement};

/// Arguments of `omf key update`.
#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("limits").args(["per_minute", "per_hour", "burst"]).multiple(true).conflicts_with("default_limits")),
    after_help = "Examples:\n  \
    omf key update ci --scope contacts:read --scope tickets:read\n  \
    omf key update ci --per-minute 600 --burst 100\n  \
    omf key update ci --per-minute none --per-hour 5000\n  \
    omf key update ci --allow 203.0.113.0/24 --expires-at 2027-12-31T00:00:00Z\n  \
    omf key update ci --allow-any --no-expiry --description ''\n\n\
    Settings without an option do not change. --scope and --allow replace the whole list: include the values to keep.\n\
    Gateways enforce the change within milliseconds; --wait 5s waits for all of them."
)]
pub struct Update {
    /// Name or ID of the key.
    key: String,
    /// Scope of the key; can be repeated, and replaces all current scopes.
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// Sustained calls per minute, or none for no limit.
    #[arg(long, value_name = "CALLS")]
    per_minute: Option<Limit>,
    /// Sustained calls per hour, or none for no limit.
    #[arg(long, value_name = "CALLS")]
    per_hour: Option<Limit>,
    /// Burst size in calls, or none to use the limit itself.
    #[arg(long, value_name = "CALLS")]
    burst: Option<Limit>,
    /// Reset the limits to those of a new key.
    #[arg(long)]
    default_limits: bool,
    /// IP address or network that may use the key; can be repeated.
    #[arg(long = "allow", value_name = "NETWORK", conflicts_with = "allow_any")]
    ip_allowlist: Vec<String>,
    /// Allow the key from any IP address.
    #[arg(long)]
    allow_any: bool,
    /// Time when the key expires, such as 2027-01-31T00:00:00Z.
    #[arg(long, value_name = "TIME", conflicts_with = "no_expiry")]
    expires_at: Option<String>,
    /// Remove the expiry.
    #[arg(long)]
    no_expiry: bool,
    /// Description of the key; empty to remove it.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Update only if the key still has this revision (see omf key show).
    ///
    /// This prevents overwriting a concurrent change by another admin.
    #[arg(long, value_name = "REVISION")]
    if_match: Option<u64>,
    #[command(flatten)]
    wait: Wait,
}

/// A new limit; `None` removes the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit(Option<u32>);

pub(super) fn run(args: Update, client: &Client, output: Output) -> anyhow::Result<()> {
    let mut changes = args.changes();
    let mut if_match = args.if_match;
    if args.sets_limits() {
        // The API replaces all limits, so the unnamed ones come from the key, on the condition that its revision is unchanged.
        let key: KeyJson = client.get(&path(&args.key), &[])?.body;
        if_match = if_match.or(Some(key.revision));
        changes.rate_limit = Some(Some(args.merged(key.rate_limit)));
    }
    if changes.is_empty() {
        bail!(
            "nothing to change: set an option such as --scope, --per-minute, --allow, --expires-at or --description"
        );
    }
    let call = Call::new(Method::PATCH, &path(&args.key)).if_match(if_match);
    let call = call.query(&[args.wait.parameter()]);
    let updated: Answer<UpdatedKey> = client.send(call.json(&changes)?)?;
    output.print(&updated, |updated| describe(&updated.key))?;
    report_enforcement(updated.body.enforcement.as_ref(), output)
}

// === impl Update ===

impl Update {
    /// The fields to change; null clears a field.
    fn changes(&self) -> UpdateKey {
        let sets_addresses = self.allow_any || !self.ip_allowlist.is_empty();
        UpdateKey {
            scopes: Some(self.scopes.clone()).filter(|scopes| !scopes.is_empty()),
            rate_limit: self.default_limits.then_some(None),
            ip_allowlist: sets_addresses.then(|| Some(self.ip_allowlist.clone())),
            expires_at: (self.no_expiry || self.expires_at.is_some()).then(|| self.expires_at.clone()),
            description: self.description.clone().map(Some),
        }
    }

    fn sets_limits(&self) -> bool {
        self.per_minute.is_some() || self.per_hour.is_some() || self.burst.is_some()
    }

    /// The present limits, replaced by those that are set.
    fn merged(&self, present: RateLimit) -> RateLimit {
        let merged = |named: Option<Limit>, present| named.map_or(present, |Limit(limit)| limit);
        RateLimit {
            per_minute: merged(self.per_minute, present.per_minute),
            per_hour: merged(self.per_hour, present.per_hour),
            burst: merged(self.burst, present.burst),
        }
    }
}

// === impl Limit ===

impl FromStr for Limit {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self(None)),
            number => number
                .parse()
                .map(|limit| Self(Some(limit)))
                .map_err(|_| "must be a whole number of calls, or none"),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::{Value, json};

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        update: Update,
    }

    fn changes(line: &str) -> Value {
        let words = ["update", "ci"].into_iter().chain(line.split_whitespace());
        serde_json::to_value(Line::try_parse_from(words).unwrap().update.changes()).unwrap()
    }

    #[test]
    fn only_named_settings_are_sent() {
        assert_eq!(changes(""), json!({}));
        assert_eq!(changes("--scope a:b --scope c:d"), json!({"scopes": ["a:b", "c:d"]}));
        let cleared = json!({"rate_limit": null, "ip_allowlist": [], "expires_at": null, "description": "x"});
        assert_eq!(changes("--default-limits --allow-any --no-expiry --description x"), cleared);
    }

    #[test]
    fn unnamed_limits_do_not_change() {
        let present = RateLimit { per_minute: Some(3), per_hour: Some(100), burst: None };
        for (line, expected) in [
            ("--per-minute 50", json!({"per_minute": 50, "per_hour": 100, "burst": null})),
            ("--burst 4", json!({"per_minute": 3, "per_hour": 100, "burst": 4})),
            ("--per-minute none --burst 2", json!({"per_minute": null, "per_hour": 100, "burst": 2})),
        ] {
            let words = ["update", "ci"].into_iter().chain(line.split_whitespace());
            let update = Line::try_parse_from(words).unwrap().update;
            assert!(update.sets_limits());
            assert_eq!(serde_json::to_value(update.merged(present)).unwrap(), expected, "{line}");
        }
        assert!(Line::try_parse_from(["update", "ci", "--burst", "5/m"]).is_err());
    }

    #[test]
    fn contradicting_options_are_rejected() {
        for line in ["--burst 5 --default-limits", "--allow ::1 --allow-any", "--expires-at x --no-expiry"] {
            let words = ["update", "ci"].into_iter().chain(line.split_whitespace());
            assert!(Line::try_parse_from(words).is_err(), "{line}");
        }
    }
}
