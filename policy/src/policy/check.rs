//! Checks of a policy document that need no router.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;

use super::document::{PolicyError, ScopeDefinition};
use crate::path::Target;
use crate::payload::{MAX_PAYLOAD_BYTES, MAX_REDACTED_FIELDS, PayloadPolicy};

/// Maximum number of scopes in one policy.
pub const MAX_SCOPES: usize = 500;
/// Maximum length of a scope's description in bytes.
pub const MAX_SCOPE_DESCRIPTION: usize = 1_024;
/// Maximum length of a path template in bytes.
pub const MAX_TEMPLATE_LENGTH: usize = 512;

pub(super) fn check_scopes(scopes: &[ScopeDefinition]) -> Result<(), PolicyError> {
    if scopes.len() > MAX_SCOPES {
        return Err(PolicyError::new(
            "/scopes".to_owned(),
            format!("a policy can have at most {MAX_SCOPES} scopes"),
        ));
    }
    for (index, scope) in scopes.iter().enumerate() {
        if scope.description.len() > MAX_SCOPE_DESCRIPTION {
            return Err(PolicyError::new(
                format!("/scopes/{index}/description"),
                format!("a description can have at most {MAX_SCOPE_DESCRIPTION} bytes"),
            ));
        }
        if scopes.iter().take(index).any(|earlier| earlier.name == scope.name) {
            return Err(PolicyError::new(
                format!("/scopes/{index}/name"),
                format!("{} is defined twice", scope.name),
            ));
        }
    }
    Ok(())
}

pub(super) fn check_payloads(payloads: &PayloadPolicy) -> Result<(), PolicyError> {
    if payloads.max_bytes > MAX_PAYLOAD_BYTES {
        let message = format!("must be at most {MAX_PAYLOAD_BYTES} bytes per call; 0 stores none");
        return Err(PolicyError::new("/payloads/max_bytes".to_owned(), message));
    }
    if payloads.redact.len() > MAX_REDACTED_FIELDS {
        let message = format!("a policy can redact at most {MAX_REDACTED_FIELDS} fields");
        return Err(PolicyError::new("/payloads/redact".to_owned(), message));
    }
    Ok(())
}

pub(super) fn check_template(template: &str) -> Result<(), String> {
    let Some(segments) = template.strip_prefix('/') else {
        return Err(format!("{template:?} must begin with a slash"));
    };
    if template.len() > MAX_TEMPLATE_LENGTH {
        return Err(format!("a path template can have at most {MAX_TEMPLATE_LENGTH} bytes"));
    }
    let last = segments.split('/').count() - 1;
    let mut literal_path = String::new();
    for (index, segment) in segments.split('/').enumerate() {
        literal_path.push('/');
        let Some(parameter) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
            literal_path.push_str(segment);
            continue;
        };
        literal_path.push('x');
        let name = match parameter.strip_prefix('*') {
            Some(name) if index == last => name,
            Some(_) => return Err(format!("{segment} is only allowed at the end")),
            None => parameter,
        };
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(format!("{segment}: a parameter name must consist of letters, digits and '_'"));
        }
    }
    // A literal that the filter rejects in every request would never match, and nothing would indicate why.
    Target::parse(literal_path.as_bytes())
        .map_err(|_| format!("{template:?} has a literal segment that the filter rejects as ambiguous"))?;
    if literal_path.contains('?') {
        return Err(format!("{template:?}: a template must not contain a query string"));
    }
    Ok(())
}
