//! Events and notes as the store gives them back: a *sealed* one has its place in the tenant's log. What is not placed yet is a
//! [draft](super::Draft).

use std::collections::BTreeMap;

use serde::Serialize;

use super::{clock::Timestamp, name::EventName, time_id::NoteId};

/// What was done to the resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ActionType {
    /// It was made.
    Create,
    /// It was changed.
    Update,
    /// It was removed.
    Delete,
}

/// What kind of actor acted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ActorType {
    /// A person.
    User,
    /// A service, on its own behalf.
    Service,
    /// The platform itself.
    System,
}

impl ActionType {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Create, Self::Update, Self::Delete];

    /// The word in SQL and CSV.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    /// Reads [`Self::as_str`] back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == text)
    }
}

impl ActorType {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::User, Self::Service, Self::System];

    /// The word in SQL, CSV and call metadata.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Service => "service",
            Self::System => "system",
        }
    }

    /// Reads [`Self::as_str`] back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// What was acted on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its type, such as `cluster`. Types that begin with `audit_` are the service's own.
    pub kind: String,
    /// Its id within the type.
    pub id: String,
    /// Its name for people; empty if there is none.
    pub name: String,
}

/// Who acted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Actor {
    /// User, service or system.
    #[serde(rename = "type")]
    pub kind: ActorType,
    /// The id; empty only for the system.
    pub id: String,
    /// The name for people; empty if there is none.
    pub name: String,
}

/// One field's change. An absent value differs from an empty one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct FieldChange {
    /// Which field.
    pub field: String,
    /// What it was; absent if it was not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_value: Option<String>,
    /// What it is; absent if it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_value: Option<String>,
}

/// The request that the change came with. All fields may be empty, not all at once; in JSON the empty ones are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(default)]
pub struct RequestContext {
    /// Where the request came from.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source_ip: String,
    /// What sent it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user_agent: String,
    /// The caller's id of the request.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub request_id: String,
    /// The W3C trace id.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub trace_id: String,
}

/// The part of an event that the client tells and that can be erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// What was acted on.
    pub resource: Resource,
    /// Who acted.
    pub actor: Actor,
    /// One human sentence; may be empty.
    pub message: String,
    /// What changed, in the order given.
    pub changes: Vec<FieldChange>,
    /// The request; an empty one counts as absent.
    pub context: Option<RequestContext>,
    /// Anything else, sorted by the key's UTF-8 bytes.
    pub attributes: BTreeMap<String, String>,
}

/// 16 random bytes that are hashed before a body, so that an erased body cannot be guessed from its commitment.
pub type Salt = [u8; 16];

/// What the log keeps of an event or a note for good, whatever happens to its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// When it was stored, to the microsecond.
    pub record_time: Timestamp,
    /// The place in the tenant's log, from 0.
    pub leaf_index: i64,
    /// SHA-256 of the salt and the encoded body.
    pub body_commitment: [u8; 32],
}

/// The erasable part of a stored event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventBody {
    /// What the client told.
    pub content: Content,
    /// The authenticated caller.
    pub recorder: Actor,
    /// What the commitment was salted with.
    pub salt: Salt,
}

/// That, when and why a body was erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// When.
    pub time: Timestamp,
    /// Why, in the operator's words.
    pub reason: String,
}

/// A stored event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The canonical name.
    pub name: EventName,
    /// What was done.
    pub action: ActionType,
    /// The resource's type: unlike the rest of the resource it cannot be erased.
    pub resource_type: String,
    /// Its place in the log.
    pub sealed: Sealed,
    /// The body, or what is left to say of it.
    pub body: Result<EventBody, Erasure>,
    /// Its notes, oldest first.
    pub notes: Vec<UpdateNote>,
}

/// The erasable part of a stored note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteBody {
    /// Who wrote it: the authenticated caller.
    pub author: Actor,
    /// What it says.
    pub text: String,
    /// What the commitment was salted with.
    pub salt: Salt,
}

/// A stored note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateNote {
    /// Its id, unique in the tenant.
    pub id: NoteId,
    /// Its place in the log; the record time is the note's create time.
    pub sealed: Sealed,
    /// The body; `None` once it was erased.
    pub body: Option<NoteBody>,
}

impl Content {
    /// About as many bytes as it takes with its recorder; never less than its text.
    pub(super) fn text_len(&self) -> usize {
        const PART: usize = 24;
        let change = |change: &FieldChange| {
            let value = |value: &Option<String>| value.as_ref().map_or(0, String::len);
            PART + change.field.len() + value(&change.old_value) + value(&change.new_value)
        };
        let changes: usize = self.changes.iter().map(change).sum();
        let attributes: usize = self.attributes.iter().map(|(key, value)| PART + key.len() + value.len()).sum();
        let context = self.context.as_ref().map_or(0, RequestContext::text_len);
        // Recorder included: it is no longer than 1 KiB by the rules of the claims.
        1024 + self.resource.text_len() + self.actor.text_len() + self.message.len() + changes + attributes + context
    }
}

impl Resource {
    fn text_len(&self) -> usize {
        self.kind.len() + self.id.len() + self.name.len()
    }
}

impl Actor {
    fn text_len(&self) -> usize {
        self.id.len() + self.name.len()
    }
}

impl RequestContext {
    fn text_len(&self) -> usize {
        self.source_ip.len() + self.user_agent.len() + self.request_id.len() + self.trace_id.len()
    }
}

impl UpdateNote {
    /// At least as many bytes as the note takes as a protobuf message.
    pub fn encoded_bound(&self) -> usize {
        const FIXED: usize = 512;
        FIXED + self.body.as_ref().map_or(0, |body| body.author.text_len() + body.text.len())
    }
}
