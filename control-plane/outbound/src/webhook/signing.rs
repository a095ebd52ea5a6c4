//! Symmetric signatures of the Standard Webhooks specification, version 1.0.0
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>), by which receivers
//! verify webhooks with libraries that exist for most languages.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use ring::hmac;
use zeroize::Zeroizing;

use crate::http_sink::{SecretFileError, read_secret_file};

/// Header with the ID of the message, which is the same for each attempt to deliver it.
pub const ID: HeaderName = HeaderName::from_static("webhook-id");
/// Header with the time of the attempt, in seconds since 1970.
pub const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
/// Header with the signature of ID, time and body.
pub const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
/// The prefix of an encoded secret.
const PREFIX: &str = "whsec_";
/// Length of a decoded secret in bytes, as specified.
const SECRET_BYTES: RangeInclusive<usize> = 24..=64;
/// How to generate a secret, for errors.
const GENERATE: &str = "generate one with (umask 077 && echo \"whsec_$(openssl rand -base64 32)\" > FILE)";

/// The key that signs webhooks.
pub struct SigningKey(hmac::Key);

/// Why the secret of a webhook is not usable. Messages never contain the secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read, or has unsafe permissions.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// The file contains something else.
    #[error("{}: not a Standard Webhooks secret ({PREFIX} and Base64); {GENERATE}", .0.display())]
    Malformed(PathBuf),
    /// The secret is too short to be safe, or longer than receivers accept.
    #[error(
        "{}: the secret has {bytes} bytes instead of {} to {}; {GENERATE}",
        path.display(),
        SECRET_BYTES.start(),
        SECRET_BYTES.end()
    )]
    Length {
        /// Path of the file.
        path: PathBuf,
        /// Length of the decoded secret.
        bytes: usize,
    },
}

impl SigningKey {
    /// Reads the secret in a file. White space around it is ignored.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read, has unsafe permissions, or does not contain a secret.
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let text = read_secret_file(path)?;
        let malformed = || SecretError::Malformed(path.to_owned());
        let encoded = text.trim().strip_prefix(PREFIX).ok_or_else(malformed)?;
        let secret = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| malformed())?);
        if !SECRET_BYTES.contains(&secret.len()) {
            return Err(SecretError::Length { path: path.to_owned(), bytes: secret.len() });
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &secret)))
    }

    /// The headers of one attempt to deliver a message. `id` must not contain a full stop, which separates it from the
    /// time.
    pub(super) fn headers(&self, id: &str, seconds: u64, body: &[u8]) -> HeaderMap {
        let seconds = seconds.to_string();
        let signature = self.signature(id, &seconds, body);
        let values = [(ID, id), (TIMESTAMP, seconds.as_str()), (SIGNATURE, signature.as_str())];
        // All three are ASCII without control characters.
        let values = values.map(|(name, value)| HeaderValue::from_str(value).ok().map(|value| (name, value)));
        values.into_iter().flatten().collect()
    }

    fn signature(&self, id: &str, seconds: &str, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        for part in [id.as_bytes(), b".", seconds.as_bytes(), b".", body] {
            context.update(part);
        }
        format!("v1,{}", STANDARD.encode(context.sign()))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SigningKey")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    fn file(text: &str) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("webhook-secret");
        omniflow_files::private::write_private(&path, text).unwrap();
        (folder, path)
    }

    fn read(text: &str) -> Result<SigningKey, SecretError> {
        let (_folder, path) = file(text);
        SigningKey::read(&path)
    }

    #[test]
    fn the_signature_is_that_of_the_reference_implementations() {
        // The test vector of the libraries in the repository of the specification, such as
        // libraries/javascript/src/webhook.test.ts.
        let key = read(" whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let headers = key.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        let expected = [
            ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("webhook-timestamp", "1614265330"),
            ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        ];
        assert_eq!(headers.len(), expected.len());
        for (name, value) in expected {
            assert_eq!(headers[name], value, "{name}");
        }
    }

    #[test]
    fn a_secret_has_24_to_64_bytes() {
        let secret = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![0xfb; bytes]));
        for bytes in [24, 32, 64] {
            assert!(read(&secret(bytes)).is_ok(), "{bytes}");
        }
        for bytes in [0, 16, 23, 65] {
            let error = read(&secret(bytes)).unwrap_err().to_string();
            assert!(error.contains(&format!("the secret has {bytes} bytes instead of 24 to 64")), "{error}");
            assert!(error.contains("openssl rand -base64 32"), "{error}");
        }
    }

    #[test]
    fn anything_but_a_secret_is_rejected_and_not_repeated() {
        let encoded = STANDARD.encode([0xfb; 32]);
        for text in [
            String::new(),
            "0123456789abcdef0123456789abcdef".to_owned(),
            encoded.clone(),
            format!("whsk_{encoded}"),
            format!("WHSEC_{encoded}"),
            format!("whsec_ {encoded}"),
            format!("whsec_{encoded}\nwhsec_{encoded}"),
            format!("whsec_{}", encoded.replace('+', "-").replace('/', "_")),
            format!("whsec_{}", encoded.trim_end_matches('=')),
        ] {
            let error = read(&text).unwrap_err();
            assert!(matches!(error, SecretError::Malformed(_)), "{text:?}: {error}");
            let error = error.to_string();
            assert!(error.contains("openssl rand -base64 32"), "{error}");
            assert!(!error.contains(&encoded[..8]) && !error.contains("0123"), "{error}");
        }
    }

    #[test]
    fn a_secret_that_everybody_can_read_is_rejected() {
        let (folder, path) = file("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(SigningKey::read(&path).unwrap_err().to_string().contains("chmod 600"));
        assert!(matches!(SigningKey::read(&folder.path().join("none")), Err(SecretError::File(_))));
    }
}
