//! The decisions: may this principal do this on that scope? The whole table of the README stands in this file.

use std::marker::PhantomData;

use crate::model::{Actor, ActorType, Scope};

use super::{
    claims,
    jwt::ClaimNames,
    policy::{PROJECT_VIEWER, Policy, ProjectRank, TENANT_ADMIN, permission},
    principal::{Grant, GrantScope, Principal},
};

/// The id of the service itself, where it is the one who tells.
const SERVICE: &str = "auditlog";

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

/// May see checkpoints, proofs and leaves; the scope is a tenant.
#[derive(Clone, Copy, Debug)]
pub struct Prove;

/// That a principal may do `A` on one scope. Only this file makes one: [`Authorizer`] by its decisions, and `to_record_itself` for the
/// service's own events. Every use case demands one, so that a forgotten check does not compile.
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

/// What is done to the log itself, and is therefore recorded in it.
pub trait Recorded {}
impl Recorded for Read {}
impl Recorded for Export {}
impl Recorded for Prove {}

impl<A: Recorded> Permit<A> {
    /// Who may read or export may also have it recorded that they do, where they do it: it is the service that records it.
    pub fn to_record_itself(&self) -> Permit<Record> {
        Permit::of_the_service(self.scope.clone())
    }
}

/// Who records what the service itself has to say. No caller has that type, so none can be taken for it.
pub fn the_service() -> Actor {
    Actor { kind: ActorType::System, id: SERVICE.to_owned(), name: String::new() }
}

impl Permit<Record> {
    fn of_the_service(scope: Scope) -> Self {
        Self { scope, principal: the_service(), action: PhantomData }
    }
}

impl Denied {
    /// A denial may be recorded, and that is done at the tenant: a stranger who makes up a project's name shall not have it
    /// written where nothing can be erased.
    pub fn to_record_itself(&self) -> Permit<Record> {
        Permit::of_the_service(self.scope.to_tenant())
    }

    /// Who was denied.
    pub fn principal(&self) -> &Actor {
        &self.principal
    }
}

/// That a known caller lacks a right, and which claim would give it. Only [`Authorizer`] makes one.
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
    /// The claims that would open it, whatever else the caller has.
    pub claim: String,
    principal: Actor,
}

/// The grants that a caller lacks on one scope.
#[derive(Default)]
struct Missing {
    role: Option<&'static str>,
    permissions: Vec<&'static str>,
}

/// Whether somebody may add a note.
#[derive(Clone, Debug)]
pub enum NoteDecision {
    /// They may.
    Permitted(Permit<Annotate>),
    /// They may if they are the event's actor, which takes a look at the event: they may read it.
    IfActor(Permit<Read>, Denied),
}

/// How callers bring their grants, for the words in which a denial tells what is missing.
#[derive(Clone, Debug)]
pub enum ClaimWords {
    /// In metadata.
    Metadata,
    /// In a token, whose claims have these names.
    Token(ClaimNames),
}

/// Makes the decisions.
#[derive(Clone, Debug)]
pub struct Authorizer {
    policy: Policy,
    words: ClaimWords,
}

impl Authorizer {
    /// Decides by `policy`.
    pub fn new(policy: Policy) -> Self {
        Self { policy, words: ClaimWords::Metadata }
    }

    /// Tells denied callers in these `words` what to send.
    pub fn with_words(self, words: ClaimWords) -> Self {
        Self { words, ..self }
    }

    /// May `principal` get and list the events of `scope`?
    pub fn read(&self, principal: &Principal, scope: &Scope) -> Result<Permit<Read>, Denied> {
        self.missing_to_read(principal, scope).none_or_denied(&self.words, principal, scope, "read")?;
        Ok(Permit::new(principal, scope))
    }

    /// May `principal` see proofs from the log that the events of `scope` are in? That log is the tenant's, so it takes the
    /// right to read the tenant, and that is where the permit holds.
    pub fn prove(&self, principal: &Principal, scope: &Scope) -> Result<Permit<Prove>, Denied> {
        let Permit { scope, principal, .. } = self.read(principal, &scope.to_tenant())?;
        Ok(Permit { scope, principal, action: PhantomData })
    }

    /// May `principal` export the events of `scope`?
    pub fn export(&self, principal: &Principal, scope: &Scope) -> Result<Permit<Export>, Denied> {
        let mut missing = self.missing_to_read(principal, scope);
        if !self.has(principal, scope, permission::EXPORT) {
            missing.permissions.push(permission::EXPORT);
        }
        missing.none_or_denied(&self.words, principal, scope, "export")?;
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

    /// What it takes to read `scope`, for somebody who may not. A project is opened by its own grants rather than by its
    /// tenant's: they give less. A viewer's role brings both permissions, unless the configuration says otherwise.
    fn missing_to_read(&self, principal: &Principal, scope: &Scope) -> Missing {
        if self.reads_tenant(principal, &scope.to_tenant()) || self.reads_project(principal, scope) {
            return Missing::default();
        }
        let both = vec![permission::GET, permission::LIST];
        let Some(_) = scope.project() else { return Missing { role: None, permissions: both } };
        let role = self.policy.role(PROJECT_VIEWER, &GrantScope::Scope(scope.clone()));
        let not_brought = |permission: &&str| !role.is_some_and(|role| role.permits(permission));
        Missing { role: Some(PROJECT_VIEWER), permissions: both.into_iter().filter(not_brought).collect() }
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
        let lacks = !self.has(principal, scope, permission);
        let permissions = lacks.then_some(permission).into_iter().collect();
        Missing { role: None, permissions }.none_or_denied(&self.words, principal, scope, verb)
    }

    fn has(&self, principal: &Principal, scope: &Scope, permission: &str) -> bool {
        let claimed = |grant: &Grant| grant.name == permission;
        let by_role =
            |grant: &Grant| self.policy.role(&grant.name, &grant.scope).is_some_and(|role| role.permits(permission));
        principal.permissions.iter().any(|grant| grant.scope.covers(scope) && claimed(grant))
            || principal.roles.iter().any(|grant| grant.scope.covers(scope) && by_role(grant))
    }
}

impl Missing {
    fn none_or_denied(
        self,
        words: &ClaimWords,
        principal: &Principal,
        scope: &Scope,
        verb: &'static str,
    ) -> Result<(), Denied> {
        let Some(claim) = self.claim(words, scope) else { return Ok(()) };
        let first = self.permissions.first().copied();
        // A role that is missing is missing for reading, and reading comes first.
        let permission = first.filter(|_| self.role.is_none()).unwrap_or(permission::GET);
        let principal = principal.actor.clone();
        Err(Denied { subject: principal.id.clone(), verb, scope: scope.clone(), permission, claim, principal })
    }

    /// What to send; `None` where nothing is missing.
    fn claim(&self, words: &ClaimWords, scope: &Scope) -> Option<String> {
        let role: Vec<String> = self.role.iter().map(|role| format!("{role}@{scope}")).collect();
        let permissions: Vec<String> =
            self.permissions.iter().map(|permission| format!("{permission}@{scope}")).collect();
        let parts: Vec<String> = [words.roles(&role), words.permissions(&permissions)].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| words.together(&parts))
    }
}

impl ClaimWords {
    fn roles(&self, grants: &[String]) -> Option<String> {
        match self {
            Self::Metadata => in_metadata(claims::ROLES, grants),
            Self::Token(names) => in_token(&names.roles, grants),
        }
    }

    fn permissions(&self, grants: &[String]) -> Option<String> {
        match self {
            Self::Metadata => in_metadata(claims::PERMISSIONS, grants),
            Self::Token(names) => in_token(&names.permissions, grants),
        }
    }

    fn together(&self, parts: &[String]) -> String {
        match self {
            Self::Metadata => parts.join(" and "),
            Self::Token(_) => format!("a token with {}", parts.join(" and ")),
        }
    }
}

/// As the header to send.
fn in_metadata(key: &str, grants: &[String]) -> Option<String> {
    (!grants.is_empty()).then(|| format!("{key}: {}", grants.join(",")))
}

/// As the part of a token's payload, whatever shape its claim has.
fn in_token(claim: &str, grants: &[String]) -> Option<String> {
    (!grants.is_empty()).then(|| format!("{} in the claim {claim}", grants.join(" and ")))
}
