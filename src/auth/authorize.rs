//! The decisions: may this principal do this on that scope? The whole table of the README stands in this file.

use std::marker::PhantomData;

use crate::model::{Actor, ActorType, Scope};

use super::{
    policy::{Policy, ProjectRank, TENANT_ADMIN, permission},
    principal::{Grant, Principal},
};

/// May get and list events.
#[derive(Clone, Copy, Debug)]
pub struct Read;
/// May download CSV.
#[derive(Clone, Copy, Debug)]
pub struct Export;
/// May record events.
#[derive(Clone, Copy, Debug)]
pub struct Record;
/// May add an update note.
#[derive(Clone, Copy, Debug)]
pub struct Annotate;

/// That a principal may do `A` on one scope. Only [`Authorizer`] makes one, and every use case demands one, so that a
/// forgotten check does not compile.
#[derive(Clone, Debug)]
pub struct Permit<A> {
    scope: Scope,
    principal: Actor,
    action: PhantomData<A>,
}

impl<A> Permit<A> {
    /// Where it holds.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Who holds it.
    pub fn principal(&self) -> &Actor {
        &self.principal
    }

    fn new(principal: &Principal, scope: &Scope) -> Self {
        Self { scope: scope.clone(), principal: principal.actor.clone(), action: PhantomData }
    }
}

impl Permit<Export> {
    /// Who may export may also have that export recorded: it is the service that records it.
    pub fn to_record_itself(&self) -> Permit<Record> {
        Permit { scope: self.scope.clone(), principal: self.principal.clone(), action: PhantomData }
    }
}

/// That a known caller lacks a right, and which claim would give it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{subject} may not {verb} {scope}: send {claim}")]
pub struct Denied {
    /// Who asked.
    pub subject: String,
    /// What they asked for.
    pub verb: &'static str,
    /// Where.
    pub scope: Scope,
    /// The permission that is missing; of several, the first.
    pub permission: &'static str,
    /// The claim that would open it.
    pub claim: String,
}

/// Whether somebody may add a note.
#[derive(Clone, Debug)]
pub enum NoteDecision {
    /// They may.
    Permitted(Permit<Annotate>),
    /// They may if they are the event's actor, which takes a look at the event: they may read it.
    IfActor(Permit<Read>, Denied),
}

/// Makes the decisions.
#[derive(Clone, Debug)]
pub struct Authorizer {
    policy: Policy,
}

impl Authorizer {
    /// Decides by `policy`.
    pub fn new(policy: Policy) -> Self {
        Self { policy }
    }

    /// May `principal` get and list the events of `scope`?
    pub fn read(&self, principal: &Principal, scope: &Scope) -> Result<Permit<Read>, Denied> {
        self.require_read(principal, scope, "read")?;
        Ok(Permit::new(principal, scope))
    }

    /// May `principal` export the events of `scope`?
    pub fn export(&self, principal: &Principal, scope: &Scope) -> Result<Permit<Export>, Denied> {
        self.require_read(principal, scope, "export")?;
        self.require(principal, scope, permission::EXPORT, "export")?;
        Ok(Permit::new(principal, scope))
    }

    /// May `principal` record events at `scope`?
    pub fn record(&self, principal: &Principal, scope: &Scope) -> Result<Permit<Record>, Denied> {
        self.require(principal, scope, permission::CREATE, "record at")?;
        Ok(Permit::new(principal, scope))
    }

    /// May `principal` add notes to the events of `scope`?
    pub fn annotate(&self, principal: &Principal, scope: &Scope) -> Result<NoteDecision, Denied> {
        let denied = match self.require(principal, scope, permission::UPDATE, "add notes at") {
            Ok(()) => return Ok(NoteDecision::Permitted(Permit::new(principal, scope))),
            Err(denied) => denied,
        };
        match self.read(principal, scope) {
            Ok(permit) => Ok(NoteDecision::IfActor(permit, denied)),
            Err(_) => Err(denied),
        }
    }

    /// The actor rule of notes: who may read an event and is its actor (type and id equal, never the system) may
    /// annotate it. `actor` is `None` where the event's body was erased.
    pub fn annotate_as_actor(
        permit: Permit<Read>,
        actor: Option<&Actor>,
        or: Denied,
    ) -> Result<Permit<Annotate>, Denied> {
        let Permit { scope, principal, .. } = permit;
        let is_actor =
            |actor: &Actor| actor.kind != ActorType::System && actor.kind == principal.kind && actor.id == principal.id;
        match actor.is_some_and(is_actor) {
            true => Ok(Permit { scope, principal, action: PhantomData }),
            false => Err(or),
        }
    }

    fn require_read(&self, principal: &Principal, scope: &Scope, verb: &'static str) -> Result<(), Denied> {
        if self.reads_tenant(principal, &scope.to_tenant()) || self.reads_project(principal, scope) {
            return Ok(());
        }
        Err(read_denied(principal, scope, verb))
    }

    fn reads_tenant(&self, principal: &Principal, tenant: &Scope) -> bool {
        let is_admin =
            |grant: &Grant| grant.name == TENANT_ADMIN && self.policy.role(&grant.name, &grant.scope).is_some();
        principal.roles.iter().any(|grant| grant.scope.covers(tenant) && is_admin(grant))
            || self.gets_and_lists(principal, tenant)
    }

    /// Permissions alone do not open a project: it takes a project role of at least viewer on it.
    fn reads_project(&self, principal: &Principal, scope: &Scope) -> bool {
        let rank = |grant: &Grant| self.policy.role(&grant.name, &grant.scope)?.rank();
        let is_viewer = |grant: &Grant| rank(grant).is_some_and(|rank| rank >= ProjectRank::Viewer);
        scope.project().is_some()
            && principal.roles.iter().any(|grant| grant.scope.covers(scope) && is_viewer(grant))
            && self.gets_and_lists(principal, scope)
    }

    fn gets_and_lists(&self, principal: &Principal, scope: &Scope) -> bool {
        self.has(principal, scope, permission::GET) && self.has(principal, scope, permission::LIST)
    }

    fn require(
        &self,
        principal: &Principal,
        scope: &Scope,
        permission: &'static str,
        verb: &'static str,
    ) -> Result<(), Denied> {
        if self.has(principal, scope, permission) {
            return Ok(());
        }
        let claim = format!("x-audit-permissions: {permission}@{scope}");
        Err(Denied { subject: principal.actor.id.clone(), verb, scope: scope.clone(), permission, claim })
    }

    fn has(&self, principal: &Principal, scope: &Scope, permission: &str) -> bool {
        let claimed = |grant: &Grant| grant.name == permission;
        let by_role =
            |grant: &Grant| self.policy.role(&grant.name, &grant.scope).is_some_and(|role| role.permits(permission));
        principal.permissions.iter().any(|grant| grant.scope.covers(scope) && claimed(grant))
            || principal.roles.iter().any(|grant| grant.scope.covers(scope) && by_role(grant))
    }
}

fn read_denied(principal: &Principal, scope: &Scope, verb: &'static str) -> Denied {
    let claim = match scope.project() {
        None => format!("x-audit-permissions: {}@{scope},{}@{scope}", permission::GET, permission::LIST),
        Some(_) => format!("x-audit-roles: project_viewer@{scope}"),
    };
    Denied { subject: principal.actor.id.clone(), verb, scope: scope.clone(), permission: permission::GET, claim }
}
