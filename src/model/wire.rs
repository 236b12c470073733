//! The parts of an event as protobuf messages: the leaf format hashes them, the replies show them. And what the contract's
//! numbers stand for.
//!
//! Implicit-presence defaults and empty sub-messages are left out, so that there is one encoding of each value.

use crate::proto::auditlog::v1 as proto;

use super::{
    clock::Timestamp,
    event::{ActionType, Actor, ActorType},
    filter::Order,
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

impl ActionType {
    /// What a number of the contract stands for; `None` for none, or for one that is not known.
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|&action| proto::ActionType::from(action) as i32 == number)
    }
}

impl ActorType {
    /// What a number of the contract stands for; `None` for none, or for one that is not known.
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|&kind| proto::ActorType::from(kind) as i32 == number)
    }
}

impl Order {
    /// What a number of the contract stands for, where none is the default; `None` for one that is not known.
    pub fn from_number(number: i32) -> Option<Self> {
        match proto::Order::try_from(number).ok()? {
            proto::Order::Unspecified | proto::Order::NewestFirst => Some(Self::NewestFirst),
            proto::Order::OldestFirst => Some(Self::OldestFirst),
            proto::Order::Log => Some(Self::Log),
        }
    }
}

impl From<Actor> for proto::Actor {
    fn from(Actor { kind, id, name }: Actor) -> Self {
        Self { r#type: proto::ActorType::from(kind).into(), id, name }
    }
}

/// A time as protobuf has it. Times of ours carry microseconds at most.
pub fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    let nanos = time.timestamp_subsec_micros() * 1000;
    prost_types::Timestamp { seconds: time.timestamp(), nanos: i32::try_from(nanos).unwrap_or(999_999_000) }
}
