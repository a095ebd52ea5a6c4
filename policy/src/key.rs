//! The grammar of keys: `omf_live_` or `omf_test_`, 40 random base62 characters, 6 characters of checksum.
//!
//! The checksum is the CRC-32 (IEEE) of all characters before it, in base62 with leading zeros. A secret
//! scanner can verify it offline, and the filter rejects a mistyped key without computing a digest. With the
//! prefix `omf` a key has 55 characters, the maximum that fits into one SHA-256 block.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::digest::Digest;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const RANDOM_LENGTH: usize = 40;
const CHECKSUM_LENGTH: usize = 6;
/// Number of characters of a key after its environment, and of a control-plane token after its kind.
pub const SECRET_LENGTH: usize = RANDOM_LENGTH + CHECKSUM_LENGTH;
/// The part of a control-plane token in the place of a key's environment.
const TOKEN_KIND: &str = "token";

/// The prefix of all keys of an installation; `omf` by default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyPrefix(String);

/// The error for a prefix that is not 2 to 12 lower-case letters and digits, starting with a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key prefix must be 2 to 12 lowercase letters and digits, beginning with a letter")]
pub struct InvalidKeyPrefix;

/// The environment of a key, which selects the upstream. Test keys never reach live data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// Production.
    Live,
    /// Test.
    Test,
}

/// The error for a text other than `live` and `test`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an environment must be \"live\" or \"test\"")]
pub struct InvalidEnvironment;

/// The error for a credential that does not match the grammar of this installation's keys, or whose checksum
/// is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a key of this installation, or mistyped: the format or the checksum is invalid")]
pub struct MalformedKey;

/// The plaintext of a key or token. It is zeroized when dropped and not printed by `Debug`.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

// === impl KeyPrefix ===

impl KeyPrefix {
    /// Parses a prefix.
    pub fn parse(text: &str) -> Result<Self, InvalidKeyPrefix> {
        let fits = (2..=12).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if fits { Ok(Self(text.to_string())) } else { Err(InvalidKeyPrefix) }
    }

    /// The prefix without its underscore.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a credential is meant as a key of this installation: it starts with the prefix and `_`.
    pub fn claims(&self, credential: &[u8]) -> bool {
        credential.strip_prefix(self.0.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'_'))
    }

    /// Checks format and checksum of a key and returns its environment.
    pub fn check(&self, credential: &[u8]) -> Result<Environment, MalformedKey> {
        let after_prefix = credential
            .strip_prefix(self.0.as_bytes())
            .and_then(|rest| rest.strip_prefix(b"_"))
            .ok_or(MalformedKey)?;
        let (environment, body) = [Environment::Live, Environment::Test]
            .into_iter()
            .find_map(|environment| {
                let rest = after_prefix.strip_prefix(environment.as_str().as_bytes())?;
                Some((environment, rest.strip_prefix(b"_")?))
            })
            .ok_or(MalformedKey)?;
        if body.len() != SECRET_LENGTH || !body.iter().all(u8::is_ascii_alphanumeric) {
            return Err(MalformedKey);
        }
        let (covered, stated) =
            credential.split_at_checked(credential.len() - CHECKSUM_LENGTH).ok_or(MalformedKey)?;
        if checksum(covered) == *stated { Ok(environment) } else { Err(MalformedKey) }
    }
}

impl Default for KeyPrefix {
    fn default() -> Self {
        Self(String::from("omf"))
    }
}

impl TryFrom<String> for KeyPrefix {
    type Error = InvalidKeyPrefix;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<KeyPrefix> for String {
    fn from(prefix: KeyPrefix) -> Self {
        prefix.0
    }
}

// === impl Environment ===

impl Environment {
    /// Both environments.
    pub const ALL: [Self; 2] = [Self::Live, Self::Test];

    /// `live` or `test`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Environment {
    type Err = InvalidEnvironment;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "live" => Ok(Self::Live),
            "test" => Ok(Self::Test),
            _ => Err(InvalidEnvironment),
        }
    }
}

// === impl Secret ===

/// Compares digests, so that the time of a comparison does not reveal where two secrets differ.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.digest() == other.digest()
    }
}

impl Eq for Secret {}

impl Secret {
    /// The plaintext. Show it once, only to the person who requested it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The digest that is stored in place of the secret.
    pub fn digest(&self) -> Digest {
        Digest::of(self.0.as_bytes())
    }

    /// The last four random characters, by which people distinguish secrets. They are 24 of 238 random bits.
    pub fn hint(&self) -> String {
        let end = self.0.len().saturating_sub(CHECKSUM_LENGTH);
        self.0.get(end.saturating_sub(4)..end).unwrap_or_default().to_string()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

// === generation ===

/// Generates a new key. `random` yields independent, uniformly distributed bytes from the operating system.
pub fn compose_key(prefix: &KeyPrefix, environment: Environment, random: &mut impl FnMut() -> u8) -> Secret {
    compose(format!("{}_{environment}_", prefix.as_str()), random)
}

/// Generates a new control-plane token: `omf_token_`, 40 random characters, 6 characters of checksum.
pub fn compose_token(prefix: &KeyPrefix, random: &mut impl FnMut() -> u8) -> Secret {
    compose(format!("{}_{TOKEN_KIND}_", prefix.as_str()), random)
}

fn compose(head: String, random: &mut impl FnMut() -> u8) -> Secret {
    let mut text = Zeroizing::new(head);
    // Avoids reallocation, which would leave a copy of the secret in memory.
    text.reserve_exact(SECRET_LENGTH);
    let mut left = RANDOM_LENGTH;
    while left > 0 {
        // 248 is the largest multiple of 62 in a byte. Larger bytes are drawn again, so that all characters
        // are equally likely.
        let byte = random();
        if byte < 248
            && let Some(character) = ALPHABET.get(usize::from(byte % 62))
        {
            text.push(char::from(*character));
            left -= 1;
        }
    }
    let sum = checksum(text.as_bytes());
    text.extend(sum.iter().copied().map(char::from));
    Secret(text)
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_LENGTH] {
    let mut rest = crc32fast::hash(bytes);
    let mut digits = [b'0'; CHECKSUM_LENGTH];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET.get((rest % 62) as usize).copied().unwrap_or(b'0');
        rest /= 62;
    }
    digits
}

#[cfg(test)]
mod tests;
