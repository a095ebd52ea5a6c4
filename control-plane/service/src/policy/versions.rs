//! Stored versions of the policy.

use omniflow_domain::error::{Error, Missing};
use omniflow_domain::page::{Page, PageRequest};
use omniflow_domain::policy::{PolicyVersion, StoredPolicy};

use super::Policies;

impl Policies {
    /// A page of the versions, newest first, without their documents.
    pub async fn versions(&self, page: PageRequest<u64>) -> Result<Page<PolicyVersion>, Error> {
        let versions = self.store.policy_versions(page.after, page.limit + 1).await?;
        Ok(Page::of(versions, page.limit, |version| version.version.to_string()))
    }

    /// The version with this number; `version` is the text of the request.
    ///
    /// Fails with `not_found` if there is no such version.
    pub async fn version(&self, version: &str) -> Result<StoredPolicy, Error> {
        let no_such_version = || Error::missing(Missing::PolicyVersion);
        let version = version.parse().map_err(|_| no_such_version())?;
        self.store.policy_version(version).await?.ok_or_else(no_such_version)
    }
}
