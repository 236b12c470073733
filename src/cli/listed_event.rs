//! From the service's messages back to the model, so that leaves can be made anew. What is not there or does not fit is
//! said: these messages are what is to be verified.

use std::mem;

use crate::{
    model::{
        ActionType, Actor, ActorType, Content, Erasure, Event, EventBody, EventName, FieldChange, NoteBody,
        RequestContext, Resource, Sealed, TimeId, Timestamp, UpdateNote,
    },
    proto::auditlog::v1 as proto,
};

type Read<T> = Result<T, String>;

/// An event of the service.
pub(super) fn read(mut event: proto::Event) -> Read<Event> {
    let action = ActionType::from_number(event.action_type).ok_or("action_type is none")?;
    let name = name(&event)?;
    let resource = event.resource.take().ok_or("resource is absent")?;
    let resource_type = resource.r#type.clone();
    let (record_time, leaf_index) = (event.record_time, event.leaf_index);
    let notes = mem::take(&mut event.update_notes);
    let (body, body_commitment) = body(event, resource)?;
    let sealed = sealed("record_time", record_time, leaf_index, body_commitment)?;
    let notes = notes.into_iter().map(named_note).collect::<Read<_>>()?;
    Ok(Event { name, action, resource_type, sealed, body, notes })
}

/// The event's name, whose id has its time.
fn name(event: &proto::Event) -> Read<EventName> {
    let (scope, id) = EventName::split(&event.name).map_err(|error| format!("name {error}"))?;
    let id = TimeId::parse(id).map_err(|error| format!("name {error}"))?;
    match time("event_time", event.event_time)? == id.time() {
        true => Ok(EventName { scope, id }),
        false => Err("event_time is not the time of the event_id".to_owned()),
    }
}

/// The body, from which its commitment is made; or its erasure, and the commitment that is left of it.
type Body = (Result<EventBody, Erasure>, [u8; 32]);

fn body(event: proto::Event, resource: proto::Resource) -> Read<Body> {
    if event.erasure.is_some() {
        return erased(event, &resource);
    }
    require_uncommitted("body_commitment", &event.body_commitment)?;
    let content = Content {
        resource: Resource { kind: resource.r#type, id: resource.id, name: resource.name },
        actor: actor("actor", event.actor)?,
        message: event.message,
        changes: event.changes.into_iter().map(change).collect(),
        context: event.context.map(context),
        attributes: event.attributes,
    };
    let recorder = actor("recorder", event.recorder)?;
    Ok((Ok(EventBody { content, recorder, salt: bytes("salt", &event.salt)? }), [0; 32]))
}

/// No leaf vouches for what is shown in place of an erased body, and who reads it beside what was verified would believe it.
fn erased(event: proto::Event, resource: &proto::Resource) -> Read<Body> {
    require_erased(&[
        ("resource.id", resource.id.is_empty()),
        ("resource.name", resource.name.is_empty()),
        ("actor", event.actor.is_none()),
        ("message", event.message.is_empty()),
        ("changes", event.changes.is_empty()),
        ("context", event.context.is_none()),
        ("attributes", event.attributes.is_empty()),
        ("recorder", event.recorder.is_none()),
        ("salt", event.salt.is_empty()),
    ])?;
    let erasure = event.erasure.unwrap_or_default();
    let erasure = Erasure { time: time("erase_time", erasure.erase_time)?, reason: erasure.reason };
    Ok((Err(erasure), bytes("body_commitment", &event.body_commitment)?))
}

/// Each field of an erased body must be absent; `fields` says whether it is.
fn require_erased(fields: &[(&str, bool)]) -> Read<()> {
    match fields.iter().find(|(_, is_absent)| !is_absent) {
        Some((field, _)) => Err(format!("{field} is shown, although the body was erased: nothing vouches for it")),
        None => Ok(()),
    }
}

/// The commitment is made from the body where there is one. Another one beside it would not be looked at.
fn require_uncommitted(field: &str, commitment: &[u8]) -> Read<()> {
    match commitment {
        [] => Ok(()),
        _ => Err(format!("{field} is shown, although the body was not erased: nothing vouches for it")),
    }
}

/// A note, or which one it is and what is wrong with it.
fn named_note(shown: proto::UpdateNote) -> Read<UpdateNote> {
    let id = shown.note_id.clone();
    note(shown).map_err(|problem| format!("note {id}: {problem}"))
}

fn note(note: proto::UpdateNote) -> Read<UpdateNote> {
    let (body, body_commitment) = match note.author {
        None => {
            require_erased(&[
                ("update_notes.text", note.text.is_empty()),
                ("update_notes.salt", note.salt.is_empty()),
            ])?;
            (None, bytes("update_notes.body_commitment", &note.body_commitment)?)
        }
        author => {
            require_uncommitted("update_notes.body_commitment", &note.body_commitment)?;
            let author = actor("update_notes.author", author)?;
            let salt = bytes("update_notes.salt", &note.salt)?;
            (Some(NoteBody { author, text: note.text, salt }), [0; 32])
        }
    };
    let id = TimeId::parse(&note.note_id).map_err(|error| format!("update_notes.note_id {error}"))?;
    let sealed = sealed("update_notes.create_time", note.create_time, note.leaf_index, body_commitment)?;
    Ok(UpdateNote { id, sealed, body })
}

fn sealed(
    field: &str,
    at: Option<prost_types::Timestamp>,
    leaf_index: Option<i64>,
    body_commitment: [u8; 32],
) -> Read<Sealed> {
    let leaf_index = leaf_index.filter(|index| *index >= 0).ok_or("leaf_index is absent or negative")?;
    Ok(Sealed { record_time: time(field, at)?, leaf_index, body_commitment })
}

fn time(field: &str, time: Option<prost_types::Timestamp>) -> Read<Timestamp> {
    let time = time.ok_or_else(|| format!("{field} is absent"))?;
    let nanos = u32::try_from(time.nanos).ok().filter(|nanos| nanos % 1000 == 0);
    let time = nanos.and_then(|nanos| Timestamp::from_timestamp(time.seconds, nanos));
    time.ok_or_else(|| format!("{field} is no time in whole microseconds"))
}

fn bytes<const N: usize>(field: &str, bytes: &[u8]) -> Read<[u8; N]> {
    bytes.try_into().map_err(|_| format!("{field} has {} bytes instead of {N}", bytes.len()))
}

fn actor(field: &str, actor: Option<proto::Actor>) -> Read<Actor> {
    let actor = actor.ok_or_else(|| format!("{field} is absent"))?;
    let kind = ActorType::from_number(actor.r#type).ok_or_else(|| format!("{field}.type is none"))?;
    Ok(Actor { kind, id: actor.id, name: actor.name })
}

fn change(change: proto::FieldChange) -> FieldChange {
    FieldChange { field: change.field, old_value: change.old_value, new_value: change.new_value }
}

fn context(context: proto::RequestContext) -> RequestContext {
    let proto::RequestContext { source_ip, user_agent, request_id, trace_id } = context;
    RequestContext { source_ip, user_agent, request_id, trace_id }
}
