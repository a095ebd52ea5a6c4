//! Searches a report for secrets of keys. Secrets do not leave this module: its results are keys and versions.

use std::collections::{BTreeMap, BTreeSet};

use omniflow_policy::digest::Digest;
use omniflow_policy::key::KeyPrefix;
use omniflow_policy::scan::{find_keys, find_tokens};
use omniflow_policy::snapshot::Image;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::MAX_KEYS;
use crate::fields;
use omniflow_domain::error::Error;

/// Where to search for secrets. It contains them, so it does not implement `Debug`.
pub enum SearchTerms {
    /// One secret.
    Secret(Zeroizing<String>),
    /// The SHA-256 of one.
    Digest(Digest),
    /// All secrets in a text.
    Text(Zeroizing<String>),
}

/// The result of a search.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The versions whose secrets were found, by key.
    pub(super) keys: BTreeMap<Uuid, BTreeSet<u16>>,
    /// Distinct secrets that are well formed but belong to no key.
    pub(super) unknown: usize,
    /// Distinct texts that resemble a secret but are malformed.
    pub(super) malformed: usize,
}

// === impl SearchTerms ===

impl SearchTerms {
    /// Reads exactly one of the three.
    ///
    /// # Errors
    ///
    /// `invalid_field` if there is not exactly one, or the digest is invalid.
    pub fn read(secret: Option<String>, digest: Option<String>, text: Option<String>) -> Result<Self, Error> {
        let (secret, text) = (secret.map(Zeroizing::new), text.map(Zeroizing::new));
        match (secret, digest.as_deref().map(fields::digest).transpose()?, text) {
            (Some(secret), None, None) => Ok(Self::Secret(secret)),
            (None, Some(digest), None) => Ok(Self::Digest(digest)),
            (None, None, Some(text)) => Ok(Self::Text(text)),
            _ => Err(Error::invalid_field("/secret", "send exactly one of secret, digest and text")),
        }
    }

    /// Looks up all secrets in the published image, which has every version of every key.
    pub(super) fn find(&self, image: &Image, prefix: &KeyPrefix) -> Result<Found, Error> {
        let mut found = Found::default();
        match self {
            Self::Digest(digest) => found.unknown = usize::from(!found.note(image, digest)),
            Self::Secret(secret) => {
                if !found.note(image, &Digest::of(secret.as_bytes())) {
                    let is_well_formed = prefix.check(secret.as_bytes()).is_ok();
                    found.unknown = usize::from(is_well_formed);
                    found.malformed = usize::from(!is_well_formed);
                }
            }
            Self::Text(text) => found.search(image, prefix, text),
        }
        if found.keys.len() > MAX_KEYS {
            let detail =
                format!("the text contains more than {MAX_KEYS} keys: split it into several requests");
            return Err(Error::invalid_field("/text", detail));
        }
        Ok(found)
    }
}

// === impl Found ===

impl Found {
    /// Adds the version with this digest, if there is one.
    fn note(&mut self, image: &Image, digest: &Digest) -> bool {
        let Some(credential) = image.find(digest) else { return false };
        self.keys.entry(credential.key_id).or_default().insert(credential.version);
        true
    }

    fn search(&mut self, image: &Image, prefix: &KeyPrefix, text: &str) {
        let (mut unknown, mut malformed) = (BTreeSet::new(), BTreeSet::new());
        for anomaly in find_keys(prefix, text) {
            let digest = Digest::of(anomaly.text.as_bytes());
            match anomaly.environment {
                Ok(_) if self.note(image, &digest) => {}
                Ok(_) => drop(unknown.insert(digest)),
                Err(_) => drop(malformed.insert(digest)),
            }
        }
        for token in find_tokens(text) {
            self.note(image, &Digest::of(token.as_bytes()));
        }
        (self.unknown, self.malformed) = (unknown.len(), malformed.len());
    }
}
