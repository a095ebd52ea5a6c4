//! Changes to the revision that their principal has read, or none at all.

use omniflow_domain::error::{Error, ErrorCode};

/// The revisions at which a change may be applied, as entity tags; `None` for any.
#[derive(Clone, Debug, Default)]
pub struct Precondition(Option<Vec<String>>);

/// The entity tag of a revision.
pub fn entity_tag(revision: u64) -> String {
    format!("\"{revision}\"")
}

// === impl Precondition ===

impl Precondition {
    /// Exactly this revision.
    pub fn at(revision: u64) -> Self {
        Self(Some(vec![entity_tag(revision)]))
    }

    /// Any of these entity tags, `*` for any revision. Text that is no entity tag matches none (RFC 9110, section 13.1.1).
    pub fn any_of(tags: Vec<String>) -> Self {
        Self(Some(tags))
    }

    /// Refuses the change unless `what` is at one of the revisions.
    pub(crate) fn check(&self, what: &str, revision: u64) -> Result<(), Error> {
        let current = entity_tag(revision);
        match &self.0 {
            Some(tags) if !tags.iter().any(|tag| tag == "*" || *tag == current) => Err(Error::new(
                ErrorCode::VersionMismatch,
                format!(
                    "{what} is at {current}, not at {}, which If-Match names: it was changed in between. Read it \
                     again and repeat the change on it.",
                    tags.join(", ")
                ),
            )),
            _ => Ok(()),
        }
    }
}
