//! The layout of every page: title, navigation and the signed-in principal.

use super::assets::{ICON, SCRIPT, STYLE};
use super::navigation::SECTIONS;
use super::preferences::Preferences;
use omniflow_domain::principal::Principal;

/// Data of the layout. Every page context has one in the field `layout`.
#[derive(Clone)]
pub(super) struct Layout {
    /// The title of the page.
    pub(super) title: String,
    /// Sections that the principal may open, by group. Empty without a session.
    pub(super) groups: Vec<(&'static str, Vec<Entry>)>,
    /// The signed-in principal.
    pub(super) principal: Option<Principal>,
    /// CSRF token of the session's forms.
    pub(super) csrf: String,
    /// Path and query of this page.
    pub(super) target: String,
    /// Display preferences.
    pub(super) preferences: Preferences,
    /// Whether a `GET` of this URL shows the page again. The response to a form cannot be reloaded.
    pub(super) is_reloadable: bool,
}

/// An entry of the navigation.
#[derive(Clone)]
pub(super) struct Entry {
    /// Path.
    pub(super) path: &'static str,
    /// Label.
    pub(super) label: &'static str,
    /// Whether this page belongs to that section.
    pub(super) is_current: bool,
}

// === impl Layout ===

impl Layout {
    pub(super) fn new(
        title: String,
        principal: Option<&Principal>,
        csrf: &str,
        path: &str,
        target: &str,
        preferences: Preferences,
        is_reloadable: bool,
    ) -> Self {
        Self {
            title,
            groups: principal.map_or_else(Vec::new, |principal| groups(principal, path)),
            principal: principal.cloned(),
            csrf: csrf.to_owned(),
            target: target.to_owned(),
            preferences,
            is_reloadable,
        }
    }

    /// Whether the principal may change keys and the policy.
    pub(super) fn may_write(&self) -> bool {
        self.principal.as_ref().is_some_and(Principal::may_write)
    }

    /// Whether the principal may open the section at this path, so that a page can link to it.
    pub(super) fn can_open(&self, path: &str) -> bool {
        self.groups.iter().flat_map(|(_, entries)| entries).any(|entry| entry.path == path)
    }

    /// Path of the stylesheet.
    pub(super) fn style(&self) -> &str {
        STYLE.path()
    }

    /// Path of the script.
    pub(super) fn script(&self) -> &str {
        SCRIPT.path()
    }

    /// Path of the icon.
    pub(super) fn icon(&self) -> &str {
        ICON.path()
    }

    /// A layout for template tests: an owner on the keys page.
    #[cfg(test)]
    pub(super) fn sample(title: &str) -> Self {
        let role = omniflow_domain::token::Role::Owner;
        let principal = Principal { id: uuid::Uuid::from_u128(7), name: "owner".parse().unwrap(), role };
        Self::new(
            title.to_owned(),
            Some(&principal),
            "c5f",
            "/keys",
            "/keys?q=ci",
            Preferences::default(),
            true,
        )
    }
}

fn groups(principal: &Principal, path: &str) -> Vec<(&'static str, Vec<Entry>)> {
    let mut groups: Vec<(&'static str, Vec<Entry>)> = Vec::new();
    for section in SECTIONS {
        if !section.access.admits(principal.role) {
            continue;
        }
        let below = path.strip_prefix(section.path);
        let entry = Entry {
            path: section.path,
            label: section.label,
            is_current: below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        };
        match groups.iter_mut().find(|(group, _)| *group == section.group) {
            Some((_, entries)) => entries.push(entry),
            None => groups.push((section.group, vec![entry])),
        }
    }
    groups
}
