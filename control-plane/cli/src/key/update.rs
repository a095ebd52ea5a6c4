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
    What is not named stays as it is. Scopes and addresses are set all of them anew: name those that are to stay as\n\
    well. Gateways enforce it within moments; --wait 5s waits for all of them."
)]
pub struct Update {
    /// Name or identifier.
    key: String,
    /// What the key may do; repeat it for more.
    #[arg(long = "scope")]
    scopes: Vec<String>,
    /// Calls a minute, sustained; none for no such limit.
    #[arg(long)]
    per_minute: Option<Limit>,
    /// Calls an hour, sustained; none for no such limit.
    #[arg(long)]
    per_hour: Option<Limit>,
    /// Calls at once; none for as many as the limit itself.
    #[arg(long)]
    burst: Option<Limit>,
    /// The limits that a key has for which none are given.
    #[arg(long)]
    default_limits: bool,
    /// An address or network from which the key may be used; repeat it for more.
    #[arg(long = "allow", conflicts_with = "allow_any")]
    ip_allowlist: Vec<String>,
    /// The key may be used from anywhere.
    #[arg(long)]
    allow_any: bool,
    /// When the key ends, such as 2027-01-31T00:00:00Z.
    #[arg(long, conflicts_with = "no_expiry")]
    expires_at: Option<String>,
    /// The key does not end.
    #[arg(long)]
    no_expiry: bool,
    /// What the key is for; empty for nothing.
    #[arg(long)]
    description: Option<String>,
    /// Only if the key is still at this revision, as omf key show tells it: so that you do not overwrite what another
    /// admin has changed in between.
    #[arg(long)]
    if_match: Option<u64>,
    #[command(flatten)]
    wait: Wait,
}

/// A limit that is set, or taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit(Option<u32>);

pub(super) fn run(args: Update, client: &Client, output: Output) -> anyhow::Result<()> {
    let mut changes = args.changes();
    let mut if_match = args.if_match;
    if args.sets_limits() {
        // The API takes limits as a whole: those that are not named come from the key, if nobody changes it meanwhile.
        let key: KeyJson = client.get(&path(&args.key), &[])?.body;
        if_match = if_match.or(Some(key.revision));
        changes.rate_limit = Some(Some(args.merged(key.rate_limit)));
    }
    if changes.is_empty() {
        bail!(
            "nothing to change: give --scope, --per-minute, --allow, --expires-at, --description or the like"
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
    /// The fields that are named, null for those that are cleared.
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

    /// These limits with those that are named in their place.
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
                .map_err(|_| "a limit is a whole number of calls, or none"),
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
    fn only_what_is_named_is_sent() {
        assert_eq!(changes(""), json!({}));
        assert_eq!(changes("--scope a:b --scope c:d"), json!({"scopes": ["a:b", "c:d"]}));
        let cleared = json!({"rate_limit": null, "ip_allowlist": [], "expires_at": null, "description": "x"});
        assert_eq!(changes("--default-limits --allow-any --no-expiry --description x"), cleared);
    }

    #[test]
    fn limits_that_are_not_named_stay() {
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
    fn what_contradicts_itself_is_refused() {
        for line in ["--burst 5 --default-limits", "--allow ::1 --allow-any", "--expires-at x --no-expiry"] {
            let words = ["update", "ci"].into_iter().chain(line.split_whitespace());
            assert!(Line::try_parse_from(words).is_err(), "{line}");
        }
    }
}
