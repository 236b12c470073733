//! From claims to a principal.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use serde_json::Value;

use crate::{
    auth::{
        CredentialsError, Grant, Principal,
        policy::permission,
        principal::{MAX_NAME_BYTES, MAX_SUBJECT_BYTES},
    },
    model::{Actor, ActorType, TextRule},
};

use super::{AUTHORIZATION, ClaimNames, JwtConfig, error::JwtError};

/// Knows which claims mean what.
pub(super) struct Mapping {
    names: ClaimNames,
    grants: BTreeMap<String, Vec<Grant>>,
    /// Items that were no grants.
    pub(super) ignored: AtomicU64,
}

impl Mapping {
    pub(super) fn new(settings: &JwtConfig) -> Result<Self, JwtError> {
        let mut grants = BTreeMap::new();
        for (value, list) in &settings.grants {
            let parse = |grant: &String| {
                Grant::parse(grant).map_err(|error| JwtError::Grant {
                    value: value.clone(),
                    grant: grant.clone(),
                    error,
                })
            };
            grants.insert(value.clone(), list.iter().map(parse).collect::<Result<Vec<_>, _>>()?);
        }
        Ok(Self { names: settings.claims.clone(), grants, ignored: AtomicU64::new(0) })
    }

    /// The caller of a token that was found to be good.
    pub(super) fn principal(&self, claims: &Value) -> Result<Principal, CredentialsError> {
        let actor = Actor { kind: self.kind(claims)?, id: self.subject(claims)?, name: self.name(claims)? };
        let mut principal = Principal { actor, roles: Vec::new(), permissions: Vec::new() };
        for (claim, own) in [(&self.names.roles, Own::Role), (&self.names.permissions, Own::Permission)] {
            for item in items(look_up(claims, claim)) {
                self.add(&mut principal, claim, item, own);
            }
        }
        Ok(principal)
    }

    fn subject(&self, claims: &Value) -> Result<String, CredentialsError> {
        let claim = &self.names.subject;
        let subject = look_up(claims, claim).and_then(Value::as_str).unwrap_or_default();
        TextRule::required(MAX_SUBJECT_BYTES).check(subject).map_err(|error| invalid(claim, &error.to_string()))?;
        // It stands in lines of the log, which it must not end.
        if subject.contains(char::is_control) {
            return Err(invalid(claim, "must hold no control characters"));
        }
        Ok(subject.to_owned())
    }

    fn name(&self, claims: &Value) -> Result<String, CredentialsError> {
        let claim = &self.names.name;
        let name = match look_up(claims, claim) {
            None | Some(Value::Null) => "",
            Some(value) => value.as_str().ok_or_else(|| invalid(claim, "must be a string"))?,
        };
        TextRule::optional(MAX_NAME_BYTES).check(name).map_err(|error| invalid(claim, &error.to_string()))?;
        Ok(name.to_owned())
    }

    fn kind(&self, claims: &Value) -> Result<ActorType, CredentialsError> {
        let claim = &self.names.subject_type;
        match look_up(claims, claim).map(Value::as_str) {
            None | Some(Some("user")) => Ok(ActorType::User),
            Some(Some("service")) => Ok(ActorType::Service),
            Some(_) => Err(invalid(claim, "must be user or service")),
        }
    }

    /// What the settings say of the item goes before what it says itself. Identity providers put much into these claims
    /// that is not for this service: what is no grant gives nothing.
    fn add(&self, principal: &mut Principal, claim: &str, item: Option<&str>, own: Own) {
        let foreign = item.and_then(|item| self.grants.get(item));
        if let Some(grants) = foreign {
            grants.iter().for_each(|grant| put(principal, grant.clone(), Own::of(&grant.name)));
        } else if let Some(grant) = item.and_then(|item| Grant::parse(item).ok()) {
            put(principal, grant, own);
        } else {
            self.ignored.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(claim, item, "an item of a token's claim is no grant");
        }
    }
}

/// Which of the two a grant is.
#[derive(Clone, Copy)]
enum Own {
    Role,
    Permission,
}

impl Own {
    /// Of a grant that comes from the settings, which may mix both in one list: the permissions are known by name.
    fn of(name: &str) -> Self {
        if permission::ALL.contains(&name) { Self::Permission } else { Self::Role }
    }
}

fn put(principal: &mut Principal, grant: Grant, own: Own) {
    match own {
        Own::Role => principal.roles.push(grant),
        Own::Permission => principal.permissions.push(grant),
    }
}

/// The claim of that name, or where the pointer points.
fn look_up<'c>(claims: &'c Value, name: &str) -> Option<&'c Value> {
    if name.starts_with('/') { claims.pointer(name) } else { claims.get(name) }
}

/// An array, or a string with spaces between. An item that is no string is `None`.
fn items(claim: Option<&Value>) -> Vec<Option<&str>> {
    match claim {
        Some(Value::Array(items)) => items.iter().map(Value::as_str).collect(),
        Some(Value::String(text)) => text.split_ascii_whitespace().map(Some).collect(),
        None | Some(Value::Null) => Vec::new(),
        Some(_) => vec![None],
    }
}

fn invalid(claim: &str, problem: &str) -> CredentialsError {
    CredentialsError::invalid(AUTHORIZATION, format!("the token's claim {claim:?}: {problem}"))
}
