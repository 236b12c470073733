//! Rows as the tables hold them, and the way between them and the model.

use chrono::NaiveDateTime;
use diesel::prelude::*;
use serde::{Deserialize, Serialize};

use crate::model::{
    ActionType, Actor, ActorType, Content, Erasure, Event, EventBody, EventDraft, EventName, NoteBody, NoteDraft,
    RequestContext, Resource, Salt, Scope, Sealed, TimeId, UpdateNote, leaf::Hash,
};

use super::{
    error::StoreError,
    schema::{events, update_notes},
};

/// A row of `events`.
#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = events, treat_none_as_default_value = false)]
pub(super) struct EventRow {
    tenant_id: String,
    event_id: String,
    project_id: Option<String>,
    leaf_index: i64,
    record_time: NaiveDateTime,
    action_type: String,
    resource_type: String,
    resource_id: Option<String>,
    resource_name: Option<String>,
    actor_type: Option<String>,
    actor_id: Option<String>,
    actor_name: Option<String>,
    recorder_type: Option<String>,
    recorder_id: Option<String>,
    recorder_name: Option<String>,
    message: Option<String>,
    changes: Option<String>,
    context: Option<String>,
    attributes: Option<String>,
    salt: Option<Vec<u8>>,
    body_commitment: Vec<u8>,
    leaf_hash: Vec<u8>,
    erase_time: Option<NaiveDateTime>,
    erase_reason: Option<String>,
}

/// A row of `update_notes`.
#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = update_notes, treat_none_as_default_value = false)]
pub(super) struct NoteRow {
    tenant_id: String,
    event_id: String,
    note_id: String,
    leaf_index: i64,
    create_time: NaiveDateTime,
    author_type: Option<String>,
    author_id: Option<String>,
    author_name: Option<String>,
    text: Option<String>,
    salt: Option<Vec<u8>>,
    body_commitment: Vec<u8>,
    leaf_hash: Vec<u8>,
}

/// A request's context as its JSON column holds it: empty fields are left out.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct ContextJson {
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
pub(super) struct Seal<'a> {
    pub(super) sealed: &'a Sealed,
    pub(super) salt: &'a Salt,
    pub(super) leaf_hash: &'a Hash,
}

impl EventRow {
    pub(super) fn new(
        scope: &Scope,
        recorder: &Actor,
        draft: &EventDraft,
        seal: &Seal<'_>,
    ) -> Result<Self, StoreError> {
        let Content { resource, actor, message, changes, context, attributes } = &draft.content;
        Ok(Self {
            tenant_id: scope.tenant().to_owned(),
            event_id: draft.id.to_string(),
            project_id: scope.project().map(str::to_owned),
            leaf_index: seal.sealed.leaf_index,
            record_time: seal.sealed.record_time.naive_utc(),
            action_type: draft.action.as_str().to_owned(),
            resource_type: resource.kind.clone(),
            resource_id: Some(resource.id.clone()),
            resource_name: Some(resource.name.clone()),
            actor_type: Some(actor.kind.as_str().to_owned()),
            actor_id: Some(actor.id.clone()),
            actor_name: Some(actor.name.clone()),
            recorder_type: Some(recorder.kind.as_str().to_owned()),
            recorder_id: Some(recorder.id.clone()),
            recorder_name: Some(recorder.name.clone()),
            message: Some(message.clone()),
            changes: Some(to_json(changes)?),
            context: context.as_ref().map(|context| to_json(&ContextJson::from(context))).transpose()?,
            attributes: Some(to_json(attributes)?),
            salt: Some(seal.salt.to_vec()),
            body_commitment: seal.sealed.body_commitment.to_vec(),
            leaf_hash: seal.leaf_hash.to_vec(),
            erase_time: None,
            erase_reason: None,
        })
    }

    /// The event, without its notes.
    pub(super) fn into_event(self) -> Result<Event, StoreError> {
        let scope = Scope::new(&self.tenant_id, self.project_id.as_deref());
        let scope = scope.map_err(|error| StoreError::Corrupt(format!("scope of event {}: {error}", self.event_id)))?;
        let sealed = sealed(self.record_time, self.leaf_index, self.body_commitment)?;
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
                salt: salt(self.salt)?,
            }),
        };
        let name = EventName { scope, id: time_id(&self.event_id)? };
        let action = word(ActionType::parse, &self.action_type)?;
        Ok(Event { name, action, resource_type: self.resource_type, sealed, body, notes: Vec::new() })
    }
}

impl NoteRow {
    pub(super) fn new(tenant: &str, author: &Actor, draft: &NoteDraft, seal: &Seal<'_>) -> Self {
        Self {
            tenant_id: tenant.to_owned(),
            event_id: draft.event_id.to_string(),
            note_id: draft.id.to_string(),
            leaf_index: seal.sealed.leaf_index,
            create_time: seal.sealed.record_time.naive_utc(),
            author_type: Some(author.kind.as_str().to_owned()),
            author_id: Some(author.id.clone()),
            author_name: Some(author.name.clone()),
            text: Some(draft.text.clone()),
            salt: Some(seal.salt.to_vec()),
            body_commitment: seal.sealed.body_commitment.to_vec(),
            leaf_hash: seal.leaf_hash.to_vec(),
        }
    }

    /// The id of the note's event, and the note.
    pub(super) fn into_note(self) -> Result<(TimeId, UpdateNote), StoreError> {
        let body = match self.author_type {
            None => None,
            kind => Some(NoteBody {
                author: actor(kind, self.author_id, self.author_name)?,
                text: present(self.text)?,
                salt: salt(self.salt)?,
            }),
        };
        let sealed = sealed(self.create_time, self.leaf_index, self.body_commitment)?;
        Ok((time_id(&self.event_id)?, UpdateNote { id: time_id(&self.note_id)?, sealed, body }))
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

fn word<T>(parse: fn(&str) -> Option<T>, text: &str) -> Result<T, StoreError> {
    parse(text).ok_or_else(|| StoreError::Corrupt(format!("unknown word {text:?}")))
}

fn actor(kind: Option<String>, id: Option<String>, name: Option<String>) -> Result<Actor, StoreError> {
    Ok(Actor { kind: word(ActorType::parse, &present(kind)?)?, id: present(id)?, name: present(name)? })
}

fn time_id(text: &str) -> Result<TimeId, StoreError> {
    TimeId::parse(text).map_err(|error| StoreError::Corrupt(format!("id {text:?} {error}")))
}

fn salt(column: Option<Vec<u8>>) -> Result<Salt, StoreError> {
    Salt::try_from(present(column)?).map_err(|_| StoreError::Corrupt("a salt must have 16 bytes".to_owned()))
}

fn sealed(time: NaiveDateTime, leaf_index: i64, commitment: Vec<u8>) -> Result<Sealed, StoreError> {
    let commitment = Hash::try_from(commitment);
    let body_commitment = commitment.map_err(|_| StoreError::Corrupt("a commitment must have 32 bytes".to_owned()))?;
    Ok(Sealed { record_time: time.and_utc(), leaf_index, body_commitment })
}
