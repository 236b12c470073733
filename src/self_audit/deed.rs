//! What was done, and by whom: the key under which it is counted.

use crate::{
    auth::{Denied, Permit, authorize::Recorded},
    model::{ActorType, Scope},
};

/// What is counted together: who, where, by which method.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Deed {
    pub(super) is_denial: bool,
    pub(super) caller: Caller,
    pub(super) scope: Scope,
    method: String,
}

/// Type and id: what makes a caller the same one.
pub(super) type Caller = (ActorType, String);

impl Deed {
    pub(super) fn denial(denied: &Denied, method: &str) -> Self {
        let actor = denied.principal();
        let caller = (actor.kind, actor.id.clone());
        Self { is_denial: true, caller, scope: denied.scope.clone(), method: method.to_owned() }
    }

    pub(super) fn read<A: Recorded>(permit: &Permit<A>, method: &str) -> Self {
        let actor = permit.principal();
        let caller = (actor.kind, actor.id.clone());
        Self { is_denial: false, caller, scope: permit.scope().clone(), method: method.to_owned() }
    }
}
