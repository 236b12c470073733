//! Reading a tenant's log for an audit: what the rows hold, whatever somebody has made of them.
//!
//! The service's own reads may rely on what the service wrote. These may not: each value is read as plainly as the database
//! has it, and what does not fit is handed on with the name of its column instead of failing the walk.

mod columns;
mod parse;

use std::{collections::HashMap, time::Duration};

use diesel::prelude::*;

use crate::model::{Event, EventName, Scope, UpdateNote, leaf::Hash};

use self::columns::{EventColumns, NoteColumns, RawId};
use super::{
    conn::{Access, AnyConnection, Target},
    error::StoreError,
    migrate,
    schema::{events, log_epochs, signing_keys, tree_heads, tree_tiles, update_notes},
};

/// The rows of one statement. An event has at most some 64 KiB, so that a page stays below 16 MiB.
const PAGE: i64 = 256;
/// The most rows outside of the log that are looked up; who has more of them needs no list.
const MAX_STRAYS: i64 = 20;

/// Reads one tenant's rows over one connection that cannot write.
pub struct AuditReader {
    connection: AnyConnection,
    tenant: String,
}

/// A row of `tree_heads`.
#[derive(Clone, Debug, Queryable)]
pub struct StoredHead {
    /// How many leaves it speaks of.
    pub size: i64,
    /// The roots of its perfect subtrees, joined.
    pub frontier: Vec<u8>,
    /// The epoch that it is in, from 1.
    pub epoch: i32,
}

/// A row of `tree_tiles`.
#[derive(Clone, Debug, Queryable)]
pub struct StoredTile {
    /// Of the subtree over its hashes.
    pub root: Vec<u8>,
    /// 256 of them, joined.
    pub hashes: Vec<u8>,
}

/// A column that holds what the service never writes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{column}: {problem}")]
pub struct BadColumn {
    /// Its name.
    pub column: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

/// One row, as far as it could be read.
#[derive(Clone, Debug)]
pub struct AuditRow<T> {
    /// The place that it claims.
    pub leaf_index: i64,
    /// What it calls itself.
    pub name: String,
    /// The leaf hash that stands in it.
    pub leaf_hash: Result<Hash, BadColumn>,
    /// What the rest of it says.
    pub content: Result<T, BadColumn>,
}

/// A note and the event that it is on, if that is there.
pub type NoteOnEvent = (Option<EventName>, UpdateNote);

/// The place behind which a walk goes on. Not the leaf index alone: nothing but the log itself says that no two rows share
/// one.
#[derive(Clone, Debug)]
pub struct AfterRow {
    leaf_index: i64,
    id: RawId,
}

/// One page of a walk, and where the next one begins; `None` at the end.
pub type AuditPage<T> = (Vec<AuditRow<T>>, Option<AfterRow>);

impl AuditReader {
    /// Connects. The database must be there, with a schema that this binary knows.
    pub fn open(url: &str, timeout: Duration, tenant: &str) -> Result<Self, StoreError> {
        let mut connection = Target::parse(url, timeout)?.connect(Access::Audit)?;
        migrate::require_usable(&mut connection)?;
        Ok(Self { connection, tenant: tenant.to_owned() })
    }

    /// The tenant's head; `None` if it has none.
    pub fn head(&mut self) -> Result<Option<StoredHead>, StoreError> {
        let columns = (tree_heads::tree_size, tree_heads::frontier, tree_heads::epoch);
        let head = tree_heads::table.find(&self.tenant).select(columns);
        Ok(head.first(&mut self.connection).optional()?)
    }

    /// The epochs of the tenant's log that were begun by an acknowledgement, in their order.
    pub fn epochs(&mut self) -> Result<Vec<i32>, StoreError> {
        let epochs = log_epochs::table.filter(log_epochs::tenant_id.eq(&self.tenant)).select(log_epochs::epoch);
        Ok(epochs.order(log_epochs::epoch.asc()).load(&mut self.connection)?)
    }

    /// The public keys of who signs for this database. There should be one, or none before the first start with a key.
    pub fn signing_keys(&mut self) -> Result<Vec<Vec<u8>>, StoreError> {
        Ok(signing_keys::table.select(signing_keys::public_key).load(&mut self.connection)?)
    }

    /// A page of the events with places from 0 up to `below`, in the order of their places.
    pub fn events(&mut self, after: Option<&AfterRow>, below: i64) -> Result<AuditPage<Event>, StoreError> {
        let rows = self.event_columns(after, below, PAGE);
        match rows {
            Ok(rows) => {
                let next = next_of(&rows, |row| AfterRow { leaf_index: row.leaf_index, id: row.event_id.clone() });
                Ok((rows.into_iter().map(|row| row.audit(&self.tenant)).collect(), next))
            }
            Err(StoreError::Corrupt(_)) => self.one_event(after, below),
            Err(error) => Err(error),
        }
    }

    /// One event alone, because a row of the page cannot be read at all; perhaps this one.
    fn one_event(&mut self, after: Option<&AfterRow>, below: i64) -> Result<AuditPage<Event>, StoreError> {
        let keys: Option<(i64, RawId)> = self
            .event_walk(after, below)
            .select((events::leaf_index, events::event_id))
            .first(&mut self.connection)
            .optional()?;
        let Some((leaf_index, id)) = keys else { return Ok((Vec::new(), None)) };
        let name = format!("tenants/{}/events/{id}", self.tenant);
        let row = match self.event_columns(after, below, 1) {
            Ok(mut rows) => rows.pop().map(|row| row.audit(&self.tenant)),
            Err(StoreError::Corrupt(problem)) => Some(AuditRow::unreadable(leaf_index, name, problem)),
            Err(error) => return Err(error),
        };
        Ok((row.into_iter().collect(), Some(AfterRow { leaf_index, id })))
    }

    fn event_columns(
        &mut self,
        after: Option<&AfterRow>,
        below: i64,
        limit: i64,
    ) -> Result<Vec<EventColumns>, StoreError> {
        let page = self.event_walk(after, below).limit(limit).select(EventColumns::as_select());
        Ok(page.load(&mut self.connection)?)
    }

    fn event_walk<'q>(
        &self,
        after: Option<&AfterRow>,
        below: i64,
    ) -> events::BoxedQuery<'q, super::conn::MultiBackend> {
        let mut walk = events::table
            .filter(events::tenant_id.eq(self.tenant.clone()))
            .filter(events::leaf_index.ge(after.map_or(0, |after| after.leaf_index)))
            .filter(events::leaf_index.lt(below))
            .into_boxed();
        if let Some(AfterRow { leaf_index, id }) = after.cloned() {
            walk = walk.filter(events::leaf_index.gt(leaf_index).or(events::event_id.gt(id)));
        }
        walk.order((events::leaf_index.asc(), events::event_id.asc()))
    }

    /// A page of the notes with places from 0 up to `below`, in the order of their places.
    pub fn notes(&mut self, after: Option<&AfterRow>, below: i64) -> Result<AuditPage<NoteOnEvent>, StoreError> {
        let rows = match self.note_columns(after, below, PAGE) {
            Err(StoreError::Corrupt(_)) => return self.one_note(after, below),
            rows => rows?,
        };
        let next = next_of(&rows, |row| AfterRow { leaf_index: row.leaf_index, id: row.note_id.clone() });
        Ok((self.audit_notes(rows)?, next))
    }

    fn one_note(&mut self, after: Option<&AfterRow>, below: i64) -> Result<AuditPage<NoteOnEvent>, StoreError> {
        let keys: Option<(i64, RawId, RawId)> = self
            .note_walk(after, below)
            .select((update_notes::leaf_index, update_notes::event_id, update_notes::note_id))
            .first(&mut self.connection)
            .optional()?;
        let Some((leaf_index, event, id)) = keys else { return Ok((Vec::new(), None)) };
        let name = columns::note_name(&self.tenant, &event, &id);
        let rows = match self.note_columns(after, below, 1) {
            Ok(rows) => self.audit_notes(rows)?,
            Err(StoreError::Corrupt(problem)) => vec![AuditRow::unreadable(leaf_index, name, problem)],
            Err(error) => return Err(error),
        };
        Ok((rows, Some(AfterRow { leaf_index, id })))
    }

    fn note_columns(
        &mut self,
        after: Option<&AfterRow>,
        below: i64,
        limit: i64,
    ) -> Result<Vec<NoteColumns>, StoreError> {
        let page = self.note_walk(after, below).limit(limit).select(NoteColumns::as_select());
        Ok(page.load(&mut self.connection)?)
    }

    fn note_walk<'q>(
        &self,
        after: Option<&AfterRow>,
        below: i64,
    ) -> update_notes::BoxedQuery<'q, super::conn::MultiBackend> {
        let mut walk = update_notes::table
            .filter(update_notes::tenant_id.eq(self.tenant.clone()))
            .filter(update_notes::leaf_index.ge(after.map_or(0, |after| after.leaf_index)))
            .filter(update_notes::leaf_index.lt(below))
            .into_boxed();
        if let Some(AfterRow { leaf_index, id }) = after.cloned() {
            walk = walk.filter(update_notes::leaf_index.gt(leaf_index).or(update_notes::note_id.gt(id)));
        }
        walk.order((update_notes::leaf_index.asc(), update_notes::note_id.asc()))
    }

    /// A note's leaf names its event with the project, which stands in the event's row alone.
    fn audit_notes(&mut self, rows: Vec<NoteColumns>) -> Result<Vec<AuditRow<NoteOnEvent>>, StoreError> {
        let ids: Vec<RawId> = rows.iter().map(|row| row.event_id.clone()).collect();
        let found: Vec<(RawId, String)> = events::table
            .filter(events::tenant_id.eq(&self.tenant).and(events::event_id.eq_any(ids)))
            .select((events::event_id, events::project_id))
            .load(&mut self.connection)?;
        let projects: HashMap<RawId, String> = found.into_iter().collect();
        Ok(rows.into_iter().map(|row| row.audit(&self.tenant, &projects)).collect())
    }

    /// The finished tile `index` of `level`; `None` if it is not there.
    pub fn tile(&mut self, level: u8, index: u64) -> Result<Option<StoredTile>, StoreError> {
        let index = i64::try_from(index).unwrap_or(i64::MAX);
        let tile = tree_tiles::table.find((&self.tenant, i16::from(level), index));
        Ok(tile.select((tree_tiles::root, tree_tiles::hashes)).first(&mut self.connection).optional()?)
    }

    /// The tiles of `level` from `first` on, at most a few: their places.
    pub fn tiles_from(&mut self, level: u8, first: u64) -> Result<Vec<i64>, StoreError> {
        let first = i64::try_from(first).unwrap_or(i64::MAX);
        let of_level = tree_tiles::table
            .filter(tree_tiles::tenant_id.eq(&self.tenant).and(tree_tiles::level.eq(i16::from(level))))
            .filter(tree_tiles::tile_index.ge(first).or(tree_tiles::tile_index.lt(0)));
        let places = of_level.order(tree_tiles::tile_index.asc()).limit(MAX_STRAYS).select(tree_tiles::tile_index);
        Ok(places.load(&mut self.connection)?)
    }

    /// The tiles outside of the levels 0 to `levels - 1`, at most a few: level and place.
    pub fn tiles_of_other_levels(&mut self, levels: u8) -> Result<Vec<(i16, i64)>, StoreError> {
        let others = tree_tiles::table
            .filter(tree_tiles::tenant_id.eq(&self.tenant))
            .filter(tree_tiles::level.ge(i16::from(levels)).or(tree_tiles::level.lt(0)));
        let places = others.limit(MAX_STRAYS).select((tree_tiles::level, tree_tiles::tile_index));
        Ok(places.load(&mut self.connection)?)
    }

    /// Rows whose place is in no log: below 0, or not below the head's size as it is in the same moment. At most a few of
    /// each table: name and place.
    pub fn strays(&mut self) -> Result<Vec<(String, i64)>, StoreError> {
        let size = || {
            let head = tree_heads::table.filter(tree_heads::tenant_id.eq(self.tenant.clone()));
            head.select(diesel::dsl::max(tree_heads::tree_size)).single_value()
        };
        let is_beyond = || events::leaf_index.nullable().ge(size()).or(size().is_null());
        let rows: Vec<(RawId, i64)> = events::table
            .filter(events::tenant_id.eq(self.tenant.clone()))
            .filter(is_beyond().or(events::leaf_index.nullable().lt(0)))
            .order(events::leaf_index.asc())
            .limit(MAX_STRAYS)
            .select((events::event_id, events::leaf_index))
            .load(&mut self.connection)?;
        let is_beyond = || update_notes::leaf_index.nullable().ge(size()).or(size().is_null());
        let notes: Vec<(RawId, RawId, i64)> = update_notes::table
            .filter(update_notes::tenant_id.eq(self.tenant.clone()))
            .filter(is_beyond().or(update_notes::leaf_index.nullable().lt(0)))
            .order(update_notes::leaf_index.asc())
            .limit(MAX_STRAYS)
            .select((update_notes::event_id, update_notes::note_id, update_notes::leaf_index))
            .load(&mut self.connection)?;
        let tenant = &self.tenant;
        let events = rows.into_iter().map(|(id, place)| (format!("tenants/{tenant}/events/{id}"), place));
        let notes = notes.into_iter().map(|(event, id, place)| (columns::note_name(tenant, &event, &id), place));
        Ok(events.chain(notes).collect())
    }
}

impl<T> AuditRow<T> {
    /// A row with a value that is not of its column's type, which SQLite does not prevent.
    fn unreadable(leaf_index: i64, name: String, problem: String) -> Self {
        let bad = BadColumn { column: "the row", problem };
        Self { leaf_index, name, leaf_hash: Err(bad.clone()), content: Err(bad) }
    }
}

/// A page that is not full is the last one.
fn next_of<T>(rows: &[T], place: impl Fn(&T) -> AfterRow) -> Option<AfterRow> {
    rows.last().filter(|_| rows.len() as i64 == PAGE).map(place)
}

/// The scope of a row; the error names the column.
fn scope(tenant: &str, project: &str) -> Result<Scope, BadColumn> {
    Scope::new(tenant, Some(project).filter(|project| !project.is_empty()))
        .map_err(|_| BadColumn { column: "project_id", problem: format!("{project:?} is no project id") })
}
