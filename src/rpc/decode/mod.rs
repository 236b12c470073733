//! From protobuf messages to validated values of the model, with everything that is wrong in one reply.
//!
//! Scopes are read first and by themselves, because the caller's rights on them are decided before any other field is
//! looked at. The rest goes through a [`Decoder`], which gathers violations. Nothing in here reads a clock, draws random
//! bits or asks the store.

mod batch;
mod event;
mod filter;
mod identity;
mod note;
mod proofs;
mod reads;
mod violations;

use std::fmt::Display;

use crate::model::{EventName, Limits, NameError, Scope, TextRule, time_id::EventId};

pub use batch::{BatchScopes, batch_scopes, counted_batch};
pub use violations::{Path, Violations};

/// Decodes one request, and keeps what is wrong with it. Its methods answer `None` where they have found a violation.
#[derive(Debug)]
pub struct Decoder<'a> {
    limits: &'a Limits,
    violations: Violations,
}

impl<'a> Decoder<'a> {
    /// A decoder for one request.
    pub fn new(limits: &'a Limits) -> Self {
        Self { limits, violations: Violations::default() }
    }

    fn refuse(&mut self, path: Path<'_>, why: impl Display) {
        self.violations.add(path, why);
    }

    /// Refuses `path` unless `value` is there.
    fn require<T>(&mut self, path: Path<'_>, value: Option<T>, why: impl Display) -> Option<T> {
        if value.is_none() {
            self.refuse(path, why);
        }
        value
    }

    fn text(&mut self, path: Path<'_>, text: &str, rule: TextRule) {
        if let Err(error) = rule.check(text) {
            self.refuse(path, error);
        }
    }

    fn event_id(&mut self, path: Path<'_>, text: &str) -> Option<EventId> {
        EventId::parse(text).map_err(|error| self.refuse(path, error)).ok()
    }

    fn finish<T>(self, value: Option<T>) -> Result<T, Violations> {
        match value {
            Some(value) => self.violations.or(value),
            None => Err(self.violations),
        }
    }
}

/// Reads the scope in the field `parent`.
pub fn parent(text: &str) -> Result<Scope, Violations> {
    Scope::parse(text).map_err(|error| Violations::one(Path::ROOT.field("parent"), error))
}

/// Reads the tenant in the field `parent`.
pub fn tenant(text: &str) -> Result<Scope, Violations> {
    let scope = parent(text)?;
    match scope.project() {
        None => Ok(scope),
        Some(_) => Err(Violations::one(
            Path::ROOT.field("parent"),
            "must be a tenant, tenants/{tenant}: a project has no log of its own",
        )),
    }
}

/// Reads the scope of the event's name in the field `name`; the id in it is for [`id_in_name`], once the caller's rights
/// on the scope are known.
pub fn scope_of_name(text: &str) -> Result<(Scope, &str), Violations> {
    EventName::split(text).map_err(|error| Violations::one(Path::ROOT.field("name"), error))
}

/// Reads what [`scope_of_name`] left over.
pub fn id_in_name(text: &str) -> Result<EventId, Violations> {
    EventId::parse(text).map_err(|error| Violations::one(Path::ROOT.field("name"), NameError::from(error)))
}
