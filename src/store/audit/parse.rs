//! From columns to the model, with the name of the column that does not fit.
//!
//! Stricter than the service's own way: what is there twice, or is not written as the service writes it, is said, because a
//! leaf commits to values and would not tell.

use std::{collections::HashMap, fmt::Display};

use chrono::{NaiveDateTime, Timelike as _};
use serde::{Deserialize, Serialize};

use crate::model::{
    ActionType, Actor, ActorType, Content, Erasure, Event, EventBody, EventName, NoteBody, Resource, Salt, Sealed,
    TimeId, Timestamp, UpdateNote, leaf::Hash,
};

use super::{
    BadColumn, NoteOnEvent,
    columns::{EventColumns, NoteColumns, RawId},
    scope,
};

type Parsed<T> = Result<T, BadColumn>;

impl EventColumns {
    pub(super) fn parse(self, tenant: &str) -> Parsed<Event> {
        let name = EventName { scope: scope(tenant, &self.project_id)?, id: id("event_id", &self.event_id)? };
        let action = ActionType::parse(&self.action_type)
            .ok_or_else(|| bad("action_type", format!("{:?} is no action", self.action_type)))?;
        let sealed = Sealed {
            record_time: micros("record_time", self.record_time)?,
            leaf_index: self.leaf_index,
            body_commitment: hash("body_commitment", &self.body_commitment)?,
        };
        let resource_type = self.resource_type.clone();
        let body = match self.erase_time {
            Some(time) => Err(self.erasure(time)?),
            None => Ok(self.body()?),
        };
        Ok(Event { name, action, resource_type, sealed, body, notes: Vec::new() })
    }

    fn erasure(self, time: NaiveDateTime) -> Parsed<Erasure> {
        for (column, is_there) in self.body_columns() {
            if is_there {
                return Err(bad(column, "is there, although erase_time says that the body was erased"));
            }
        }
        let reason = present("erase_reason", self.erase_reason)?;
        Ok(Erasure { time: time.and_utc(), reason })
    }

    fn body_columns(&self) -> [(&'static str, bool); 13] {
        [
            ("resource_id", self.resource_id.is_some()),
            ("resource_name", self.resource_name.is_some()),
            ("actor_type", self.actor_type.is_some()),
            ("actor_id", self.actor_id.is_some()),
            ("actor_name", self.actor_name.is_some()),
            ("recorder_type", self.recorder_type.is_some()),
            ("recorder_id", self.recorder_id.is_some()),
            ("recorder_name", self.recorder_name.is_some()),
            ("message", self.message.is_some()),
            ("changes", self.changes.is_some()),
            ("context", self.context.is_some()),
            ("attributes", self.attributes.is_some()),
            ("salt", self.salt.is_some()),
        ]
    }

    fn body(self) -> Parsed<EventBody> {
        if self.erase_reason.is_some() {
            return Err(bad("erase_reason", "is there, although the body was not erased"));
        }
        let kind = |column, kind: Option<String>| actor_type(column, &present(column, kind)?);
        let content = Content {
            resource: Resource {
                kind: self.resource_type,
                id: present("resource_id", self.resource_id)?,
                name: present("resource_name", self.resource_name)?,
            },
            actor: Actor {
                kind: kind("actor_type", self.actor_type)?,
                id: present("actor_id", self.actor_id)?,
                name: present("actor_name", self.actor_name)?,
            },
            message: present("message", self.message)?,
            changes: json("changes", &present("changes", self.changes)?)?,
            context: self.context.map(|text| json("context", &text)).transpose()?,
            attributes: json("attributes", &present("attributes", self.attributes)?)?,
        };
        let recorder = Actor {
            kind: kind("recorder_type", self.recorder_type)?,
            id: present("recorder_id", self.recorder_id)?,
            name: present("recorder_name", self.recorder_name)?,
        };
        Ok(EventBody { content, recorder, salt: salt(self.salt)? })
    }
}

impl NoteColumns {
    pub(super) fn parse(self, tenant: &str, projects: &HashMap<RawId, String>) -> Parsed<NoteOnEvent> {
        let event_id = id("event_id", &self.event_id)?;
        let scope = projects.get(&self.event_id).map(|project| scope(tenant, project)).transpose();
        let scope = scope.map_err(|error| bad("event_id", format!("its event has a bad {error}")))?;
        let event = scope.map(|scope| EventName { scope, id: event_id });
        let sealed = Sealed {
            record_time: micros("create_time", self.create_time)?,
            leaf_index: self.leaf_index,
            body_commitment: hash("body_commitment", &self.body_commitment)?,
        };
        Ok((event, UpdateNote { id: id("note_id", &self.note_id)?, sealed, body: self.body()? }))
    }

    /// `None` once it was erased, which all of its columns say together.
    fn body(self) -> Parsed<Option<NoteBody>> {
        let Self { author_type: kind, author_id, author_name, text, salt: bytes, .. } = self;
        if kind.is_none() && author_id.is_none() && author_name.is_none() && text.is_none() && bytes.is_none() {
            return Ok(None);
        }
        let author = Actor {
            kind: actor_type("author_type", &present("author_type", kind)?)?,
            id: present("author_id", author_id)?,
            name: present("author_name", author_name)?,
        };
        Ok(Some(NoteBody { author, text: present("text", text)?, salt: salt(bytes)? }))
    }
}

fn bad(column: &'static str, problem: impl Display) -> BadColumn {
    BadColumn { column, problem: problem.to_string() }
}

fn present<T>(column: &'static str, value: Option<T>) -> Parsed<T> {
    value.ok_or_else(|| bad(column, "is NULL, although the body was not erased"))
}

fn id(column: &'static str, id: &RawId) -> Parsed<TimeId> {
    TimeId::parse(&id.0).map_err(|error| bad(column, format!("{:?} {error}", id.0)))
}

fn actor_type(column: &'static str, word: &str) -> Parsed<ActorType> {
    ActorType::parse(word).ok_or_else(|| bad(column, format!("{word:?} is no type of actor")))
}

pub(super) fn hash(column: &'static str, bytes: &[u8]) -> Parsed<Hash> {
    bytes.try_into().map_err(|_| bad(column, format!("has {} bytes instead of 32", bytes.len())))
}

fn salt(bytes: Option<Vec<u8>>) -> Parsed<Salt> {
    let bytes = present("salt", bytes)?;
    let length = bytes.len();
    bytes.try_into().map_err(|_| bad("salt", format!("has {length} bytes instead of 16")))
}

/// SQLite keeps whatever digits a time was written with, and the leaf only six of them.
fn micros(column: &'static str, time: NaiveDateTime) -> Parsed<Timestamp> {
    match time.nanosecond() % 1000 {
        0 => Ok(time.and_utc()),
        _ => Err(bad(column, "has more digits than the service writes")),
    }
}

/// Keys that come twice, that the leaf does not know, or that are written in another way are no difference to the leaf, but
/// may be one to whoever reads the column.
fn json<T: Serialize + for<'de> Deserialize<'de>>(column: &'static str, text: &str) -> Parsed<T> {
    let value: T =
        serde_json::from_str(text).map_err(|error| bad(column, format!("is not the JSON expected: {error}")))?;
    match serde_json::to_string(&value) {
        Ok(written) if written == text => Ok(value),
        _ => Err(bad(column, "is not written as the service writes it")),
    }
}
