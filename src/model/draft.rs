//! What an append takes, and what it answers: a *draft* is validated and not yet placed, a *receipt* confirms that it is stored.

use super::{
    clock::Timestamp,
    event::{ActionType, Content, RequestContext, UpdateNote},
    name::EventName,
    time_id::{EventId, NoteId},
    trace_id::TraceId,
};

/// Who chose the id: only a client's own id makes a retry safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdOrigin {
    /// The request named it.
    Client,
    /// The server made it.
    Server,
}

/// A validated event that has no place in the log yet.
#[derive(Clone, Debug)]
pub struct EventDraft {
    /// Identity, time and idempotency key.
    pub id: EventId,
    /// Who chose the id.
    pub id_origin: IdOrigin,
    /// What was done.
    pub action: ActionType,
    /// The rest of what the client told.
    pub content: Content,
    /// Whether the client told the trace id that is in the content.
    pub trace_id_origin: TraceIdOrigin,
}

/// Who told an event's trace id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceIdOrigin {
    /// The client, or nobody.
    Client,
    /// The trace in which the call came. A retry may come in another one.
    Call,
}

impl EventDraft {
    /// Puts the trace in which the call came where the client has told none.
    pub fn traced(mut self, trace_id: Option<TraceId>) -> Self {
        let Some(trace_id) = trace_id else { return self };
        let context = self.content.context.get_or_insert_default();
        if context.trace_id.is_empty() {
            context.trace_id = trace_id.to_string();
            self.trace_id_origin = TraceIdOrigin::Call;
        }
        self
    }

    /// Whether the client told what `stored` holds. Where it told no trace id, one that a call may have filled in is no
    /// difference: the same event sent once more, from another trace, stays the same event.
    pub fn tells(&self, stored: &Content) -> bool {
        let told_none = self.trace_id_origin == TraceIdOrigin::Call || self.content.trace_id().is_empty();
        let may_be_filled = stored.trace_id().is_empty() || TraceId::parse(stored.trace_id()).is_some();
        *stored == self.content || (told_none && may_be_filled && stored.untraced() == self.content.untraced())
    }
}

/// A validated note that has no place in the log yet.
#[derive(Clone, Debug)]
pub struct NoteDraft {
    /// Identity and idempotency key.
    pub id: NoteId,
    /// Who chose the id.
    pub id_origin: IdOrigin,
    /// The event it is for.
    pub event_id: EventId,
    /// What it says.
    pub text: String,
}

/// Something to append.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all drafts are events; a box would cost each of them an allocation"
)]
pub enum Draft {
    /// A new event.
    Event(EventDraft),
    /// A note to an event.
    Note(NoteDraft),
}

impl Draft {
    /// Who chose the id.
    pub fn id_origin(&self) -> IdOrigin {
        match self {
            Self::Event(draft) => draft.id_origin,
            Self::Note(draft) => draft.id_origin,
        }
    }
}

/// What an append answers: what only the server could know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// Of an event.
    Event(EventReceipt),
    /// Of a note.
    Note(NoteReceipt),
}

/// Proof of an event's durable append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventReceipt {
    /// The canonical name.
    pub name: EventName,
    /// When it was stored, to the microsecond.
    pub record_time: Timestamp,
    /// The place in the tenant's log, from 0.
    pub leaf_index: i64,
}

/// Proof of a note's durable append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteReceipt {
    /// The canonical name of its event.
    pub event: EventName,
    /// The note as stored.
    pub note: UpdateNote,
}

impl Content {
    fn trace_id(&self) -> &str {
        self.context.as_ref().map_or("", |context| &context.trace_id)
    }

    fn untraced(&self) -> Self {
        let context = self.context.clone().map(|context| RequestContext { trace_id: String::new(), ..context });
        Self { context: context.filter(|context| *context != RequestContext::default()), ..self.clone() }
    }
}
