//! Rows as the tables hold them, and the way between them and the model.

use std::borrow::Cow;

use chrono::NaiveDateTime;
use diesel::prelude::*;
use serde::Serialize;

use crate::model::{
    ActionType, Actor, ActorType, ActorView, BodyView, Content, Entry, ErasureView, Event, EventDraft, EventView,
    NoteBody, NoteDraft, Sealed, TimeId, UpdateNote, leaf::Hash, name::is_id,
};

use super::{
    error::StoreError,
    schema::{events, update_notes},
    types::{Bytes, Id, ShortText, Word},
};

/// A row of `events`, as read.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = events)]
pub(super) struct EventRow {
    tenant_id: ShortText,
    event_id: Id,
    project_id: ShortText,
    leaf_index: i64,
    record_time: NaiveDateTime,
    action_type: Word<ActionType>,
    resource_type: ShortText,
    resource_id: Option<ShortText>,
    resource_name: Option<ShortText>,
    actor_type: Option<Word<ActorType>>,
    actor_id: Option<ShortText>,
    actor_name: Option<ShortText>,
    recorder_type: Option<Word<ActorType>>,
    recorder_id: Option<ShortText>,
    recorder_name: Option<ShortText>,
    message: Option<ShortText>,
    changes: Option<ShortText>,
    context: Option<ShortText>,
    attributes: Option<ShortText>,
    salt: Option<Bytes<16>>,
    body_commitment: Bytes<32>,
    erase_time: Option<NaiveDateTime>,
    erase_reason: Option<ShortText>,
}

/// A row of `events`, as written.
#[derive(Debug, Insertable)]
#[diesel(table_name = events, treat_none_as_default_value = false)]
pub(super) struct NewEvent<'a> {
    pub(super) tenant_id: &'a str,
    pub(super) event_id: Id,
    pub(super) project_id: &'a str,
    pub(super) leaf_index: i64,
    pub(super) record_time: NaiveDateTime,
    pub(super) action_type: &'static str,
    pub(super) resource_type: &'a str,
    pub(super) resource_id: &'a str,
    pub(super) resource_name: &'a str,
    pub(super) actor_type: &'static str,
    pub(super) actor_id: &'a str,
    pub(super) actor_name: &'a str,
    pub(super) recorder_type: &'static str,
    pub(super) recorder_id: &'a str,
    pub(super) recorder_name: &'a str,
    pub(super) message: &'a str,
    pub(super) changes: Cow<'static, str>,
    pub(super) context: Option<String>,
    pub(super) attributes: Cow<'static, str>,
    pub(super) salt: &'a [u8],
    pub(super) body_commitment: &'a [u8],
    pub(super) leaf_hash: &'a [u8],
}

/// A row of `update_notes`, as read.
#[derive(Queryable, Selectable)]
#[diesel(table_name = update_notes)]
pub(super) struct NoteRow {
    event_id: Id,
    note_id: Id,
    leaf_index: i64,
    create_time: NaiveDateTime,
    author_type: Option<Word<ActorType>>,
    author_id: Option<String>,
    author_name: Option<String>,
    text: Option<String>,
    salt: Option<Bytes<16>>,
    body_commitment: Bytes<32>,
}

/// A row of `update_notes`, as written.
#[derive(Insertable)]
#[diesel(table_name = update_notes, treat_none_as_default_value = false)]
pub(super) struct NewNote<'a> {
    tenant_id: &'a str,
    event_id: Id,
    note_id: Id,
    leaf_index: i64,
    create_time: NaiveDateTime,
    author_type: &'static str,
    author_id: &'a str,
    author_name: &'a str,
    text: &'a str,
    salt: &'a [u8],
    body_commitment: &'a [u8],
    leaf_hash: &'a [u8],
}

/// What a new row has beside its draft.
#[derive(Debug)]
pub(super) struct Seal {
    pub(super) sealed: Sealed,
    pub(super) leaf_hash: Hash,
}

impl<'a> NewEvent<'a> {
    pub(super) fn new(entry: &'a Entry, draft: &'a EventDraft, seal: &'a Seal) -> Result<Self, StoreError> {
        let Content { resource, actor, message, changes, context, attributes } = &draft.content;
        let recorder = &entry.recorder;
        Ok(Self {
            tenant_id: entry.scope.tenant(),
            event_id: draft.id.into(),
            project_id: entry.scope.project().unwrap_or_default(),
            leaf_index: seal.sealed.leaf_index,
            record_time: seal.sealed.record_time.naive_utc(),
            action_type: draft.action.as_str(),
            resource_type: &resource.kind,
            resource_id: &resource.id,
            resource_name: &resource.name,
            actor_type: actor.kind.as_str(),
            actor_id: &actor.id,
            actor_name: &actor.name,
            recorder_type: recorder.kind.as_str(),
            recorder_id: &recorder.id,
            recorder_name: &recorder.name,
            message,
            changes: if changes.is_empty() { "[]".into() } else { to_json(changes)?.into() },
            context: context.as_ref().map(to_json).transpose()?,
            attributes: if attributes.is_empty() { "{}".into() } else { to_json(attributes)?.into() },
            salt: entry.salt(),
            body_commitment: &seal.sealed.body_commitment,
            leaf_hash: &seal.leaf_hash,
        })
    }
}

impl EventRow {
    /// The event's id.
    pub(super) fn id(&self) -> Result<TimeId, StoreError> {
        self.event_id.time_id()
    }

    /// Its place in the tenant's log.
    pub(super) fn leaf_index(&self) -> i64 {
        self.leaf_index
    }

    /// The project that it was recorded at; empty for the tenant itself.
    pub(super) fn project(&self) -> &str {
        &self.project_id
    }

    /// The event, with `notes`. Its JSON stays unread.
    pub(super) fn view<'r>(&'r self, notes: &'r [UpdateNote]) -> Result<EventView<'r>, StoreError> {
        if !is_id(&self.tenant_id) || !(self.project_id.is_empty() || is_id(&self.project_id)) {
            return Err(StoreError::Corrupt("the scope of an event is none".to_owned()));
        }
        Ok(EventView {
            tenant: &self.tenant_id,
            project: &self.project_id,
            id: self.id()?,
            action: self.action_type.0,
            resource_type: &self.resource_type,
            sealed: sealed(self.record_time, self.leaf_index, self.body_commitment),
            body: match self.erase_time {
                Some(time) => {
                    Err(ErasureView { time: time.and_utc(), reason: self.erase_reason.as_deref().unwrap_or("") })
                }
                None => Ok(self.body()?),
            },
            notes,
        })
    }

    fn body(&self) -> Result<BodyView<'_>, StoreError> {
        Ok(BodyView {
            resource_id: text(&self.resource_id)?,
            resource_name: text(&self.resource_name)?,
            actor: actor(self.actor_type, text(&self.actor_id), text(&self.actor_name))?,
            recorder: actor(self.recorder_type, text(&self.recorder_id), text(&self.recorder_name))?,
            message: text(&self.message)?,
            changes: text(&self.changes)?,
            context: self.context.as_deref(),
            attributes: text(&self.attributes)?,
            salt: present(self.salt)?.0,
        })
    }

    /// The event, without its notes.
    pub(super) fn to_event(&self) -> Result<Event, StoreError> {
        self.view(&[])?.to_event().map_err(StoreError::from)
    }
}

impl<'a> NewNote<'a> {
    pub(super) fn new(entry: &'a Entry, draft: &'a NoteDraft, seal: &'a Seal) -> Self {
        let author = &entry.recorder;
        Self {
            tenant_id: entry.scope.tenant(),
            event_id: draft.event_id.into(),
            note_id: draft.id.into(),
            leaf_index: seal.sealed.leaf_index,
            create_time: seal.sealed.record_time.naive_utc(),
            author_type: author.kind.as_str(),
            author_id: &author.id,
            author_name: &author.name,
            text: &draft.text,
            salt: entry.salt(),
            body_commitment: &seal.sealed.body_commitment,
            leaf_hash: &seal.leaf_hash,
        }
    }
}

impl NoteRow {
    /// The id of the note's event, and the note.
    pub(super) fn into_note(self) -> Result<(TimeId, UpdateNote), StoreError> {
        let body = match self.author_type {
            None => None,
            kind => Some(NoteBody {
                author: Actor {
                    kind: present(kind)?.0,
                    id: present(self.author_id)?,
                    name: present(self.author_name)?,
                },
                text: present(self.text)?,
                salt: present(self.salt)?.0,
            }),
        };
        let sealed = sealed(self.create_time, self.leaf_index, self.body_commitment);
        Ok((self.event_id.time_id()?, UpdateNote { id: self.note_id.time_id()?, sealed, body }))
    }
}

fn to_json(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Refused(error.to_string()))
}

fn present<T>(column: Option<T>) -> Result<T, StoreError> {
    column.ok_or_else(|| StoreError::Corrupt("a body column is NULL in a row that was not erased".to_owned()))
}

fn text(column: &Option<ShortText>) -> Result<&str, StoreError> {
    present(column.as_deref())
}

fn actor<'r>(
    kind: Option<Word<ActorType>>,
    id: Result<&'r str, StoreError>,
    name: Result<&'r str, StoreError>,
) -> Result<ActorView<'r>, StoreError> {
    Ok(ActorView { kind: present(kind)?.0, id: id?, name: name? })
}

fn sealed(time: NaiveDateTime, leaf_index: i64, commitment: Bytes<32>) -> Sealed {
    Sealed { record_time: time.and_utc(), leaf_index, body_commitment: commitment.0 }
}
