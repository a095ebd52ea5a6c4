//! The grammar of a key: `omf_live_` or `omf_test_`, 40 random base62 characters, 6 of checksum.
//!
//! The checksum is the CRC-32 (IEEE) of all characters before it, in base62 with leading zeros. It lets a
//! scanner tell a real key from a look-alike without asking anyone, and lets the filter refuse a mistyped key
//! without a digest. With the prefix `omf` a key is 55 characters, which is the most that one SHA-256 block holds.

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
/// The characters of a key behind its environment.
pub(crate) const BODY_LENGTH: usize = RANDOM_LENGTH + CHECKSUM_LENGTH;
/// The word that stands where a key has its environment, in a token for the control plane itself.
const TOKEN_KIND: &str = "token";

/// The installation's prefix of all keys, `omf` unless the operator chose another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyPrefix(String);

/// A prefix that is not 2 to 12 lower-case letters and digits, beginning with a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key prefix is 2 to 12 lower-case letters and digits and begins with a letter")]
pub struct InvalidKeyPrefix;

/// Which upstream a key reaches. Test keys never reach live data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// Production.
    Live,
    /// The test view.
    Test,
}

/// A word other than `live` and `test`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an environment is \"live\" or \"test\"")]
pub struct InvalidEnvironment;

/// A credential that has not the form of a key of this installation, or whose checksum does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a key of this installation, or mistyped: the form or the checksum is wrong")]
pub struct MalformedKey;

/// The plain text of a key or token. It is wiped from memory when dropped and never printed by `Debug`.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

// === impl KeyPrefix ===

impl KeyPrefix {
    /// Reads a prefix.
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

    /// Whether a credential means to be a key of this installation: it begins with the prefix and `_`.
    pub fn claims(&self, credential: &[u8]) -> bool {
        credential.strip_prefix(self.0.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'_'))
    }

    /// Checks form and checksum of a key and tells its environment.
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
        if body.len() != BODY_LENGTH || !body.iter().all(u8::is_ascii_alphanumeric) {
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

/// By their digests: the time it takes tells nothing of where two secrets differ.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.digest() == other.digest()
    }
}

impl Eq for Secret {}

impl Secret {
    /// The plain text. Show it once, to the person who asked for it, and to nobody else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is stored in place of the secret.
    pub fn digest(&self) -> Digest {
        Digest::of(self.0.as_bytes())
    }

    /// The last four random characters, by which a person tells two secrets apart. 24 of 238 bits.
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

// === composing ===

/// Makes a new key. `random` yields independent, uniformly distributed bytes from the operating system.
pub fn compose_key(prefix: &KeyPrefix, environment: Environment, random: &mut impl FnMut() -> u8) -> Secret {
    compose(format!("{}_{environment}_", prefix.as_str()), random)
}

/// Makes a new token for the control plane: `omf_token_`, 40 random characters, 6 of checksum.
pub fn compose_token(prefix: &KeyPrefix, random: &mut impl FnMut() -> u8) -> Secret {
    compose(format!("{}_{TOKEN_KIND}_", prefix.as_str()), random)
}

fn compose(head: String, random: &mut impl FnMut() -> u8) -> Secret {
    let mut text = Zeroizing::new(head);
    // No reallocation on the way: a moved buffer would leave a copy of the secret behind.
    text.reserve_exact(BODY_LENGTH);
    let mut left = RANDOM_LENGTH;
    while left > 0 {
        // 248 is the largest multiple of 62 in a byte; what lies above is drawn again, so that no character is
        // likelier than another.
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
mod tests {
    #[cfg(target_family = "wasm")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use proptest::prelude::*;

    use super::*;

    fn counting() -> impl FnMut() -> u8 {
        let mut next = 0u8;
        move || {
            next = next.wrapping_add(89);
            next
        }
    }

    #[test]
    fn a_composed_key_has_the_stated_form() {
        let prefix = KeyPrefix::default();
        for environment in [Environment::Live, Environment::Test] {
            let key = compose_key(&prefix, environment, &mut counting());
            assert_eq!(key.expose().len(), 55);
            assert!(key.expose().starts_with(&format!("omf_{environment}_")));
            assert_eq!(prefix.check(key.expose().as_bytes()), Ok(environment));
            assert_eq!(key.hint().len(), 4);
            assert_eq!(format!("{key:?}"), "Secret(redacted)");
        }
    }

    #[test]
    fn a_known_key_keeps_its_checksum() {
        // Golden: keys in the field must stay valid. Python's zlib.crc32 of the first 49 characters is 0x778AE773.
        let covered = "omf_live_abcdefghijklmnopqrstuvwxyz0123456789ABCD";
        let key = format!("{covered}2BjG4p");
        assert_eq!(checksum(covered.as_bytes()), *b"2BjG4p");
        assert_eq!(KeyPrefix::default().check(key.as_bytes()), Ok(Environment::Live));
    }

    #[test]
    fn neighbours_of_a_key_are_refused() {
        let prefix = KeyPrefix::default();
        let key = compose_key(&prefix, Environment::Live, &mut counting());
        let text = key.expose();
        let variants = [
            String::new(),
            format!("{text}x"),
            format!("x{text}"),
            format!(" {text}"),
            format!("{text} "),
            text.to_uppercase(),
            text.to_lowercase(),
            text.replacen("live", "test", 1),
            text.replacen("omf", "abc", 1),
            text[..54].to_string(),
            key.digest().to_hex(),
            text.replacen("omf_", "omf__", 1),
            format!("{}\u{0}", &text[..54]),
        ];
        for variant in variants {
            assert_eq!(prefix.check(variant.as_bytes()), Err(MalformedKey), "{variant:?}");
        }
        let token = compose_token(&prefix, &mut counting());
        assert_eq!(prefix.check(token.expose().as_bytes()), Err(MalformedKey), "a token is no key");
    }

    #[test]
    fn prefixes() {
        for good in ["omf", "a1", "acmecorp0123"] {
            assert!(KeyPrefix::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "OMF", "1a", "a_b", "abcdefghijklm", "ä1"] {
            assert_eq!(KeyPrefix::parse(bad), Err(InvalidKeyPrefix), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_one_character_changed_is_refused(seed: u8, at in 0usize..55, to: u8) {
            let mut next = seed;
            let key = compose_key(&KeyPrefix::default(), Environment::Test, &mut || {
                next = next.wrapping_mul(181).wrapping_add(97);
                next
            });
            let mut bytes = key.expose().as_bytes().to_vec();
            prop_assume!(bytes[at] != to);
            bytes[at] = to;
            prop_assert_eq!(KeyPrefix::default().check(&bytes), Err(MalformedKey));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = KeyPrefix::default().check(&bytes);
        }
    }
}
