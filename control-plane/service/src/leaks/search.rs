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
use omniflow_domain::encoded_text::search;
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
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The versions whose secrets were found, by key.
    pub(super) keys: BTreeMap<Uuid, BTreeSet<u16>>,
    /// Distinct secrets that are well formed but belong to no key.
    pub(super) unknown: usize,
    /// Distinct texts that resemble a secret but are malformed.
    pub(super) malformed: usize,
    /// Whether everything that is encoded in the text was searched.
    pub(super) is_complete: bool,
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
        let mut found = Found { keys: BTreeMap::new(), unknown: 0, malformed: 0, is_complete: true };
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
        let (mut known, mut unknown, mut malformed) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        self.is_complete = search(text.as_bytes(), |view| {
            let text = Zeroizing::new(String::from_utf8_lossy(view.bytes()).into_owned());
            for candidate in find_keys(prefix, &text) {
                let secret = || Zeroizing::new(candidate.text.to_owned());
                let digest = Digest::of(candidate.text.as_bytes());
                match candidate.environment {
                    Ok(_) => {
                        known.insert(digest, secret());
                        if !self.note(image, &digest) {
                            unknown.insert(digest);
                        }
                    }
                    // Where lines were joined, another word may follow a truncated key.
                    Err(_) if view.is_joined() => {}
                    Err(_) => drop(malformed.insert(digest, secret())),
                }
            }
            for token in find_tokens(&text) {
                self.note(image, &Digest::of(token.as_bytes()));
            }
        });
        // The part of a key before a line break is not another key.
        let mut known: Vec<Zeroizing<String>> = known.into_values().collect();
        known.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        malformed.retain(|_, start: &mut Zeroizing<String>| {
            let next = known.partition_point(|key| key.as_str() < start.as_str());
            known.get(next).is_none_or(|key| !key.starts_with(start.as_str()))
        });
        (self.unknown, self.malformed) = (unknown.len(), malformed.len());
    }
}

#[cfg(test)]
mod tests {
    use omniflow_policy::key::{Environment, compose_key};
    use omniflow_policy::policy::PolicyDocument;

    use super::*;

    #[test]
    fn encoded_and_wrapped_keys_are_counted_once() {
        let image = Image::build(Uuid::nil(), 1, &PolicyDocument::default(), Vec::new()).unwrap();
        let prefix = KeyPrefix::default();
        let key = compose_key(&prefix, Environment::Live, &mut || 7).expose().to_owned();
        let (start, end) = key.split_at(40);
        for text in [
            key.clone(),
            format!("{key} {}", key.replace('_', "%5F")),
            format!("{start}\n{end}\nGET"),
            format!("{}\n{key}", &key[..45]),
        ] {
            let found = SearchTerms::Text(Zeroizing::new(text.clone())).find(&image, &prefix).unwrap();
            assert_eq!((found.unknown, found.malformed, found.is_complete), (1, 0, true), "{text}");
        }
        let cut = SearchTerms::Text(Zeroizing::new(format!("{start}\nGET"))).find(&image, &prefix).unwrap();
        assert_eq!((cut.unknown, cut.malformed), (0, 1));
    }
}
