//! Rows as the tables hold them, and the way between them and the model.

use std::borrow::Cow;

use chrono::NaiveDateTime;
use diesel::prelude::*;
use serde::{Deserialize, Serialize};

use crate::model::{
    ActionType, Actor, ActorType, Content, Entry, Erasure, Event, EventBody, EventDraft, EventName, NoteBody,
    NoteDraft, RequestContext, Resource, Salt, Scope, Sealed, TimeId, UpdateNote, leaf::Hash,
};

use super::{
    error::StoreError,
    schema::{events, update_notes},
    types::{Bytes, Id, Word},
};

/// A row of `events`, as read.
#[derive(Queryable, Selectable)]
#[diesel(table_name = events)]
pub(super) struct EventRow {
    tenant_id: String,
    event_id: Id,
    project_id: String,
    leaf_index: i64,
    record_time: NaiveDateTime,
    action_type: Word<ActionType>,
    resource_type: String,
    resource_id: Option<String>,
    resource_name: Option<String>,
    actor_type: Option<Word<ActorType>>,
    actor_id: Option<String>,
    actor_name: Option<String>,
    recorder_type: Option<Word<ActorType>>,
    recorder_id: Option<String>,
    recorder_name: Option<String>,
    message: Option<String>,
    changes: Option<String>,
    context: Option<String>,
    attributes: Option<String>,
    salt: Option<Bytes<16>>,
    body_commitment: Bytes<32>,
    erase_time: Option<NaiveDateTime>,
    erase_reason: Option<String>,
}

/// A row of `events`, as written.
#[derive(Insertable)]
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

/// A request's context as its JSON column holds it: empty fields are left out.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ContextJson {
    #[serde(skip_serializing_if = "String::is_empty")]
    source_ip: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    user_agent: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    request_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    trace_id: String,
}

/// What a new row has beside its draft.
#[derive(Debug)]
pub(super) struct Seal {
    pub(super) sealed: Sealed,
    pub(super) salt: Salt,
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
            context: context.as_ref().map(|context| to_json(&ContextJson::from(context))).transpose()?,
            attributes: if attributes.is_empty() { "{}".into() } else { to_json(attributes)?.into() },
            salt: &seal.salt,
            body_commitment: &seal.sealed.body_commitment,
            leaf_hash: &seal.leaf_hash,
        })
    }
}

impl EventRow {
    /// The event, without its notes.
    pub(super) fn into_event(self) -> Result<Event, StoreError> {
        let id = self.event_id.time_id()?;
        let project = Some(self.project_id).filter(|project| !project.is_empty());
        let scope = Scope::of_ids(self.tenant_id, project);
        let scope = scope.map_err(|error| StoreError::Corrupt(format!("scope of event {id}: {error}")))?;
        let sealed = sealed(self.record_time, self.leaf_index, self.body_commitment);
        let body = match self.erase_time {
            Some(time) => Err(Erasure { time: time.and_utc(), reason: self.erase_reason.unwrap_or_default() }),
            None => Ok(EventBody {
                content: Content {
                    resource: Resource {
                        kind: self.resource_type.clone(),
                        id: present(self.resource_id)?,
                        name: present(self.resource_name)?,
                    },
                    actor: actor(self.actor_type, self.actor_id, self.actor_name)?,
                    message: present(self.message)?,
                    changes: from_json(&present(self.changes)?)?,
                    context: self.context.map(|json| from_json::<ContextJson>(&json)).transpose()?.map(Into::into),
                    attributes: from_json(&present(self.attributes)?)?,
                },
                recorder: actor(self.recorder_type, self.recorder_id, self.recorder_name)?,
                salt: present(self.salt)?.0,
            }),
        };
        let name = EventName { scope, id };
        Ok(Event {
            name,
            action: self.action_type.0,
            resource_type: self.resource_type,
            sealed,
            body,
            notes: Vec::new(),
        })
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
            salt: &seal.salt,
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
                author: actor(kind, self.author_id, self.author_name)?,
                text: present(self.text)?,
                salt: present(self.salt)?.0,
            }),
        };
        let sealed = sealed(self.create_time, self.leaf_index, self.body_commitment);
        Ok((self.event_id.time_id()?, UpdateNote { id: self.note_id.time_id()?, sealed, body }))
    }
}

impl From<&RequestContext> for ContextJson {
    fn from(context: &RequestContext) -> Self {
        let RequestContext { source_ip, user_agent, request_id, trace_id } = context.clone();
        Self { source_ip, user_agent, request_id, trace_id }
    }
}

impl From<ContextJson> for RequestContext {
    fn from(json: ContextJson) -> Self {
        let ContextJson { source_ip, user_agent, request_id, trace_id } = json;
        Self { source_ip, user_agent, request_id, trace_id }
    }
}

fn to_json(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Refused(error.to_string()))
}

fn from_json<T: for<'de> Deserialize<'de>>(json: &str) -> Result<T, StoreError> {
    serde_json::from_str(json).map_err(|error| StoreError::Corrupt(error.to_string()))
}

fn present<T>(column: Option<T>) -> Result<T, StoreError> {
    column.ok_or_else(|| StoreError::Corrupt("a body column is NULL in a row that was not erased".to_owned()))
}

fn actor(kind: Option<Word<ActorType>>, id: Option<String>, name: Option<String>) -> Result<Actor, StoreError> {
    Ok(Actor { kind: present(kind)?.0, id: present(id)?, name: present(name)? })
}

fn sealed(time: NaiveDateTime, leaf_index: i64, commitment: Bytes<32>) -> Sealed {
    Sealed { record_time: time.and_utc(), leaf_index, body_commitment: commitment.0 }
}
