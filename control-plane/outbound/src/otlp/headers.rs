//! Additional headers for OTLP requests, such as a credential: a file with one `name: value` per line.

use std::path::{Path, PathBuf};

use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::http_sink::{SecretFileError, read_secret_file};

/// Headers that omf sets.
const OURS: [HeaderName; 5] = [
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::HOST,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
];

/// Why the headers are not usable. Messages never quote the file.
#[derive(Debug, thiserror::Error)]
pub enum HeadersError {
    /// The file cannot be read, or has unsafe permissions.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// A line is not a header.
    #[error("{} line {line}: not a header; use NAME: VALUE", path.display())]
    Line {
        /// Path of the file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
    },
    /// The operator cannot set this header.
    #[error("{} line {line}: omf sets {name} itself; remove this line", path.display())]
    Ours {
        /// Path of the file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// Name of the header.
        name: HeaderName,
    },
}

/// Reads the file. Empty lines and lines that begin with `#` are ignored.
pub fn read_headers(path: &Path) -> Result<HeaderMap, HeadersError> {
    let text = read_secret_file(path)?;
    let mut headers = HeaderMap::new();
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let wrong = || HeadersError::Line { path: path.to_owned(), line };
        let (name, value) = text.split_once(':').ok_or_else(wrong)?;
        let name: HeaderName = name.trim().parse().map_err(|_| wrong())?;
        let mut value: HeaderValue = value.trim().parse().map_err(|_| wrong())?;
        if OURS.contains(&name) {
            return Err(HeadersError::Ours { path: path.to_owned(), line, name });
        }
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_and_what_is_wrong_is_reported_without_what_stands_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("headers");
        let read = |text: &str| {
            let _ = std::fs::remove_file(&path);
            omniflow_files::private::write_private(&path, text).unwrap();
            read_headers(&path)
        };
        let headers = read("# of the collector\n\nAuthorization: Bearer a:b \nx-tenant:7\n").unwrap();
        assert_eq!(
            (headers["authorization"].to_str().unwrap(), &headers["x-tenant"]),
            ("Bearer a:b", &"7".parse::<HeaderValue>().unwrap())
        );
        assert!(!format!("{headers:?}").contains("Bearer"), "{headers:?}");
        for (text, expected) in [
            ("x: 1\nsecret", "line 2: not a header"),
            ("a b: secret", "line 1: not a header"),
            ("x: secr\u{1}et", "line 1: not a header"),
            ("Content-Type: secret", "line 1: omf sets content-type itself"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("secr"), "{error}");
        }
    }
}
