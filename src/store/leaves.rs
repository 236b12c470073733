//! One tenant's log as a tree and as leaves, read from the rows.

use std::{collections::HashMap, ops::Range};

use diesel::prelude::*;

use crate::{
    merkle::{Frontier, Hash, TreeReader},
    model::{EventId, EventName, NoteId, Scope, TimeId, UpdateNote, leaf},
};

use super::{
    by_ids,
    conn::AnyConnection,
    error::StoreError,
    heads::{self, SeenHeads},
    rows::{EventRow, NoteRow},
    schema::{events, update_notes},
    tree::{self, TreeRows},
    types::Id,
};

/// How many rows are in memory at once: an event may have 64 KiB.
const ROWS_AT_ONCE: u64 = 128;

/// The committed head of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogHead {
    /// Which history of the log this is, from 1; the next one begins when an operator acknowledges that it went back.
    pub epoch: u32,
    /// Its size, and what its root is made of.
    pub frontier: Frontier,
}

/// The head of no leaves.
impl Default for LogHead {
    fn default() -> Self {
        Self { epoch: 1, frontier: Frontier::default() }
    }
}

/// Reads the log of one tenant.
pub struct LogRows<'c> {
    connection: &'c mut AnyConnection,
    seen: &'c SeenHeads,
    tenant: &'c str,
}

impl<'c> LogRows<'c> {
    pub(super) fn new(connection: &'c mut AnyConnection, seen: &'c SeenHeads, tenant: &'c str) -> Self {
        Self { connection, seen, tenant }
    }

    /// The committed head; that of no leaves where nothing was recorded.
    ///
    /// # Errors
    /// [`StoreError::RolledBack`] if the log went back behind what was seen of it.
    pub fn head(&mut self) -> Result<LogHead, StoreError> {
        let Some((row, frontier)) = heads::committed(self.connection, self.seen, self.tenant)? else {
            return Ok(LogHead::default());
        };
        let corrupt = |_| StoreError::Corrupt(format!("tenants/{} is in epoch {}", self.tenant, row.epoch));
        Ok(LogHead { epoch: row.epoch.try_into().map_err(corrupt)?, frontier })
    }

    /// The leaf index of an event within `scope`, or of the note on it.
    pub fn find(&mut self, scope: &Scope, event: EventId, note: Option<NoteId>) -> Result<Option<u64>, StoreError> {
        let found: Option<(String, i64)> = events::table
            .find((self.tenant, Id::from(event)))
            .select((events::project_id, events::leaf_index))
            .first(self.connection)
            .optional()?;
        let is_inside = |project: &str| scope.project().is_none_or(|asked| asked == project);
        let Some((_, event_leaf)) = found.filter(|(project, _)| is_inside(project)) else { return Ok(None) };
        let leaf_index = match note {
            None => Some(event_leaf),
            Some(note) => self.note_leaf_index(event, note)?,
        };
        leaf_index.map(index).transpose()
    }

    fn note_leaf_index(&mut self, event: EventId, note: NoteId) -> Result<Option<i64>, StoreError> {
        let note = update_notes::table.find((self.tenant, Id::from(event), Id::from(note)));
        Ok(note.select(update_notes::leaf_index).first(self.connection).optional()?)
    }

    /// The leaves `range`, in order, made from the rows as they are now: of what was not erased the body is committed to
    /// anew. Leaves that are not there are left out.
    pub fn leaves(&mut self, range: Range<u64>) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut leaves = Vec::new();
        let mut start = range.start;
        while start < range.end {
            let end = range.end.min(start + ROWS_AT_ONCE);
            leaves.extend(self.few_leaves(start..end)?);
            start = end;
        }
        Ok(leaves)
    }

    fn few_leaves(&mut self, range: Range<u64>) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut leaves = self.event_leaves(&range)?;
        // Most logs have few notes, and most stretches none: then there is nothing to look for.
        if leaves.len() as u64 != range.end - range.start {
            leaves.extend(self.note_leaves(&range)?);
        }
        leaves.sort_unstable_by_key(|(place, _)| *place);
        Ok(leaves.into_iter().map(|(_, leaf)| leaf).collect())
    }

    fn event_leaves(&mut self, range: &Range<u64>) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
        let rows: Vec<EventRow> = events::table
            .filter(events::tenant_id.eq(self.tenant))
            .filter(events::leaf_index.ge(tree::place(range.start)).and(events::leaf_index.lt(tree::place(range.end))))
            .order(events::leaf_index.asc())
            .limit(one_more_than(range))
            .select(EventRow::as_select())
            .load(self.connection)?;
        let leaf = |row: EventRow| row.to_event().map(|event| (event.sealed.leaf_index, leaf::of_event(&event)));
        rows.into_iter().map(leaf).collect()
    }

    fn note_leaves(&mut self, range: &Range<u64>) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
        let place = update_notes::leaf_index;
        let rows: Vec<NoteRow> = update_notes::table
            .filter(update_notes::tenant_id.eq(self.tenant))
            .filter(place.ge(tree::place(range.start)).and(place.lt(tree::place(range.end))))
            .order(place.asc())
            .limit(one_more_than(range))
            .select(NoteRow::as_select())
            .load(self.connection)?;
        let notes = rows.into_iter().map(NoteRow::into_note).collect::<Result<Vec<_>, _>>()?;
        let scopes = self.scopes(notes.iter().map(|(event, _)| *event))?;
        let leaf = |(event, note): (EventId, UpdateNote)| {
            let name = EventName { scope: scopes.get(&event)?.clone(), id: event };
            Some((note.sealed.leaf_index, leaf::of_note(&name, &note)))
        };
        Ok(notes.into_iter().filter_map(leaf).collect())
    }

    /// Where the events are recorded that notes are on: it is in the leaf of a note.
    fn scopes(&mut self, ids: impl Iterator<Item = EventId>) -> Result<HashMap<TimeId, Scope>, StoreError> {
        let ids: Vec<Id> = ids.map(Id::from).collect();
        let found = by_ids::events(self.connection, self.tenant, &ids)?;
        found.into_iter().map(|event| Ok((event.id()?, self.scope(event.project())?))).collect()
    }

    fn scope(&self, project: &str) -> Result<Scope, StoreError> {
        let project = Some(project.to_owned()).filter(|project| !project.is_empty());
        let corrupt = |error| StoreError::Corrupt(format!("a project of tenants/{}: {error}", self.tenant));
        Scope::of_ids(self.tenant.to_owned(), project).map_err(corrupt)
    }
}

impl TreeReader for LogRows<'_> {
    type Error = StoreError;

    fn tile(&mut self, level: u8, index: u64) -> Result<Vec<u8>, StoreError> {
        TreeRows { connection: &mut *self.connection, tenant: self.tenant }.tile(level, index)
    }

    fn edge(&mut self, level: u8, range: Range<u64>) -> Result<Vec<Hash>, StoreError> {
        TreeRows { connection: &mut *self.connection, tenant: self.tenant }.edge(level, range)
    }
}

/// A limit that only rows with the places of others reach. It has PostgreSQL go by the index in every month.
fn one_more_than(range: &Range<u64>) -> i64 {
    tree::place(range.end - range.start + 1)
}

fn index(place: i64) -> Result<u64, StoreError> {
    u64::try_from(place).map_err(|_| StoreError::Corrupt(format!("the leaf index {place} is negative")))
}
