//! Decides, before anything is written, what becomes of each submission of a batch: a place in the log, the receipt of
//! the first time, or a rejection. Pure: it works on what is known of the log.

use std::collections::{BTreeMap, HashMap};

use crate::{
    merkle::{Hash, Tile, Tree},
    model::{
        Draft, Entry, Event, EventDraft, EventId, EventName, EventReceipt, NoteBody, NoteDraft, NoteId, NoteReceipt,
        NoteRules, Receipt, Rejection, Sealed, Timestamp, UpdateNote, leaf,
    },
    store::{error::StoreError, rows::Seal},
};

use super::Outcome;

/// The epoch in which a log begins, as in the schema.
const FIRST_EPOCH: i32 = 1;

/// What is known of the logs that a batch names, by tenant.
pub(super) type Known = BTreeMap<String, KnownLog>;

/// What is known of one tenant's log.
#[derive(Debug)]
pub(super) struct KnownLog {
    /// Its tree; that of no leaves where there is none.
    pub(super) tree: Tree,
    /// The tree's frontier as the head has it.
    pub(super) frontier: Vec<u8>,
    /// How many histories it has had; a log begins in the first.
    pub(super) epoch: i32,
    /// Of the ids that the batch names: the events that are stored.
    pub(super) events: HashMap<EventId, Event>,
    /// Of the ids that the batch names: the notes that are stored, each with its event.
    pub(super) notes: HashMap<NoteId, (EventId, UpdateNote)>,
    /// How many notes each event has that a note is for.
    pub(super) note_counts: HashMap<EventId, usize>,
}

/// An entry that got a place.
#[derive(Debug)]
pub(super) struct Placed<'a> {
    pub(super) entry: &'a Entry,
    pub(super) seal: Seal,
}

/// A head that moves, and the tiles that this finishes.
#[derive(Clone, Debug)]
pub(super) struct Move<'p> {
    pub(super) tenant: &'p str,
    pub(super) from: i64,
    pub(super) from_frontier: &'p [u8],
    pub(super) to: i64,
    pub(super) to_frontier: Vec<u8>,
    pub(super) tiles: &'p [Tile],
}

/// What a plan leaves of a log that it was about.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) tenant: String,
    /// How long the log was found.
    pub(super) found: i64,
    /// How long it is now.
    pub(super) size: i64,
    /// Its tree as it is now.
    pub(super) tree: Tree,
    pub(super) epoch: i32,
}

/// The places given so far.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) placed: Vec<Placed<'a>>,
    logs: BTreeMap<String, Log>,
    rules: &'a NoteRules,
    now: Timestamp,
}

/// One tenant's log with what the plan adds to it.
#[derive(Debug)]
struct Log {
    known: KnownLog,
    /// How long it was found.
    found: i64,
    /// The hashes of what was placed, in the order of the log.
    leaves: Vec<Hash>,
    /// What was finished when the tree grew by them.
    tiles: Vec<Tile>,
    /// What was placed, by id, as indexes of [`Plan::placed`].
    new_events: HashMap<EventId, usize>,
    new_notes: HashMap<NoteId, usize>,
}

impl<'a> Plan<'a> {
    /// Starts after `known`, which has every tenant that will be submitted.
    pub(super) fn new(known: Known, rules: &'a NoteRules, now: Timestamp) -> Self {
        let logs = known.into_iter().map(|(tenant, known)| (tenant, Log::new(known))).collect();
        Self { placed: Vec::new(), logs, rules, now }
    }

    /// Submits what each caller of a batch has.
    pub(super) fn submit_all(&mut self, batch: &[&'a [Entry]]) -> Vec<Outcome> {
        self.placed.reserve(batch.iter().map(|entries| entries.len()).sum());
        batch.iter().map(|entries| self.submit(entries)).collect()
    }

    /// Places all entries of one caller or none of them.
    fn submit(&mut self, entries: &'a [Entry]) -> Outcome {
        let before = self.placed.len();
        let receipts = entries.iter().enumerate().map(|(index, entry)| self.take(index, entry)).collect();
        if Result::is_err(&receipts) {
            self.take_back(before);
        }
        receipts
    }

    /// Has each tree grow by what was placed in its log, once everything is placed. What `grow` answers are the tiles that
    /// this finishes.
    pub(super) fn grow_trees(
        &mut self,
        mut grow: impl FnMut(&str, &mut Tree, &[Hash]) -> Result<Vec<Tile>, StoreError>,
    ) -> Result<(), StoreError> {
        for (tenant, log) in self.logs.iter_mut().filter(|(_, log)| !log.leaves.is_empty()) {
            log.tiles = grow(tenant, &mut log.known.tree, &log.leaves)?;
        }
        Ok(())
    }

    /// The heads that the plan moves, once its trees have grown, sorted by tenant.
    pub(super) fn moves(&self) -> Vec<Move<'_>> {
        let moved = self.logs.iter().filter(|(_, log)| !log.leaves.is_empty());
        moved.map(|(tenant, log)| log.step(tenant)).collect()
    }

    /// What the plan leaves of each log, now that it is carried out.
    pub(super) fn into_left(self) -> impl Iterator<Item = Left> {
        self.logs.into_iter().map(|(tenant, log)| log.left(tenant))
    }

    fn take(&mut self, index: usize, entry: &'a Entry) -> Result<Receipt, Rejection> {
        match &entry.draft {
            Draft::Event(draft) => self.take_event(index, entry, draft).map(Receipt::Event),
            Draft::Note(draft) => self.take_note(entry, draft).map(Receipt::Note),
        }
    }

    fn take_event(&mut self, index: usize, entry: &'a Entry, draft: &EventDraft) -> Result<EventReceipt, Rejection> {
        let log = log(&self.logs, entry);
        let differs = || Rejection::EventDiffers { index, id: draft.id };
        if let Some(stored) = log.known.events.get(&draft.id) {
            return same_as_stored(stored, entry, draft)
                .then(|| receipt(&stored.name, &stored.sealed))
                .ok_or_else(differs);
        }
        if let Some(&at) = log.new_events.get(&draft.id) {
            let placed = &self.placed[at];
            let same = same_as_placed(placed.entry, entry, draft);
            return same.then(|| receipt(&name(entry, draft.id), &placed.seal.sealed)).ok_or_else(differs);
        }
        Ok(self.place_event(entry, draft))
    }

    fn place_event(&mut self, entry: &'a Entry, draft: &EventDraft) -> EventReceipt {
        let name = name(entry, draft.id);
        let kind = &draft.content.resource.kind;
        let leaf = leaf::event_leaf(&name, draft.action, kind, self.now, entry.body_commitment());
        let sealed = self.place(entry, &leaf);
        let at = self.placed.len() - 1;
        log_mut(&mut self.logs, entry).new_events.insert(draft.id, at);
        receipt(&name, &sealed)
    }

    fn take_note(&mut self, entry: &'a Entry, draft: &NoteDraft) -> Result<NoteReceipt, Rejection> {
        let (event, check) = self.noted(entry, draft.event_id).ok_or(Rejection::EventNotFound)?;
        let log = log(&self.logs, entry);
        if let Some((event_id, note)) = log.known.notes.get(&draft.id) {
            let text = note.body.as_ref().map(|body| body.text.as_str());
            let same = same_note(*event_id, text, draft);
            return same
                .then(|| NoteReceipt { event, note: note.clone() })
                .ok_or(Rejection::NoteDiffers { id: draft.id });
        }
        if let Some(&at) = log.new_notes.get(&draft.id) {
            return self.repeated_note(event, at, draft);
        }
        check.map_err(Rejection::NotesNotAccepted)?;
        let note = self.place_note(&event, entry, draft);
        Ok(NoteReceipt { event, note })
    }

    /// The event that a note is for, if the scope named has it: its canonical name, and whether it takes one more note.
    fn noted(&self, entry: &Entry, id: EventId) -> Option<(EventName, Result<(), crate::model::NoteRefusal>)> {
        let log = log(&self.logs, entry);
        let notes = log.known.note_counts.get(&id).copied().unwrap_or(0);
        let (name, kind, erased) = match log.known.events.get(&id) {
            Some(stored) => (stored.name.clone(), stored.resource_type.as_str(), stored.body.is_err()),
            None => {
                let placed = self.placed[*log.new_events.get(&id)?].entry;
                let Draft::Event(draft) = &placed.draft else { return None };
                (name(placed, id), draft.content.resource.kind.as_str(), false)
            }
        };
        entry.scope.contains(&name.scope).then(|| (name, self.rules.check(kind, erased, notes)))
    }

    fn repeated_note(&self, event: EventName, at: usize, draft: &NoteDraft) -> Result<NoteReceipt, Rejection> {
        let Placed { entry, seal } = &self.placed[at];
        match &entry.draft {
            Draft::Note(first) if same_note(first.event_id, Some(&first.text), draft) => {
                Ok(NoteReceipt { event, note: note(entry, first, seal) })
            }
            _ => Err(Rejection::NoteDiffers { id: draft.id }),
        }
    }

    fn place_note(&mut self, event: &EventName, entry: &'a Entry, draft: &NoteDraft) -> UpdateNote {
        let leaf = leaf::note_leaf(event, draft.id, self.now, entry.body_commitment());
        self.place(entry, &leaf);
        let at = self.placed.len() - 1;
        let log = log_mut(&mut self.logs, entry);
        log.new_notes.insert(draft.id, at);
        *log.known.note_counts.entry(draft.event_id).or_default() += 1;
        note(entry, draft, &self.placed[at].seal)
    }

    fn place(&mut self, entry: &'a Entry, leaf: &[u8]) -> Sealed {
        let log = log_mut(&mut self.logs, entry);
        let body_commitment = *entry.body_commitment();
        let sealed = Sealed { record_time: self.now, leaf_index: log.size(), body_commitment };
        let leaf_hash = leaf::leaf_hash(leaf);
        log.leaves.push(leaf_hash);
        let seal = Seal { sealed, leaf_hash };
        self.placed.push(Placed { entry, seal });
        sealed
    }

    /// Undoes all places after the first `keep`.
    fn take_back(&mut self, keep: usize) {
        for placed in self.placed.drain(keep..) {
            let log = log_mut(&mut self.logs, placed.entry);
            log.leaves.pop();
            match &placed.entry.draft {
                Draft::Event(draft) => drop(log.new_events.remove(&draft.id)),
                Draft::Note(draft) => {
                    log.new_notes.remove(&draft.id);
                    log.known.note_counts.entry(draft.event_id).and_modify(|count| *count -= 1);
                }
            }
        }
    }
}

impl Default for KnownLog {
    fn default() -> Self {
        Self::new(Tree::default(), FIRST_EPOCH)
    }
}

impl KnownLog {
    /// A log as memory has it, before the ids of the batch are looked up.
    pub(super) fn new(tree: Tree, epoch: i32) -> Self {
        let frontier = tree.frontier().encode();
        let (events, notes, note_counts) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { tree, frontier, epoch, events, notes, note_counts }
    }

    /// How long it is; 0 where there is none.
    pub(super) fn size(&self) -> i64 {
        i64::try_from(self.tree.size()).expect("a tree has at most 2^62 leaves")
    }
}

impl Log {
    fn new(known: KnownLog) -> Self {
        let found = known.size();
        let (new_events, new_notes) = (HashMap::new(), HashMap::new());
        Self { known, found, leaves: Vec::new(), tiles: Vec::new(), new_events, new_notes }
    }

    /// How long it is with what was placed.
    fn size(&self) -> i64 {
        self.found + self.leaves.len() as i64
    }

    fn step<'p>(&'p self, tenant: &'p str) -> Move<'p> {
        Move {
            tenant,
            from: self.found,
            from_frontier: &self.known.frontier,
            to: self.size(),
            to_frontier: self.known.tree.frontier().encode(),
            tiles: &self.tiles,
        }
    }

    fn left(self, tenant: String) -> Left {
        Left { tenant, found: self.found, size: self.size(), tree: self.known.tree, epoch: self.known.epoch }
    }
}

const KNOWN: &str = "`new` was given every tenant of the batch";

fn log<'l>(logs: &'l BTreeMap<String, Log>, entry: &Entry) -> &'l Log {
    logs.get(entry.scope.tenant()).expect(KNOWN)
}

fn log_mut<'l>(logs: &'l mut BTreeMap<String, Log>, entry: &Entry) -> &'l mut Log {
    logs.get_mut(entry.scope.tenant()).expect(KNOWN)
}

fn name(entry: &Entry, id: EventId) -> EventName {
    EventName { scope: entry.scope.clone(), id }
}

fn receipt(name: &EventName, sealed: &Sealed) -> EventReceipt {
    EventReceipt { name: name.clone(), record_time: sealed.record_time, leaf_index: sealed.leaf_index }
}

fn note(entry: &Entry, draft: &NoteDraft, seal: &Seal) -> UpdateNote {
    let body = NoteBody { author: entry.recorder.clone(), text: draft.text.clone(), salt: *entry.salt() };
    UpdateNote { id: draft.id, sealed: seal.sealed, body: Some(body) }
}

/// Same scope and same client-given fields; of an erased event only those that cannot be erased.
fn same_as_stored(stored: &Event, entry: &Entry, draft: &EventDraft) -> bool {
    let same_body = stored.body.as_ref().map_or(true, |body| draft.tells(&body.content));
    stored.name.scope == entry.scope
        && stored.action == draft.action
        && stored.resource_type == draft.content.resource.kind
        && same_body
}

fn same_as_placed(placed: &Entry, entry: &Entry, draft: &EventDraft) -> bool {
    let Draft::Event(first) = &placed.draft else { return false };
    placed.scope == entry.scope && first.action == draft.action && draft.tells(&first.content)
}

/// Of a note that was erased nobody knows the text.
fn same_note(event_id: EventId, text: Option<&str>, draft: &NoteDraft) -> bool {
    event_id == draft.event_id && text.is_none_or(|text| text == draft.text)
}
