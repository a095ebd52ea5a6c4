//! What stands around every page: title, navigation, who is signed in.

use super::assets::{ICON, SCRIPT, STYLE};
use super::navigation::SECTIONS;
use super::preferences::Preferences;
use omniflow_domain::principal::Principal;
use omniflow_domain::token::Role;

/// What the layout needs to know. Every context of a page has one, by the name `layout`.
#[derive(Clone)]
pub(super) struct Layout {
    /// The title of the page.
    pub(super) title: String,
    /// The sections that the reader may see, by group. Empty for who is not signed in.
    pub(super) groups: Vec<(&'static str, Vec<Entry>)>,
    /// Name and role of the token, for who is signed in.
    pub(super) reader: Option<Reader>,
    /// What every form carries, in the field `csrf`.
    pub(super) csrf: String,
    /// Path and query of this page, to come back to.
    pub(super) target: String,
    /// How it looks.
    pub(super) preferences: Preferences,
    /// Whether its reader opened it, so that its address shows it again. What answers a form has no such address.
    pub(super) was_opened: bool,
}

/// Who is signed in.
#[derive(Clone)]
pub(super) struct Reader {
    /// The token's name.
    pub(super) name: String,
    /// The token's role.
    pub(super) role: Role,
    /// Whether it may change keys and the policy.
    pub(super) may_write: bool,
}

/// A line of the navigation.
#[derive(Clone)]
pub(super) struct Entry {
    /// Where it leads.
    pub(super) path: &'static str,
    /// What it is called.
    pub(super) label: &'static str,
    /// Whether this page is in that section.
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
        was_opened: bool,
    ) -> Self {
        Self {
            title,
            groups: principal.map_or_else(Vec::new, |principal| groups(principal, path)),
            reader: principal.map(|principal| Reader {
                name: principal.name.to_string(),
                role: principal.role,
                may_write: principal.may_write(),
            }),
            csrf: csrf.to_owned(),
            target: target.to_owned(),
            preferences,
            was_opened,
        }
    }

    /// Whether the reader may change keys and the policy.
    pub(super) fn may_write(&self) -> bool {
        self.reader.as_ref().is_some_and(|reader| reader.may_write)
    }

    /// Whether there is a section at this path that the reader may see, so that a page can link to it.
    pub(super) fn leads_to(&self, path: &str) -> bool {
        self.groups.iter().flat_map(|(_, entries)| entries).any(|entry| entry.path == path)
    }

    /// Where the stylesheet is.
    pub(super) fn style(&self) -> &str {
        STYLE.path()
    }

    /// Where the script is.
    pub(super) fn script(&self) -> &str {
        SCRIPT.path()
    }

    /// Where the icon is.
    pub(super) fn icon(&self) -> &str {
        ICON.path()
    }

    /// One for tests of templates: an owner who looks at the keys.
    #[cfg(test)]
    pub(super) fn sample(title: &str) -> Self {
        let principal =
            Principal { id: uuid::Uuid::from_u128(7), name: "owner".parse().unwrap(), role: Role::Owner };
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
