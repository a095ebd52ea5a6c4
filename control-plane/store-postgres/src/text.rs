//! Texts from outside as columns.

use std::borrow::Cow;

/// A text as a column can store it, and as a condition finds it: a text of PostgreSQL has no zero byte. Only a faulty client
/// or gateway sends one; a batch with one must not be rejected again and again.
pub(crate) fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_bytes_are_replaced() {
        assert!(matches!(storable("/api/v1"), Cow::Borrowed("/api/v1")));
        assert_eq!(storable("/a\0b\0"), "/a\u{fffd}b\u{fffd}");
    }
}
