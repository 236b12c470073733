//! Verifying as a client: what the service lists, against the leaves that it gives and the checkpoint that it signs.

use std::collections::BTreeMap;

use crate::{
    merkle::{Checkpoint, Hash, epoch_of},
    model::{
        Event,
        leaf::{self, leaf_hash},
    },
};

use super::{Findings, LogReport, MAX_GAP, Recomputed, compare_with_saved};

/// Takes events in the order of the log, and the log's leaves in step with them.
///
/// A note comes with its event, which may be long before its place in the log: until then it is kept, in some 200 bytes.
#[derive(Debug)]
pub struct ListedCheck {
    checkpoint: Checkpoint,
    tree: Recomputed,
    /// What the fields of listed events and notes make, by position, until the leaf comes.
    due: BTreeMap<u64, Due>,
    /// The position of the event that came last.
    last_event: Option<u64>,
    /// The largest position at or beyond the checkpoint's size that was listed, and what is there.
    farthest: Option<(u64, String)>,
    /// Too much is missing for the tree to be made any further.
    is_given_up: bool,
    events: u64,
    notes: u64,
    findings: Findings,
}

#[derive(Debug)]
struct Due {
    name: String,
    hash: Hash,
}

impl ListedCheck {
    /// Holds the log against `checkpoint`, and remembers its root at the size of an earlier one.
    pub fn new(checkpoint: Checkpoint, saved: Option<&Checkpoint>) -> Self {
        Self {
            checkpoint,
            tree: Recomputed::with_states(saved.map(|saved| saved.size)),
            due: BTreeMap::new(),
            last_event: None,
            farthest: None,
            is_given_up: false,
            events: 0,
            notes: 0,
            findings: Findings::default(),
        }
    }

    /// The log's size by the checkpoint.
    pub fn size(&self) -> u64 {
        self.checkpoint.size
    }

    /// The position whose leaf comes next.
    pub fn next(&self) -> u64 {
        self.tree.size()
    }

    /// Adds something that does not hold.
    pub fn add(&mut self, subject: impl std::fmt::Display, problem: impl std::fmt::Display) {
        self.findings.add(subject, problem);
    }

    /// Takes the next event of the list, with its notes. What was recorded after the checkpoint is passed over.
    pub fn event(&mut self, event: &Event) {
        let name = event.name.to_string();
        let position = u64::try_from(event.sealed.leaf_index).unwrap_or(u64::MAX);
        if self.last_event.is_some_and(|last| position <= last) {
            self.findings.add(&name, format!("leaf_index {position} is listed behind a larger or equal one"));
        }
        self.last_event = Some(self.last_event.unwrap_or_default().max(position));
        self.events += u64::from(position < self.size());
        for note in &event.notes {
            let position = u64::try_from(note.sealed.leaf_index).unwrap_or(u64::MAX);
            self.notes += u64::from(position < self.size());
            self.expect(position, format!("note {} on {name}", note.id), leaf_hash(&leaf::of_note(&event.name, note)));
        }
        self.expect(position, name, leaf_hash(&leaf::of_event(event)));
    }

    fn expect(&mut self, position: u64, name: String, hash: Hash) {
        if position >= self.size() {
            if self.farthest.as_ref().is_none_or(|(farthest, _)| *farthest < position) {
                self.farthest = Some((position, name));
            }
            return;
        }
        if position < self.next() {
            return self.findings.add(name, format!("leaf_index {position} was passed already"));
        }
        if let Some(other) = self.due.insert(position, Due { name: name.clone(), hash }) {
            self.findings.add(name, format!("leaf_index {position} is taken by {} as well", other.name));
        }
    }

    /// The largest position that was listed and is not below the checkpoint's size, and what is there: recorded since, if a
    /// later checkpoint covers it.
    pub fn farthest(&self) -> Option<&(u64, String)> {
        self.farthest.as_ref()
    }

    /// Whether all events up to `position` have come, as far as is known.
    pub fn has_listed(&self, position: u64) -> bool {
        self.last_event.is_some_and(|last| last >= position)
    }

    /// Takes the leaf of the next position, and `name`, what it says of itself.
    pub fn leaf(&mut self, leaf: &[u8], name: &str) {
        let (position, hash) = (self.next(), leaf_hash(leaf));
        match self.due.remove(&position) {
            None => self.findings.add(name, format!("has a leaf at position {position} and is not listed there")),
            Some(due) if due.hash == hash => (),
            Some(due) if due.name == name => self.findings.add(name, "the fields listed do not make its leaf"),
            Some(due) => {
                self.findings.add(due.name, format!("is listed at position {position}, where the leaf is of {name}"));
            }
        }
        self.tree.push(&[hash]);
    }

    /// Goes on without a leaf of the next position: what is listed there makes it.
    pub fn no_leaf(&mut self) {
        let position = self.next();
        let due = self.due.remove(&position);
        if due.is_none() {
            self.findings.add(format!("position {position}"), "no event and no note that is listed has it");
        }
        self.tree.push(&[due.map_or([0; 32], |due| due.hash)]);
    }

    /// Gives the tree up, with one finding, where no leaves come and more positions than [`MAX_GAP`] are missing before the next event
    /// or note that was listed; `is_all` says that no more will be. Whether it did.
    pub fn give_up(&mut self, is_all: bool) -> bool {
        let listed = if is_all { self.size() } else { self.last_event.map_or(0, |last| last.saturating_add(1)) };
        let end = self.due.keys().next().map_or(listed, |due| listed.min(*due)).min(self.size());
        self.is_given_up = end.saturating_sub(self.next()) > MAX_GAP;
        if self.is_given_up {
            let missing = format!("positions {} to {}", self.next(), end - 1);
            self.findings.add(missing, "no event and no note that is listed has any of them");
        }
        self.is_given_up
    }

    /// The tree of all leaves so far.
    pub fn tree(&self) -> &Recomputed {
        &self.tree
    }

    /// Whether the leaves make the root that the checkpoint signs.
    pub fn has_root(&self) -> bool {
        self.tree.size() == self.checkpoint.size && self.tree.root() == self.checkpoint.root
    }

    /// What was found, where the service gives no more: with what the leaves that have come show by themselves.
    pub fn break_off(mut self, log: &str, saved: Option<&Checkpoint>) -> Findings {
        if self.tree.size() == self.checkpoint.size {
            self.compare_root(log);
        }
        self.compare_with(saved, log);
        self.findings
    }

    fn compare_root(&mut self, log: &str) {
        if !self.has_root() {
            self.findings.add(log, "its leaves do not make the root of its checkpoint");
        }
    }

    fn compare_with(&mut self, saved: Option<&Checkpoint>, log: &str) {
        let (size, epoch) = (self.size(), epoch_of(&self.checkpoint.origin));
        compare_with_saved(log, size, epoch, self.tree.root_at(), saved, &mut self.findings);
    }

    /// All leaves have come.
    pub fn finish(mut self, log: &str, saved: Option<&Checkpoint>) -> LogReport {
        for (position, due) in self.due.iter().filter(|_| !self.is_given_up) {
            self.findings.add(&due.name, format!("is listed at position {position}, where the log has no leaf"));
        }
        self.compare_root(log);
        self.compare_with(saved, log);
        let Self { checkpoint, events, notes, findings, .. } = self;
        LogReport { size: checkpoint.size, root: checkpoint.root, events, notes, has_key: true, findings }
    }
}
