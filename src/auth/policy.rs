//! What a role is worth: the built-in ones, and what the configuration file adds or changes.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::principal::{GrantScope, is_grant_name};

/// The permissions that decisions ask for.
pub mod permission {
    /// Read one event.
    pub const GET: &str = "audit.get";
    /// Read lists of events.
    pub const LIST: &str = "audit.list";
    /// Download CSV.
    pub const EXPORT: &str = "audit.export";
    /// Add update notes.
    pub const UPDATE: &str = "audit.update";
    /// Record events.
    pub const CREATE: &str = "audit.create";
    /// All of them.
    pub const ALL: [&str; 5] = [GET, LIST, EXPORT, UPDATE, CREATE];
}

/// The role that reads its tenant whatever its permissions are.
pub const TENANT_ADMIN: &str = "tenant_admin";
/// The least role that a project is read with.
pub const PROJECT_VIEWER: &str = "project_viewer";

/// A kind of scope that a role may be bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScopeKind {
    /// `*`.
    Platform,
    /// `tenants/{t}`.
    Tenant,
    /// `tenants/{t}/projects/{p}`.
    Project,
}

/// How much a project role is, by the built-in project roles. A project is read by at least a viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum ProjectRank {
    /// As much as `project_viewer`.
    #[serde(rename = "project_viewer")]
    Viewer,
    /// As much as `project_editor`.
    #[serde(rename = "project_editor")]
    Editor,
    /// As much as `project_admin`.
    #[serde(rename = "project_admin")]
    Admin,
}

/// What a role is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    kinds: BTreeSet<ScopeKind>,
    permissions: BTreeSet<String>,
    rank: Option<ProjectRank>,
}

/// One `[roles.NAME]` table of the configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleSettings {
    /// The kind of scope that the role is bound to; a built-in role keeps its own.
    pub scope: Option<ScopeKind>,
    /// The permissions that it gives there.
    pub permissions: Vec<String>,
    /// For a project role: which built-in rank it counts as.
    pub rank: Option<ProjectRank>,
}

/// Why a `[roles.NAME]` table cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The role's name is none.
    #[error("[roles.{0}]: a role's name must be like [A-Za-z0-9][A-Za-z0-9._-]{{0,127}}")]
    Name(String),
    /// A permission that no decision asks for.
    #[error("[roles.{0}] permissions: unknown permission {1:?}; known are {all}", all = permission::ALL.join(", "))]
    Permission(String, String),
    /// A new role needs to say where it is bound.
    #[error("[roles.{0}] scope: required for a role that is not built in: platform, tenant or project")]
    ScopeRequired(String),
    /// A built-in role's scope or rank cannot be moved.
    #[error("[roles.{0}]: scope and rank of a built-in role are fixed; only its permissions can be set")]
    BuiltIn(String),
    /// A project role without a rank would open nothing.
    #[error("[roles.{0}] rank: required for a project role: project_viewer, project_editor or project_admin")]
    RankRequired(String),
    /// A rank means nothing elsewhere.
    #[error("[roles.{0}] rank: only a project role has one")]
    RankForbidden(String),
}

/// All roles there are.
#[derive(Clone, Debug)]
pub struct Policy {
    roles: BTreeMap<String, Role>,
}

impl Policy {
    /// The built-in roles, with what the configuration file says of them and of others.
    pub fn new(settings: &BTreeMap<String, RoleSettings>) -> Result<Self, PolicyError> {
        let mut roles = built_in_roles();
        for (name, settings) in settings {
            let role = customized(roles.get(name), name, settings)?;
            roles.insert(name.clone(), role);
        }
        Ok(Self { roles })
    }

    /// The role `name`, if there is one and it may be bound to `scope`.
    pub fn role(&self, name: &str, scope: &GrantScope) -> Option<&Role> {
        self.roles.get(name).filter(|role| role.kinds.contains(&scope_kind(scope)))
    }
}

impl Role {
    /// Whether it gives `permission` where it holds.
    pub fn permits(&self, permission: &str) -> bool {
        self.permissions.contains(permission)
    }

    /// Its project rank, if it is a project role.
    pub fn rank(&self) -> Option<ProjectRank> {
        self.rank
    }
}

fn scope_kind(scope: &GrantScope) -> ScopeKind {
    match scope {
        GrantScope::Platform => ScopeKind::Platform,
        GrantScope::Scope(scope) if scope.project().is_none() => ScopeKind::Tenant,
        GrantScope::Scope(_) => ScopeKind::Project,
    }
}

fn built_in_roles() -> BTreeMap<String, Role> {
    use ScopeKind::{Platform, Project, Tenant};
    use permission::{CREATE, EXPORT, GET, LIST, UPDATE};

    let tenant = |permissions: &[&str]| role(&[Tenant], permissions, None);
    let project = |rank| role(&[Project], &[GET, LIST], Some(rank));
    [
        (TENANT_ADMIN, tenant(&[GET, LIST, EXPORT, UPDATE])),
        ("tenant_viewer", tenant(&[GET, LIST])),
        ("tenant_project_admin", tenant(&[GET, LIST])),
        ("tenant_team_admin", tenant(&[GET, LIST])),
        ("tenant_user_admin", tenant(&[GET, LIST])),
        ("project_admin", project(ProjectRank::Admin)),
        ("project_editor", project(ProjectRank::Editor)),
        (PROJECT_VIEWER, project(ProjectRank::Viewer)),
        ("event_recorder", role(&[Platform, Tenant, Project], &[CREATE], None)),
    ]
    .map(|(name, role)| (name.to_owned(), role))
    .into()
}

fn role(kinds: &[ScopeKind], permissions: &[&str], rank: Option<ProjectRank>) -> Role {
    let permissions = permissions.iter().map(|&permission| permission.to_owned()).collect();
    Role { kinds: kinds.iter().copied().collect(), permissions, rank }
}

fn customized(built_in: Option<&Role>, name: &str, settings: &RoleSettings) -> Result<Role, PolicyError> {
    if !is_grant_name(name) {
        return Err(PolicyError::Name(name.to_owned()));
    }
    if let Some(unknown) = settings.permissions.iter().find(|p| !permission::ALL.contains(&p.as_str())) {
        return Err(PolicyError::Permission(name.to_owned(), unknown.clone()));
    }
    let permissions = settings.permissions.iter().cloned().collect();
    if let Some(built_in) = built_in {
        let fixed = settings.scope.is_none() && settings.rank.is_none();
        let role = Role { permissions, ..built_in.clone() };
        return fixed.then_some(role).ok_or_else(|| PolicyError::BuiltIn(name.to_owned()));
    }
    let kind = settings.scope.ok_or_else(|| PolicyError::ScopeRequired(name.to_owned()))?;
    match (kind, settings.rank) {
        (ScopeKind::Project, None) => Err(PolicyError::RankRequired(name.to_owned())),
        (ScopeKind::Platform | ScopeKind::Tenant, Some(_)) => Err(PolicyError::RankForbidden(name.to_owned())),
        (_, rank) => Ok(Role { kinds: [kind].into(), permissions, rank }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(toml: &str) -> Result<Policy, PolicyError> {
        Policy::new(&toml::from_str(toml).unwrap())
    }

    #[test]
    fn says_what_is_wrong_with_a_role() {
        for (toml, error) in [
            (
                "[x]\npermissions = []",
                "[roles.x] scope: required for a role that is not built in: platform, tenant or project",
            ),
            (
                "[x]\nscope = 'project'\npermissions = []",
                "[roles.x] rank: required for a project role: project_viewer, project_editor or project_admin",
            ),
            (
                "[x]\nscope = 'tenant'\nrank = 'project_admin'\npermissions = []",
                "[roles.x] rank: only a project role has one",
            ),
            (
                "[tenant_admin]\nscope = 'project'\npermissions = []",
                "[roles.tenant_admin]: scope and rank of a built-in role are fixed; only its permissions can be set",
            ),
            (
                "[x]\nscope = 'tenant'\npermissions = ['audit.lst']",
                "[roles.x] permissions: unknown permission \"audit.lst\"; known are audit.get, audit.list, audit.export, audit.update, audit.create",
            ),
            (
                "['a b']\nscope = 'tenant'\npermissions = []",
                "[roles.a b]: a role's name must be like [A-Za-z0-9][A-Za-z0-9._-]{0,127}",
            ),
        ] {
            assert_eq!(policy(toml).unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn a_built_in_role_keeps_its_scope_when_its_permissions_are_set() {
        let policy = policy("[tenant_viewer]\npermissions = ['audit.get']").unwrap();
        let tenant = GrantScope::Scope(crate::model::Scope::new("a", None).unwrap());
        assert!(policy.role("tenant_viewer", &tenant).unwrap().permits(permission::GET));
        assert!(!policy.role("tenant_viewer", &tenant).unwrap().permits(permission::LIST));
        assert_eq!(policy.role("tenant_viewer", &GrantScope::Platform), None);
    }
}
