//! The rules that only the log itself can apply: they look at what is stored already.

use std::collections::BTreeSet;

use super::time_id::{EventId, NoteId};

/// Why an append is not taken. It fails its own caller, never its neighbours in the same commit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The id is taken by an event with another content or scope.
    #[error("event {id} is already recorded with other content; send a new id for a new event")]
    EventDiffers {
        /// Which of the caller's events, from 0.
        index: usize,
        /// Its id.
        id: EventId,
    },
    /// The id is taken by another note of the tenant.
    #[error("note {id} is already recorded with other content; send a new id for a new note")]
    NoteDiffers {
        /// Its id.
        id: NoteId,
    },
    /// A note's event is not there, within the scope named.
    #[error("there is no such event within the scope named")]
    EventNotFound,
    /// The event takes no note.
    #[error(transparent)]
    NotesNotAccepted(NoteRefusal),
}

/// Why an event takes no note.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteRefusal {
    /// Its resource type is not among those that take notes.
    #[error("events of resource type {0:?} take no update notes; the setting notes.resource_types lists those that do")]
    Type(String),
    /// Its body was erased.
    #[error("the event was erased; it takes no more update notes")]
    Erased,
    /// It has as many as it may have.
    #[error("the event has {0} update notes, which is the most that one may have")]
    Full(usize),
}

/// Which events take update notes, and how many. By default none do.
#[derive(Clone, Debug, Default)]
pub struct NoteRules {
    /// The resource types that take notes.
    pub resource_types: BTreeSet<String>,
    /// The most notes of one event.
    pub max_notes: usize,
}

impl NoteRules {
    /// Whether an event takes one more note than the `notes` it has.
    pub fn check(&self, resource_type: &str, erased: bool, notes: usize) -> Result<(), NoteRefusal> {
        if !self.resource_types.contains(resource_type) {
            Err(NoteRefusal::Type(resource_type.to_owned()))
        } else if erased {
            Err(NoteRefusal::Erased)
        } else if notes >= self.max_notes {
            Err(NoteRefusal::Full(notes))
        } else {
            Ok(())
        }
    }
}
