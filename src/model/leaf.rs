//! Leaf format v1: what the tenant's log commits to. `leaf.proto` is its specification.
//!
//! A leaf names what can never be erased and commits to the rest through a salted hash, so that a body can be erased
//! and every proof still holds. Leaves are hashed as in RFC 6962, section 2.1.

use prost::{
    Message as _,
    encoding::{WireType, encode_key, encode_varint},
};
use sha2::{Digest as _, Sha256};

use crate::proto::auditlog::v1 as proto;

use super::{
    clock::Timestamp,
    event::{ActionType, Actor, Content, Event, FieldChange, RequestContext, Resource, Salt, UpdateNote},
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
        body.message(1, |message| put_actor(message, author));
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

/// The leaf that an event as it is now would have: its body is committed to anew, unless it was erased.
pub fn of_event(event: &Event) -> Vec<u8> {
    let commitment = match &event.body {
        Ok(body) => event_commitment(&body.salt, &body.content, &body.recorder),
        Err(_) => event.sealed.body_commitment,
    };
    event_leaf(&event.name, event.action, &event.resource_type, event.sealed.record_time, &commitment)
}

/// The same of a note on the event with the canonical name `event`.
pub fn of_note(event: &EventName, note: &UpdateNote) -> Vec<u8> {
    let commitment = match &note.body {
        Some(body) => note_commitment(&body.salt, &body.author, &body.text),
        None => note.sealed.body_commitment,
    };
    note_leaf(event, note.id, note.sealed.record_time, &commitment)
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
    let mut salted = Encoder(Vec::with_capacity(1024));
    salted.0.extend_from_slice(salt);
    put(&mut salted);
    Sha256::digest(&salted.0).into()
}

/// An `EventBody`.
fn event_body(body: &mut Encoder, content: &Content, recorder: &Actor) {
    body.message(1, |message| put_resource(message, &content.resource));
    body.message(2, |message| put_actor(message, &content.actor));
    body.text(3, &content.message);
    for change in &content.changes {
        body.message(4, |message| put_change(message, change));
    }
    if let Some(context) = &content.context {
        body.message(5, |message| put_context(message, context));
    }
    // A BTreeMap of Strings is sorted by their UTF-8 bytes, which is the order that the format asks for.
    for (key, value) in &content.attributes {
        body.message(6, |message| {
            message.text(1, key);
            message.text(2, value);
        });
    }
    body.message(7, |message| put_actor(message, recorder));
}

fn put_resource(message: &mut Encoder, resource: &Resource) {
    message.text(1, &resource.kind);
    message.text(2, &resource.id);
    message.text(3, &resource.name);
}

fn put_actor(message: &mut Encoder, actor: &Actor) {
    message.number(1, proto::ActorType::from(actor.kind) as u64);
    message.text(2, &actor.id);
    message.text(3, &actor.name);
}

fn put_change(message: &mut Encoder, change: &FieldChange) {
    message.text(1, &change.field);
    for (tag, value) in [(2, &change.old_value), (3, &change.new_value)] {
        value.iter().for_each(|value| message.bytes(tag, value.as_bytes()));
    }
}

fn put_context(message: &mut Encoder, context: &RequestContext) {
    message.text(1, &context.source_ip);
    message.text(2, &context.user_agent);
    message.text(3, &context.request_id);
    message.text(4, &context.trace_id);
}

/// Writes a body's protobuf encoding from values as they are: a body is hashed with every event, and to copy each of its
/// texts into a generated message first took longer than the hash.
struct Encoder(Vec<u8>);

impl Encoder {
    /// A field with explicit presence, or an element of a repeated one.
    fn bytes(&mut self, tag: u32, bytes: &[u8]) {
        encode_key(tag, WireType::LengthDelimited, &mut self.0);
        encode_varint(bytes.len() as u64, &mut self.0);
        self.0.extend_from_slice(bytes);
    }

    /// A text with implicit presence: left out where it is empty.
    fn text(&mut self, tag: u32, text: &str) {
        if !text.is_empty() {
            self.bytes(tag, text.as_bytes());
        }
    }

    /// A number with implicit presence: left out where it is 0.
    fn number(&mut self, tag: u32, number: u64) {
        if number != 0 {
            encode_key(tag, WireType::Varint, &mut self.0);
            encode_varint(number, &mut self.0);
        }
    }

    fn message(&mut self, tag: u32, put: impl FnOnce(&mut Self)) {
        let mut message = Self(Vec::with_capacity(128));
        put(&mut message);
        self.bytes(tag, &message.0);
    }
}

#[cfg(test)]
#[path = "leaf_tests.rs"]
mod tests;
