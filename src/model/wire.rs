//! The parts of an event as protobuf messages: the leaf format hashes them, the replies show them.
//!
//! Implicit-presence defaults and empty sub-messages are left out, so that there is one encoding of each value.

use crate::proto::auditlog::v1 as proto;

use super::{
    clock::Timestamp,
    event::{ActionType, Actor, ActorType, FieldChange, RequestContext, Resource},
};

impl From<ActionType> for proto::ActionType {
    fn from(action: ActionType) -> Self {
        match action {
            ActionType::Create => Self::Create,
            ActionType::Update => Self::Update,
            ActionType::Delete => Self::Delete,
        }
    }
}

impl From<ActorType> for proto::ActorType {
    fn from(kind: ActorType) -> Self {
        match kind {
            ActorType::User => Self::User,
            ActorType::Service => Self::Service,
            ActorType::System => Self::System,
        }
    }
}

impl From<&Resource> for proto::Resource {
    fn from(resource: &Resource) -> Self {
        Self { r#type: resource.kind.clone(), id: resource.id.clone(), name: resource.name.clone() }
    }
}

impl From<&Actor> for proto::Actor {
    fn from(actor: &Actor) -> Self {
        let kind = proto::ActorType::from(actor.kind);
        Self { r#type: kind.into(), id: actor.id.clone(), name: actor.name.clone() }
    }
}

impl From<&FieldChange> for proto::FieldChange {
    fn from(change: &FieldChange) -> Self {
        Self { field: change.field.clone(), old_value: change.old_value.clone(), new_value: change.new_value.clone() }
    }
}

impl From<&RequestContext> for proto::RequestContext {
    fn from(context: &RequestContext) -> Self {
        Self {
            source_ip: context.source_ip.clone(),
            user_agent: context.user_agent.clone(),
            request_id: context.request_id.clone(),
            trace_id: context.trace_id.clone(),
        }
    }
}

/// A time as protobuf has it. Times of ours carry microseconds at most.
pub fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    let nanos = time.timestamp_subsec_micros() * 1000;
    prost_types::Timestamp { seconds: time.timestamp(), nanos: i32::try_from(nanos).unwrap_or(999_999_000) }
}
