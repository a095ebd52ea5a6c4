//! All errors of a key's settings at once; creating or updating the key would report only the first one.

use omniflow_domain::error::Error;
use omniflow_domain::name::Name;

use super::Keys;
use super::create::name_taken;
use super::settings::Settings;
use omniflow_domain::key::KeyReference;

impl Keys {
    /// Every error of settings, and of the name of a new key: at most one for each field. Empty if they are valid now.
    pub async fn find_errors(&self, name: Option<&Name>, settings: &Settings) -> Result<Vec<Error>, Error> {
        let (policy, _) = self.parts.publisher.publication.policy()?;
        let mut errors = settings.errors(&policy, self.parts.clock.now());
        if let Some(name) = name
            && self.parts.store.key(&KeyReference::Name(name.to_string())).await?.is_some()
        {
            errors.push(name_taken(name));
        }
        Ok(errors)
    }
}
