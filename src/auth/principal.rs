//! The authenticated caller and what they were granted.

use std::fmt;

use crate::model::{Actor, NameError, Scope};

/// The most bytes of a caller's id.
pub const MAX_SUBJECT_BYTES: usize = 256;
/// The most bytes of a caller's name.
pub const MAX_NAME_BYTES: usize = 512;

/// Who calls, as their credentials say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Type, id and name: an event's recorder, a note's author. Never the system.
    pub actor: Actor,
    /// Roles, each bound to a scope.
    pub roles: Vec<Grant>,
    /// Permissions, each bound to a scope.
    pub permissions: Vec<Grant>,
}

/// `name@scope`: a role or a permission, and where it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The role's or the permission's name.
    pub name: String,
    /// Where it holds.
    pub scope: GrantScope,
}

/// Where a grant holds: `*` ⊃ tenant ⊃ project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrantScope {
    /// Everywhere: `*`.
    Platform,
    /// In a scope and what is inside it.
    Scope(Scope),
}

/// Why a text is not a [`Grant`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// There is no `@`.
    #[error("must be name@scope, such as tenant_admin@tenants/acme")]
    NoScope,
    /// The part before the `@` is no name.
    #[error("the name before @ must be like [A-Za-z0-9][A-Za-z0-9._-]{{0,127}}")]
    Name,
    /// The part after the `@` is no scope.
    #[error("the scope after @ must be *, tenants/{{tenant}} or tenants/{{tenant}}/projects/{{project}}")]
    Scope,
}

impl Grant {
    /// Reads `name@scope`.
    pub fn parse(text: &str) -> Result<Self, GrantError> {
        let (name, scope) = text.split_once('@').ok_or(GrantError::NoScope)?;
        if !is_grant_name(name) {
            return Err(GrantError::Name);
        }
        let scope = GrantScope::parse(scope).map_err(|_| GrantError::Scope)?;
        Ok(Self { name: name.to_owned(), scope })
    }
}

impl GrantScope {
    fn parse(text: &str) -> Result<Self, NameError> {
        match text {
            "*" => Ok(Self::Platform),
            _ => Scope::parse(text).map(Self::Scope),
        }
    }

    /// Whether a grant here holds at `scope`.
    pub fn covers(&self, scope: &Scope) -> bool {
        match self {
            Self::Platform => true,
            Self::Scope(own) => own.contains(scope),
        }
    }
}

impl fmt::Display for GrantScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Platform => f.write_str("*"),
            Self::Scope(scope) => scope.fmt(f),
        }
    }
}

/// Whether `text` may name a role or a permission.
pub fn is_grant_name(text: &str) -> bool {
    let (Some(first), true) = (text.bytes().next(), text.len() <= 128) else { return false };
    first.is_ascii_alphanumeric() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}
