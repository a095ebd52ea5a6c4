//! Applies changes only to the revision that the principal has read.

use omniflow_domain::error::{Error, ErrorCode, Facts};

/// The revisions at which a change may be applied; any by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Precondition(Option<Vec<u64>>);

// === impl Precondition ===

impl Precondition {
    /// Exactly this revision.
    pub fn at(revision: u64) -> Self {
        Self(Some(vec![revision]))
    }

    /// Any of these revisions. Without one, the change is always refused.
    pub fn any_of(revisions: Vec<u64>) -> Self {
        Self(Some(revisions))
    }

    /// Refuses the change unless `subject` has one of the revisions.
    pub(crate) fn check(&self, subject: &str, current: u64) -> Result<(), Error> {
        match &self.0 {
            Some(expected) if !expected.contains(&current) => Err(Error::new(
                ErrorCode::VersionMismatch,
                format!(
                    "{subject} was changed after you read it: its revision is now {current}. Read it again, then repeat \
                     the change."
                ),
            )
            .about(Facts::Revision { subject: subject.to_owned(), current, expected: expected.clone() })),
            _ => Ok(()),
        }
    }
}
