//! Conflicts of a policy with existing keys, which would lose scopes or be rejected.

use omniflow_policy::policy::Policy;
use omniflow_policy::scope::Scope;

use omniflow_domain::error::{Error, ErrorCode};
use omniflow_domain::policy::NamedKeys;
use omniflow_store::{Store, Transaction};

/// Number of keys that an error names for each scope.
const NAMED_KEYS: usize = 5;

/// The scopes that `next` lacks.
fn missing_scopes(current: &Policy, next: &Policy) -> Vec<Scope> {
    let scopes = current.document().scopes.iter().map(|scope| &scope.name);
    scopes.filter(|scope| !next.defines(scope)).cloned().collect()
}

/// Fails if keys conflict with `next`, as the transaction that would set it reads them.
pub(super) async fn check(
    transaction: &mut dyn Transaction,
    current: &Policy,
    next: &Policy,
) -> Result<(), Error> {
    let missing = missing_scopes(current, next);
    let holders = transaction.scope_holders(&missing, NAMED_KEYS).await?;
    let holders: Vec<(Scope, NamedKeys)> = holders.into_iter().map(|held| (held.scope, held.keys)).collect();
    if let Some(error) = scopes_in_use(&holders) {
        return Err(error);
    }
    match next.document().imported_keys {
        true => Ok(()),
        false => imports_in_use(&transaction.imported_keys(NAMED_KEYS).await?).map_or(Ok(()), Err),
    }
}

/// All conflicts of a draft at this moment.
pub(super) async fn of_draft(
    store: &dyn Store,
    current: &Policy,
    draft: &Policy,
) -> Result<Vec<Error>, Error> {
    let holders = store.scope_holders(&missing_scopes(current, draft), NAMED_KEYS).await?;
    let holders: Vec<(Scope, NamedKeys)> = holders.into_iter().map(|held| (held.scope, held.keys)).collect();
    let imported = match draft.document().imported_keys {
        true => NamedKeys::default(),
        false => store.imported_keys(NAMED_KEYS).await?,
    };
    Ok(scopes_in_use(&holders).into_iter().chain(imports_in_use(&imported)).collect())
}

fn scopes_in_use(holders: &[(Scope, NamedKeys)]) -> Option<Error> {
    if holders.is_empty() {
        return None;
    }
    let held: Vec<String> =
        holders.iter().map(|(scope, keys)| format!("{scope} ({})", listed(keys))).collect();
    Some(Error::new(
        ErrorCode::ScopeInUse,
        format!(
            "The document omits scopes that keys still use: {}. Remove them from these keys, revoke the keys, or keep \
             the scopes.",
            held.join(", ")
        ),
    ))
}

fn imports_in_use(imported: &NamedKeys) -> Option<Error> {
    if imported.names.is_empty() {
        return None;
    }
    Some(Error::new(
        ErrorCode::ImportsInUse,
        format!(
            "Without imported_keys, gateways would refuse these imported keys: {}. Keep \"imported_keys\": true until the keys are rotated and their imported versions are revoked.",
            listed(imported)
        ),
    ))
}

fn listed(keys: &NamedKeys) -> String {
    keys.names.join(", ") + if keys.more { " and others" } else { "" }
}
