//! Leaf format v1: what the tenant's log commits to. `leaf.proto` is its specification.
//!
//! A leaf names what can never be erased and commits to the rest through a salted hash, so that a body can be erased
//! and every proof still holds. Leaves are hashed as in RFC 6962, section 2.1.

use prost::Message as _;
use sha2::{Digest as _, Sha256};

use crate::proto::auditlog::v1 as proto;

use super::{
    clock::Timestamp,
    encoder::Encoder,
    event::{ActionType, Actor, Content, Event, RequestContext, Salt, UpdateNote},
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
    commit(salt, |body| event_body(body, content, recorder))
}

/// Commits to a note's body.
pub fn note_commitment(salt: &Salt, author: &Actor, text: &str) -> Hash {
    commit(salt, |body| {
        body.message(1, |message| message.actor(author.kind, &author.id, &author.name));
        body.text(2, text);
    })
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

/// The commitment that an event's body as it is now makes; of an erased one, what is left of it.
pub fn commitment_of_event(event: &Event) -> Hash {
    match &event.body {
        Ok(body) => event_commitment(&body.salt, &body.content, &body.recorder),
        Err(_) => event.sealed.body_commitment,
    }
}

/// The same of a note.
pub fn commitment_of_note(note: &UpdateNote) -> Hash {
    match &note.body {
        Some(body) => note_commitment(&body.salt, &body.author, &body.text),
        None => note.sealed.body_commitment,
    }
}

/// The leaf that an event as it is now would have: its body is committed to anew, unless it was erased.
pub fn of_event(event: &Event) -> Vec<u8> {
    let commitment = commitment_of_event(event);
    event_leaf(&event.name, event.action, &event.resource_type, event.sealed.record_time, &commitment)
}

/// The same of a note on the event with the canonical name `event`.
pub fn of_note(event: &EventName, note: &UpdateNote) -> Vec<u8> {
    note_leaf(event, note.id, note.sealed.record_time, &commitment_of_note(note))
}

/// The hash of a leaf.
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    Sha256::new().chain_update(LEAF_PREFIX).chain_update(leaf).finalize().into()
}

fn encode(kind: proto::leaf::Kind) -> Vec<u8> {
    proto::Leaf { kind: Some(kind) }.encode_to_vec()
}

/// SHA-256 of the salt and the body that `put` encodes.
fn commit(salt: &Salt, put: impl FnOnce(&mut Encoder)) -> Hash {
    let mut body = Encoder::with_capacity(1024);
    put(&mut body);
    Sha256::new().chain_update(salt).chain_update(body.into_bytes()).finalize().into()
}

/// An `EventBody`.
fn event_body(body: &mut Encoder, content: &Content, recorder: &Actor) {
    let Content { resource, actor, message, changes, context, attributes } = content;
    body.message(1, |part| part.resource(&resource.kind, &resource.id, &resource.name));
    body.message(2, |part| part.actor(actor.kind, &actor.id, &actor.name));
    body.text(3, message);
    for change in changes {
        let (old, new) = (change.old_value.as_deref(), change.new_value.as_deref());
        body.message(4, |part| part.change(&change.field, old, new));
    }
    if let Some(RequestContext { source_ip, user_agent, request_id, trace_id }) = context {
        body.message(5, |part| part.texts([source_ip, user_agent, request_id, trace_id]));
    }
    // A BTreeMap of Strings is sorted by their UTF-8 bytes, which is the order that the format asks for.
    for (key, value) in attributes {
        body.message(6, |part| part.texts([key, value]));
    }
    body.message(7, |part| part.actor(recorder.kind, &recorder.id, &recorder.name));
}

#[cfg(test)]
#[path = "leaf_tests.rs"]
mod tests;
