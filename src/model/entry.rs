//! What goes into the append path.

use super::{
    event::{Actor, Draft, Salt},
    leaf::{self, Hash},
    name::Scope,
    random,
};

/// A draft with where it goes and who says so: one line of work for the append path.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where the event is recorded; for a note, the scope in which its event is looked up.
    pub scope: Scope,
    /// The authenticated caller: an event's recorder, a note's author.
    pub recorder: Actor,
    /// What to append.
    pub draft: Draft,
    /// What the body is salted with, if this gets a place in the log.
    pub salt: Salt,
    /// SHA-256 of the salt and the encoded body.
    pub body_commitment: Hash,
}

impl Entry {
    /// Commits to the draft's body with a fresh salt. It happens here, on the caller's thread, because everybody waits for the one that
    /// appends.
    pub fn new(scope: Scope, recorder: Actor, draft: Draft) -> Self {
        let salt = random::bytes();
        let body_commitment = match &draft {
            Draft::Event(draft) => leaf::event_commitment(&salt, &draft.content, &recorder),
            Draft::Note(draft) => leaf::note_commitment(&salt, &recorder, &draft.text),
        };
        Self { scope, recorder, draft, salt, body_commitment }
    }

    /// About as many bytes as the entry takes; never less than its text.
    pub fn encoded_bound(&self) -> usize {
        match &self.draft {
            Draft::Event(draft) => draft.content.text_len(),
            Draft::Note(draft) => draft.text.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ActorType, IdOrigin, NoteDraft, TimeId};

    #[test]
    fn the_same_body_is_never_committed_to_in_the_same_way() {
        let recorder = Actor { kind: ActorType::User, id: "ann".to_owned(), name: String::new() };
        let id = TimeId::at(chrono::DateTime::UNIX_EPOCH, [0; 10]).unwrap();
        let note = NoteDraft { id, id_origin: IdOrigin::Client, event_id: id, text: "moved".to_owned() };
        let entry = || Entry::new(Scope::new("acme", None).unwrap(), recorder.clone(), Draft::Note(note.clone()));
        let (one, other) = (entry(), entry());
        assert_eq!(one.body_commitment, leaf::note_commitment(&one.salt, &recorder, "moved"));
        assert_ne!(one.body_commitment, other.body_commitment);
    }
}
