//! Leaf format v1: what the tenant's log commits to. `leaf.proto` is its specification.
//!
//! A leaf names what can never be erased and commits to the rest through a salted hash, so that a body can be erased
//! and every proof still holds. Leaves are hashed as in RFC 6962, section 2.1.

use prost::Message as _;
use sha2::{Digest as _, Sha256};

use crate::proto::auditlog::v1 as proto;

use super::{
    clock::Timestamp,
    event::{ActionType, Actor, Content, Salt},
    name::EventName,
    time_id::NoteId,
    wire::timestamp,
};

/// A SHA-256 value.
pub type Hash = [u8; 32];

/// The prefix that keeps a leaf from being taken for an inner node (RFC 6962, section 2.1).
const LEAF_PREFIX: [u8; 1] = [0];

/// Commits to an event's body.
pub fn event_commitment(salt: &Salt, content: &Content, recorder: &Actor) -> Hash {
    commit(salt, &event_body(content, recorder).encode_to_vec())
}

/// Commits to a note's body.
pub fn note_commitment(salt: &Salt, author: &Actor, text: &str) -> Hash {
    commit(salt, &proto::NoteBody { author: Some(author.into()), text: text.to_owned() }.encode_to_vec())
}

/// The leaf of an event.
pub fn event_leaf(name: &EventName, action: ActionType, resource_type: &str, time: Timestamp, body: &Hash) -> Vec<u8> {
    encode(proto::leaf::Kind::Event(proto::EventLeaf {
        name: name.to_string(),
        action_type: proto::ActionType::from(action).into(),
        resource_type: resource_type.to_owned(),
        record_time: Some(timestamp(time)),
        body_commitment: body.to_vec(),
    }))
}

/// The leaf of a note to the event with the canonical name `event`.
pub fn note_leaf(event: &EventName, note: NoteId, time: Timestamp, body: &Hash) -> Vec<u8> {
    encode(proto::leaf::Kind::Note(proto::NoteLeaf {
        event_name: event.to_string(),
        note_id: note.to_string(),
        create_time: Some(timestamp(time)),
        body_commitment: body.to_vec(),
    }))
}

/// The hash of a leaf.
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    Sha256::new().chain_update(LEAF_PREFIX).chain_update(leaf).finalize().into()
}

fn commit(salt: &Salt, body: &[u8]) -> Hash {
    Sha256::new().chain_update(salt).chain_update(body).finalize().into()
}

fn encode(kind: proto::leaf::Kind) -> Vec<u8> {
    proto::Leaf { kind: Some(kind) }.encode_to_vec()
}

fn event_body(content: &Content, recorder: &Actor) -> proto::EventBody {
    proto::EventBody {
        resource: Some((&content.resource).into()),
        actor: Some((&content.actor).into()),
        message: content.message.clone(),
        changes: content.changes.iter().map(Into::into).collect(),
        context: content.context.as_ref().map(Into::into),
        // A BTreeMap of Strings is sorted by their UTF-8 bytes, which is the order that the format asks for.
        attributes: content.attributes.iter().map(|(key, value)| attribute(key, value)).collect(),
        recorder: Some(recorder.into()),
    }
}

fn attribute(key: &str, value: &str) -> proto::Attribute {
    proto::Attribute { key: key.to_owned(), value: value.to_owned() }
}

#[cfg(test)]
#[path = "leaf_tests.rs"]
mod tests;
