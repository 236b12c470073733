//! Resource names: scopes and events.
//!
//! A scope is `tenants/{t}` or `tenants/{t}/projects/{p}`, an event is `{scope}/events/{event_id}` (AIP-122).

use std::fmt;

use super::time_id::{EventId, TimeIdError};

/// The longest tenant or project id, in characters.
pub const MAX_ID_LEN: usize = 128;

/// A tenant, or one project of a tenant: where an event is recorded, and what a grant or a question is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope {
    tenant: String,
    project: Option<String>,
}

/// The name of one event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EventName {
    /// Where the name looks for the event.
    pub scope: Scope,
    /// Which event of the tenant it is.
    pub id: EventId,
}

/// Why a text is not a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing given.
    #[error("is required: tenants/{{tenant}} or tenants/{{tenant}}/projects/{{project}}")]
    Empty,
    /// Not of the form of a scope.
    #[error(
        "must be tenants/{{tenant}} or tenants/{{tenant}}/projects/{{project}}, each id like [A-Za-z0-9][A-Za-z0-9._~-]{{0,127}}"
    )]
    Scope,
    /// Not of the form of an event's name.
    #[error(
        "must be tenants/{{tenant}}/events/{{event_id}} or tenants/{{tenant}}/projects/{{project}}/events/{{event_id}}"
    )]
    Event,
    /// The event's id is not one.
    #[error("the event id {0}")]
    EventId(#[from] TimeIdError),
}

impl Scope {
    /// Reads `tenants/{t}` or `tenants/{t}/projects/{p}`.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let parts: Vec<&str> = text.split('/').collect();
        match parts[..] {
            [""] => Err(NameError::Empty),
            ["tenants", tenant] => Self::new(tenant, None),
            ["tenants", tenant, "projects", project] => Self::new(tenant, Some(project)),
            _ => Err(NameError::Scope),
        }
    }

    /// A scope from its ids, each `[A-Za-z0-9][A-Za-z0-9._~-]{0,127}`.
    pub fn new(tenant: &str, project: Option<&str>) -> Result<Self, NameError> {
        Self::of_ids(tenant.to_owned(), project.map(str::to_owned))
    }

    /// The same, from ids that need no copy.
    pub fn of_ids(tenant: String, project: Option<String>) -> Result<Self, NameError> {
        let is_valid = is_id(&tenant) && project.as_deref().is_none_or(is_id);
        is_valid.then_some(Self { tenant, project }).ok_or(NameError::Scope)
    }

    /// The tenant's id.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// The project's id; `None` at tenant scope.
    pub fn project(&self) -> Option<&str> {
        self.project.as_deref()
    }

    /// The tenant that this scope is, or is in.
    pub fn to_tenant(&self) -> Self {
        Self { tenant: self.tenant.clone(), project: None }
    }

    /// Whether `other` is this scope or inside it.
    pub fn contains(&self, other: &Self) -> bool {
        self.tenant == other.tenant && (self.project.is_none() || self.project == other.project)
    }
}

/// Whether `text` may stand as a tenant's or a project's id.
pub fn is_id(text: &str) -> bool {
    let (Some(first), true) = (text.bytes().next(), text.len() <= MAX_ID_LEN) else { return false };
    first.is_ascii_alphanumeric() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~-".contains(&b))
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tenants/{}", self.tenant)?;
        self.project.iter().try_for_each(|project| write!(f, "/projects/{project}"))
    }
}

impl EventName {
    /// Reads the scope of an event's name, and leaves its id unread: authorization comes before validation.
    pub fn split(text: &str) -> Result<(Scope, &str), NameError> {
        let (scope, id) = text.rsplit_once("/events/").ok_or(NameError::Event)?;
        Ok((Scope::parse(scope).map_err(|_| NameError::Event)?, id))
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/events/{}", self.scope, self.id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_what_is_no_scope() {
        assert_eq!(Scope::parse(""), Err(NameError::Empty));
        let long = format!("tenants/{}", "a".repeat(129));
        for text in [
            "tenants",
            "tenants/",
            "tenants/a/",
            "/tenants/a",
            "tenants/a/../b",
            "tenants/..",
            "tenants/.a",
            "tenants/a b",
            "tenants/a/projects",
            "tenants/a/projects/",
            "tenants/a/projects/b/c",
            "projects/b",
            "Tenants/a",
            "tenants/ä",
            "tenants/a%2Fb",
            "tenants/a\0",
            "tenants/*",
            "*",
            &long,
        ] {
            assert_eq!(Scope::parse(text), Err(NameError::Scope), "{text}");
        }
    }

    #[test]
    fn a_tenant_contains_its_projects_and_no_neighbour_with_a_longer_name() {
        let scope = |text| Scope::parse(text).unwrap();
        assert!(scope("tenants/a").contains(&scope("tenants/a")));
        assert!(scope("tenants/a").contains(&scope("tenants/a/projects/p")));
        assert!(!scope("tenants/a/projects/p").contains(&scope("tenants/a")));
        assert!(!scope("tenants/a").contains(&scope("tenants/ab")));
        assert!(!scope("tenants/a/projects/p").contains(&scope("tenants/a/projects/pq")));
    }

    #[test]
    fn an_event_name_needs_a_scope_and_an_id() {
        for text in
            ["", "events/x", "tenants/a", "tenants/a/events", "tenants/a/x/events/y", "tenants/a/events/x/events/y"]
        {
            assert_eq!(EventName::split(text), Err(NameError::Event), "{text}");
        }
        assert_eq!(EventName::split("tenants/a/events/x"), Ok((Scope::new("a", None).unwrap(), "x")));
    }

    proptest! {
        #[test]
        fn reads_back_what_it_shows(t in "[A-Za-z0-9][A-Za-z0-9._~-]{0,127}", p in proptest::option::of("[A-Za-z0-9][A-Za-z0-9._~-]{0,127}")) {
            let scope = Scope::new(&t, p.as_deref()).unwrap();
            prop_assert_eq!(Scope::parse(&scope.to_string()), Ok(scope));
        }

        #[test]
        fn never_panics(text in ".*") {
            let _ = (Scope::parse(&text), EventName::split(&text));
        }
    }
}
