//! Entity tags (RFC 9110, section 8.8.3): a revision in quotes.

/// The entity tag of a revision.
pub(super) fn entity_tag(revision: u64) -> String {
    format!("\"{revision}\"")
}

/// The revision that has this entity tag.
pub(super) fn revision(tag: &str) -> Option<u64> {
    let revision = tag.trim_matches('"').parse().ok()?;
    (entity_tag(revision) == tag).then_some(revision)
}
