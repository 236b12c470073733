//! Reading events: one by id, or a page of a walk.

use std::collections::HashMap;

use diesel::prelude::*;

use crate::model::{EventId, EventView, PageQuery, Position, Scope, TimeId, UpdateNote};

use super::{
    conditions::{EventRowColumns, HasNotes},
    conn::AnyConnection,
    error::StoreError,
    lanes::{Lanes, NotedRow},
    rows::{EventRow, NoteRow},
    schema::{events, update_notes},
    types::Id,
    walk::{Stretch, Walk},
};

/// How much one page may hold and cost.
#[derive(Clone, Copy, Debug)]
pub struct PageBounds {
    /// The most events.
    pub rows: usize,
    /// About the most bytes, encoded; one event is always taken.
    pub bytes: usize,
    /// The most events that are looked at.
    pub inspected: usize,
}

/// An event as it was read, with its notes.
#[derive(Debug)]
pub struct StoredEvent {
    /// Large, and moved about.
    row: Box<EventRow>,
    id: EventId,
    notes: Vec<UpdateNote>,
}

/// One page of a walk.
#[derive(Debug, Default)]
pub struct EventPage {
    /// The events, in the order asked for.
    pub events: Vec<StoredEvent>,
    /// About as many bytes as they take, encoded; never less.
    pub bytes: usize,
    /// Where the next page starts; `None` at the end of the walk.
    pub next: Option<Position>,
}

impl StoredEvent {
    /// What it says.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the row is none that this service writes; JSON shows that only when it is read.
    pub fn view(&self) -> Result<EventView<'_>, StoreError> {
        self.row.view(&self.notes)
    }
}

/// How many rows a page with residual conditions inspects first for each that it wants, and how many it does at most for a
/// small page. Where they do not fill it, so many come next at least, then four times as many, and so on. Common values
/// cost little that way, and rare ones few round trips.
const INSPECTED_FOR_EACH: usize = 5;
const FIRST_WINDOW: usize = 256;
const SECOND_WINDOW: usize = 1024;
const WINDOW_GROWTH: usize = 4;

/// For how many events the notes are read at once: at the default limits up to 6 MiB.
const NOTED_AT_ONCE: usize = 16;

/// The event `id` within `scope`, with its notes.
pub(super) fn event(
    connection: &mut AnyConnection,
    scope: &Scope,
    id: EventId,
) -> Result<Option<StoredEvent>, StoreError> {
    let row: Option<(EventRow, bool)> = events::table
        .find((scope.tenant(), Id::from(id)))
        .select((EventRowColumns, HasNotes::of(scope.tenant())))
        .first(connection)
        .optional()?;
    let in_scope = row.filter(|(event, _)| scope.project().is_none_or(|project| event.project() == project));
    let rows = in_scope.into_iter().map(|(event, has_notes)| (Box::new(event), has_notes)).collect();
    Ok(with_notes(connection, scope.tenant(), rows, None)?.pop())
}

/// One page. Where its walk may pass over other projects' events than the query's own, nothing of the answer is made of
/// their places. It then has half of what may be inspected, and the walk through the project alone the other half.
pub(super) fn page(
    connection: &mut AnyConnection,
    query: &PageQuery,
    bounds: PageBounds,
) -> Result<EventPage, StoreError> {
    let lanes = Lanes::new(query, connection);
    let own = lanes.own();
    let shares = if own.is_some() { 2 } else { 1 };
    let bounds = PageBounds { inspected: bounds.inspected.div_ceil(shares), ..bounds };
    let mut page = Filling::new(query, bounds, own);
    match (page.take(connection, lanes)?, own) {
        (Ended::Bound(_), Some(own)) => {
            // How far it came depends on the others. What there is in the project alone does not.
            let mut page = Filling::new(query, bounds, None);
            let ended = page.take(connection, Lanes::of(query, own))?;
            Ok(page.ended(ended))
        }
        (ended, _) => Ok(page.ended(ended)),
    }
}

fn first_window(rows: usize) -> usize {
    rows.saturating_mul(INSPECTED_FOR_EACH).min(FIRST_WINDOW).max(rows)
}

/// A page that is being filled.
struct Filling<'q> {
    query: &'q PageQuery,
    bounds: PageBounds,
    /// The walk through the query's project, where the one that fills the page may pass over others'.
    own: Option<Walk<'q>>,
    events: Vec<StoredEvent>,
    bytes: usize,
}

/// Why a page ended, and where the next one starts.
enum Ended {
    /// It is full, or the walk is at its end.
    Done(Option<Position>),
    /// It has inspected as many events as it may.
    Bound(Option<Position>),
}

/// How far a stretch filled a page.
enum Filled {
    /// The page is full, and goes on behind this place, if it goes on at all.
    Full(Option<Position>),
    /// The stretch is at its end, and the page has room.
    NotYet,
}

impl<'q> Filling<'q> {
    fn new(query: &'q PageQuery, bounds: PageBounds, own: Option<Walk<'q>>) -> Self {
        Self { query, bounds, own, events: Vec::new(), bytes: 0 }
    }

    fn take(&mut self, connection: &mut AnyConnection, mut lanes: Lanes<'q>) -> Result<Ended, StoreError> {
        let (mut after, mut left) = (self.query.after, self.bounds.inspected.max(1));
        let mut window = first_window(self.bounds.rows).min(left);
        let mut end = lanes.first_window_end(connection, after, window)?;
        loop {
            if let Filled::Full(next) = self.fill(connection, &lanes, Stretch { after, end })? {
                return Ok(Ended::Done(next));
            }
            left -= window;
            match end {
                None => return Ok(Ended::Done(None)),
                Some(_) if left == 0 => return Ok(Ended::Bound(end)),
                Some(_) => (),
            }
            (after, window) = (end, (window * WINDOW_GROWTH).max(SECOND_WINDOW).min(left));
            end = lanes.next_window_end(connection, after, window)?;
        }
    }

    fn fill(
        &mut self,
        connection: &mut AnyConnection,
        lanes: &Lanes<'_>,
        stretch: Stretch,
    ) -> Result<Filled, StoreError> {
        let mut rows = lanes.rows(stretch);
        loop {
            let taken = rows.take(connection, self.bounds.rows - self.events.len())?;
            if !self.push_all(connection, taken)? {
                return Ok(Filled::Full(self.last()));
            }
            match (rows.has_more(connection)?, self.events.len() == self.bounds.rows) {
                (true, true) => return Ok(Filled::Full(self.last())),
                (true, false) => (),
                (false, true) => return Ok(Filled::Full(self.behind(connection, stretch.end)?)),
                (false, false) => return Ok(Filled::NotYet),
            }
        }
    }

    /// Where a full page goes on whose stretch has no more: at the stretch's end, or, where that may be another project's
    /// event, behind its own last one, if the project has any more.
    fn behind(&self, connection: &mut AnyConnection, end: Option<Position>) -> Result<Option<Position>, StoreError> {
        let Some(own) = self.own else { return Ok(end) };
        Ok(own.place(connection, self.last(), 1)?.and(self.last()))
    }

    fn ended(self, ended: Ended) -> EventPage {
        let (Ended::Done(next) | Ended::Bound(next)) = ended;
        EventPage { events: self.events, bytes: self.bytes, next }
    }

    /// Whether there was room for all of them. The notes are read for few at a time: those of all rows that are taken at once could
    /// be hundreds of times of what a page has room for.
    fn push_all(&mut self, connection: &mut AnyConnection, mut rows: Vec<NotedRow>) -> Result<bool, StoreError> {
        while !rows.is_empty() {
            let rest = rows.split_off(few_noted(&rows));
            for event in with_notes(connection, self.query.scope.tenant(), rows, self.query.log_size)? {
                if !self.push(event)? {
                    return Ok(false);
                }
            }
            rows = rest;
        }
        Ok(true)
    }

    /// Whether there was room for it; for the first one there always is.
    fn push(&mut self, event: StoredEvent) -> Result<bool, StoreError> {
        let bytes = self.bytes + event.view()?.encoded_bound();
        let fits = bytes <= self.bounds.bytes || self.events.is_empty();
        if fits {
            self.bytes = bytes;
            self.events.push(event);
        }
        Ok(fits)
    }

    fn last(&self) -> Option<Position> {
        let last = self.events.last()?;
        Some(Position::of(last.id, last.row.leaf_index(), self.query.order))
    }
}

/// How many rows it takes to have notes to read for a few events, or all of them.
fn few_noted(rows: &[NotedRow]) -> usize {
    let noted = rows.iter().enumerate().filter(|(_, (_, has_notes))| *has_notes);
    noted.map(|(at, _)| at + 1).nth(NOTED_AT_ONCE - 1).unwrap_or(rows.len())
}

/// Gives each event its notes, oldest first; of a log of `log_size` leaves only those that are in it. Most events have none,
/// and most pages have none of those that have some: then there is nothing to ask for.
fn with_notes(
    connection: &mut AnyConnection,
    tenant: &str,
    rows: Vec<NotedRow>,
    log_size: Option<i64>,
) -> Result<Vec<StoredEvent>, StoreError> {
    let mut notes = notes_of(connection, tenant, &rows, log_size)?;
    let stored = |(row, _): NotedRow| {
        let id = row.id()?;
        Ok(StoredEvent { row, id, notes: notes.remove(&id).unwrap_or_default() })
    };
    rows.into_iter().map(stored).collect()
}

fn notes_of(
    connection: &mut AnyConnection,
    tenant: &str,
    rows: &[NotedRow],
    log_size: Option<i64>,
) -> Result<HashMap<TimeId, Vec<UpdateNote>>, StoreError> {
    let ids = rows.iter().filter(|(_, has_notes)| *has_notes).map(|(row, _)| Ok(Id::from(row.id()?)));
    let ids = ids.collect::<Result<Vec<_>, StoreError>>()?;
    let mut notes = HashMap::<_, Vec<_>>::new();
    if ids.is_empty() {
        return Ok(notes);
    }
    let found: Vec<NoteRow> = update_notes::table
        .filter(update_notes::tenant_id.eq(tenant).and(update_notes::event_id.eq_any(ids)))
        .filter(update_notes::leaf_index.lt(log_size.unwrap_or(i64::MAX)))
        .order(update_notes::leaf_index.asc())
        .select(NoteRow::as_select())
        .load(connection)?;
    for row in found {
        let (event_id, note) = row.into_note()?;
        notes.entry(event_id).or_default().push(note);
    }
    Ok(notes)
}
