//! Decides, before anything is written, what becomes of each submission of a batch: a place in the log, the receipt of
//! the first time, or a rejection. Pure: it works on what was read inside the transaction.

use std::collections::HashMap;

use crate::model::{
    Draft, Entry, Event, EventBody, EventDraft, EventId, EventName, EventReceipt, NoteBody, NoteDraft, NoteId,
    NoteReceipt, NoteRules, Receipt, Rejection, Salt, Sealed, Timestamp, UpdateNote, leaf,
};

/// An id within its tenant.
pub(super) type Key = (String, crate::model::TimeId);

/// What the log has of the ids that a batch names.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// How long each tenant's log is; absent where there is none.
    pub(super) heads: HashMap<String, i64>,
    pub(super) events: HashMap<Key, Event>,
    pub(super) notes: HashMap<Key, (EventId, UpdateNote)>,
    /// How many notes each event has that a note is for.
    pub(super) note_counts: HashMap<Key, usize>,
}

/// An entry that got a place.
#[derive(Debug)]
pub(super) struct Placed<'a> {
    pub(super) entry: &'a Entry,
    pub(super) salt: Salt,
    pub(super) sealed: Sealed,
    pub(super) leaf_hash: leaf::Hash,
}

/// The places given so far.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) placed: Vec<Placed<'a>>,
    known: Known,
    rules: &'a NoteRules,
    now: Timestamp,
    salts: std::vec::IntoIter<Salt>,
}

impl<'a> Plan<'a> {
    /// Starts after `known`. There must be a salt for each entry that will be submitted.
    pub(super) fn new(known: Known, rules: &'a NoteRules, now: Timestamp, salts: Vec<Salt>) -> Self {
        Self { placed: Vec::with_capacity(salts.len()), known, rules, now, salts: salts.into_iter() }
    }

    /// Places all entries of one caller or none of them.
    pub(super) fn submit(&mut self, entries: &'a [Entry]) -> Result<Vec<Receipt>, Rejection> {
        let before = self.placed.len();
        let receipts = entries.iter().enumerate().map(|(index, entry)| self.take(index, entry)).collect();
        if Result::is_err(&receipts) {
            self.take_back(before);
        }
        receipts
    }

    /// How long each tenant's log is once the plan is carried out.
    pub(super) fn heads(&self) -> &HashMap<String, i64> {
        &self.known.heads
    }

    fn take(&mut self, index: usize, entry: &'a Entry) -> Result<Receipt, Rejection> {
        match &entry.draft {
            Draft::Event(draft) => self.take_event(index, entry, draft).map(Receipt::Event),
            Draft::Note(draft) => self.take_note(entry, draft).map(Receipt::Note),
        }
    }

    fn take_event(&mut self, index: usize, entry: &'a Entry, draft: &EventDraft) -> Result<EventReceipt, Rejection> {
        let key = (entry.scope.tenant().to_owned(), draft.id);
        match self.known.events.get(&key) {
            Some(stored) if same_event(stored, entry, draft) => Ok(receipt(stored)),
            Some(_) => Err(Rejection::EventDiffers { index, id: draft.id }),
            None => Ok(self.place_event(key, entry, draft)),
        }
    }

    fn place_event(&mut self, key: Key, entry: &'a Entry, draft: &EventDraft) -> EventReceipt {
        let name = EventName { scope: entry.scope.clone(), id: draft.id };
        let salt = self.next_salt();
        let body_commitment = leaf::event_commitment(&salt, &draft.content, &entry.recorder);
        let kind = &draft.content.resource.kind;
        let leaf = leaf::event_leaf(&name, draft.action, kind, self.now, &body_commitment);
        let sealed = self.place(entry, salt, body_commitment, &leaf);
        let body = EventBody { content: draft.content.clone(), recorder: entry.recorder.clone(), salt };
        let (action, resource_type) = (draft.action, kind.clone());
        let event = Event { name, action, resource_type, sealed, body: Ok(body), notes: Vec::new() };
        let receipt = receipt(&event);
        self.known.events.insert(key, event);
        receipt
    }

    fn take_note(&mut self, entry: &'a Entry, draft: &NoteDraft) -> Result<NoteReceipt, Rejection> {
        let event_key = (entry.scope.tenant().to_owned(), draft.event_id);
        let event = self.known.events.get(&event_key).filter(|event| entry.scope.contains(&event.name.scope));
        let event = event.ok_or(Rejection::EventNotFound)?;
        let name = event.name.clone();
        let note_key = (event_key.0.clone(), draft.id);
        match self.known.notes.get(&note_key) {
            Some((event_id, note)) if same_note(*event_id, note, draft) => {
                return Ok(NoteReceipt { event: name, note: note.clone() });
            }
            Some(_) => return Err(Rejection::NoteDiffers { id: draft.id }),
            None => {}
        }
        let notes = self.known.note_counts.get(&event_key).copied().unwrap_or(0);
        self.rules.check(&event.resource_type, event.body.is_err(), notes).map_err(Rejection::NotesNotAccepted)?;
        *self.known.note_counts.entry(event_key).or_default() += 1;
        let note = self.place_note(&name, entry, draft);
        self.known.notes.insert(note_key, (draft.event_id, note.clone()));
        Ok(NoteReceipt { event: name, note })
    }

    fn place_note(&mut self, event: &EventName, entry: &'a Entry, draft: &NoteDraft) -> UpdateNote {
        let salt = self.next_salt();
        let body_commitment = leaf::note_commitment(&salt, &entry.recorder, &draft.text);
        let leaf = leaf::note_leaf(event, draft.id, self.now, &body_commitment);
        let sealed = self.place(entry, salt, body_commitment, &leaf);
        let body = NoteBody { author: entry.recorder.clone(), text: draft.text.clone(), salt };
        UpdateNote { id: draft.id, sealed, body: Some(body) }
    }

    fn place(&mut self, entry: &'a Entry, salt: Salt, body_commitment: leaf::Hash, leaf: &[u8]) -> Sealed {
        let head = self.known.heads.entry(entry.scope.tenant().to_owned()).or_default();
        let sealed = Sealed { record_time: self.now, leaf_index: *head, body_commitment };
        *head += 1;
        self.placed.push(Placed { entry, salt, sealed: sealed.clone(), leaf_hash: leaf::leaf_hash(leaf) });
        sealed
    }

    fn next_salt(&mut self) -> Salt {
        self.salts.next().expect("`new` was given a salt for each entry, and each entry takes at most one")
    }

    /// Undoes all places after the first `keep`.
    fn take_back(&mut self, keep: usize) {
        for placed in self.placed.drain(keep..) {
            let tenant = placed.entry.scope.tenant().to_owned();
            self.known.heads.entry(tenant.clone()).and_modify(|head| *head -= 1);
            match &placed.entry.draft {
                Draft::Event(draft) => drop(self.known.events.remove(&(tenant, draft.id))),
                Draft::Note(draft) => {
                    self.known.notes.remove(&(tenant.clone(), draft.id));
                    self.known.note_counts.entry((tenant, draft.event_id)).and_modify(|count| *count -= 1);
                }
            }
        }
    }
}

fn receipt(event: &Event) -> EventReceipt {
    let Sealed { record_time, leaf_index, .. } = event.sealed;
    EventReceipt { name: event.name.clone(), record_time, leaf_index }
}

/// Same scope and same client-given fields; of an erased event only those that cannot be erased.
fn same_event(stored: &Event, entry: &Entry, draft: &EventDraft) -> bool {
    let same_body = stored.body.as_ref().map_or(true, |body| body.content == draft.content);
    stored.name.scope == entry.scope
        && stored.action == draft.action
        && stored.resource_type == draft.content.resource.kind
        && same_body
}

fn same_note(event_id: EventId, stored: &UpdateNote, draft: &NoteDraft) -> bool {
    let id: NoteId = stored.id;
    id == draft.id && event_id == draft.event_id && stored.body.as_ref().is_none_or(|body| body.text == draft.text)
}
