//! A stored event as its row has it: texts borrowed, JSON unread.
//!
//! Lists and exports pass events on by the thousand. What they need of most columns is their bytes, so nothing is made of
//! them that would be taken apart again a moment later. [`EventView::to_event`] makes values of the model of it.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Serialize};

use super::{
    clock::Timestamp,
    event::{ActionType, Actor, ActorType, Content, Erasure, Event, EventBody, Resource, Salt, Sealed, UpdateNote},
    filter::Order,
    name::{EventName, NameError, Scope},
    page::Position,
    time_id::EventId,
};

/// A stored event.
#[derive(Clone, Copy, Debug)]
pub struct EventView<'r> {
    /// Whose log it is in.
    pub tenant: &'r str,
    /// Which project it was recorded at; empty for the tenant itself.
    pub project: &'r str,
    /// Its id.
    pub id: EventId,
    /// What was done.
    pub action: ActionType,
    /// The resource's type: unlike the rest of the resource it cannot be erased.
    pub resource_type: &'r str,
    /// Its place in the log.
    pub sealed: Sealed,
    /// The body, or what is left to say of it.
    pub body: Result<BodyView<'r>, ErasureView<'r>>,
    /// Its notes, oldest first.
    pub notes: &'r [UpdateNote],
}

/// The erasable part of a stored event.
#[derive(Clone, Copy, Debug)]
pub struct BodyView<'r> {
    /// The resource's id.
    pub resource_id: &'r str,
    /// The resource's name for people.
    pub resource_name: &'r str,
    /// Who acted.
    pub actor: ActorView<'r>,
    /// The authenticated caller.
    pub recorder: ActorView<'r>,
    /// One human sentence; may be empty.
    pub message: &'r str,
    /// What changed: a JSON array, see [`Self::changes`].
    pub changes: &'r str,
    /// The request: a JSON object, see [`Self::context`].
    pub context: Option<&'r str>,
    /// Anything else: a JSON object of texts, see [`Self::attributes`].
    pub attributes: &'r str,
    /// What the commitment was salted with.
    pub salt: Salt,
}

/// Who acted, recorded or wrote.
#[derive(Clone, Copy, Debug)]
pub struct ActorView<'r> {
    /// User, service or system.
    pub kind: ActorType,
    /// The id.
    pub id: &'r str,
    /// The name for people.
    pub name: &'r str,
}

/// That, when and why a body was erased.
#[derive(Clone, Copy, Debug)]
pub struct ErasureView<'r> {
    /// When.
    pub time: Timestamp,
    /// Why, in the operator's words.
    pub reason: &'r str,
}

/// A text out of JSON: borrowed, but where it has escapes.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Text<'r>(#[serde(borrow)] Cow<'r, str>);

/// One field's change.
#[derive(Debug, Serialize, Deserialize)]
pub struct ChangeView<'r> {
    /// Which field.
    #[serde(borrow)]
    pub field: Text<'r>,
    /// What it was.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub old_value: Option<Text<'r>>,
    /// What it is.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub new_value: Option<Text<'r>>,
}

/// The request that the change came with.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ContextView<'r> {
    /// Where it came from.
    #[serde(borrow)]
    pub source_ip: Text<'r>,
    /// What sent it.
    #[serde(borrow)]
    pub user_agent: Text<'r>,
    /// The caller's id of it.
    #[serde(borrow)]
    pub request_id: Text<'r>,
    /// The W3C trace id.
    #[serde(borrow)]
    pub trace_id: Text<'r>,
}

/// Why a row is not an event.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// Its ids make no scope.
    #[error("its scope {0}")]
    Scope(#[from] NameError),
    /// A column is not the JSON that this service writes.
    #[error("a column is not JSON of this service: {0}")]
    Json(#[from] serde_json::Error),
}

impl<'r> From<Text<'r>> for Cow<'r, str> {
    fn from(Text(text): Text<'r>) -> Self {
        text
    }
}

impl Text<'_> {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'r> EventView<'r> {
    /// Its place in `order`.
    pub fn position(&self, order: Order) -> Position {
        Position::of(self.id, self.sealed.leaf_index, order)
    }

    /// At least as many bytes as the event and its notes take as a protobuf message. JSON takes more than a message does,
    /// but for an attribute's two texts of which each has up to two bytes more of length and tag.
    pub fn encoded_bound(&self) -> usize {
        const FIXED: usize = 512;
        let body = self.body.as_ref().map_or_else(|erasure| erasure.reason.len(), BodyView::text_len);
        let notes: usize = self.notes.iter().map(UpdateNote::encoded_bound).sum();
        FIXED + self.tenant.len() + self.project.len() + self.resource_type.len() + body + notes
    }

    /// The event as values of the model.
    pub fn to_event(self) -> Result<Event, ViewError> {
        let project = Some(self.project).filter(|project| !project.is_empty());
        Ok(Event {
            name: EventName { scope: Scope::new(self.tenant, project)?, id: self.id },
            action: self.action,
            resource_type: self.resource_type.to_owned(),
            sealed: self.sealed,
            body: match &self.body {
                Ok(body) => Ok(body.to_body(self.resource_type)?),
                Err(erasure) => Err(Erasure { time: erasure.time, reason: erasure.reason.to_owned() }),
            },
            notes: self.notes.to_vec(),
        })
    }
}

impl<'r> BodyView<'r> {
    /// What changed, in the order given.
    pub fn changes(&self) -> serde_json::Result<Vec<ChangeView<'r>>> {
        read(self.changes, "[]")
    }

    /// The request.
    pub fn context(&self) -> serde_json::Result<Option<ContextView<'r>>> {
        self.context.map(serde_json::from_str).transpose()
    }

    /// Anything else, sorted by the key's UTF-8 bytes.
    pub fn attributes(&self) -> serde_json::Result<BTreeMap<Text<'r>, Text<'r>>> {
        read(self.attributes, "{}")
    }

    fn text_len(&self) -> usize {
        let actors = [self.actor, self.recorder].iter().map(|actor| actor.id.len() + actor.name.len()).sum::<usize>();
        let resource = self.resource_id.len() + self.resource_name.len();
        let json = self.changes.len() + self.context.map_or(0, str::len) + 2 * self.attributes.len();
        actors + resource + self.message.len() + json
    }

    fn to_body(self, resource_type: &str) -> serde_json::Result<EventBody> {
        Ok(EventBody {
            content: Content {
                resource: Resource {
                    kind: resource_type.to_owned(),
                    id: self.resource_id.to_owned(),
                    name: self.resource_name.to_owned(),
                },
                actor: self.actor.to_actor(),
                message: self.message.to_owned(),
                changes: serde_json::from_str(self.changes)?,
                context: self.context.map(serde_json::from_str).transpose()?,
                attributes: serde_json::from_str(self.attributes)?,
            },
            recorder: self.recorder.to_actor(),
            salt: self.salt,
        })
    }
}

impl ActorView<'_> {
    /// The same as a value of the model.
    pub fn to_actor(self) -> Actor {
        Actor { kind: self.kind, id: self.id.to_owned(), name: self.name.to_owned() }
    }
}

/// Most events have none of what is empty as `nothing` says.
fn read<'r, T: Deserialize<'r> + Default>(json: &'r str, nothing: &str) -> serde_json::Result<T> {
    if json == nothing { Ok(T::default()) } else { serde_json::from_str(json) }
}
