//! One walk, or several side by side whose rows are merged.
//!
//! A filter with several values of a field has no index whose entries come in order. Where the values are common, a walk
//! that has some other driver fills a page soon. Where they are rare, a walk for each value passes over nothing else.

use diesel::prelude::*;

use crate::model::{PageQuery, Position};

use super::{
    conditions::{EventRowColumns, HasNotes},
    conn::AnyConnection,
    error::StoreError,
    merge::{Merge, Placed},
    rows::EventRow,
    walk::{Stretch, Walk},
};

/// An event's row, and whether there are notes on it. Large, and moved about.
pub(super) type NotedRow = (Box<EventRow>, bool);

/// The most rows that are taken at once, to keep memory flat; of several walks, each with rows ahead, fewer.
const ROWS_AT_ONCE: usize = 256;
const ROWS_AT_ONCE_OF_SEVERAL: usize = 64;

/// Walks in the same order that have no row in common.
#[derive(Debug)]
pub(super) struct Lanes<'q> {
    query: &'q PageQuery,
    walks: Vec<Walk<'q>>,
    /// Others that see the same rows, until it is decided which get further.
    others: Option<Vec<Walk<'q>>>,
}

/// The rows of a stretch that are asked for, and how far they have been taken.
pub(super) struct Rows<'l, 'q> {
    lanes: &'l Lanes<'q>,
    end: Option<Position>,
    at_once: usize,
    merge: Merge<&'l Walk<'q>, NotedRow>,
}

impl<'q> Lanes<'q> {
    /// One walk that sees all rows.
    pub(super) fn new(query: &'q PageQuery, connection: &AnyConnection) -> Self {
        let walk = Walk::new(query, connection);
        Self { query, walks: vec![walk], others: Some(walk.apart()).filter(|walks| walks.len() > 1) }
    }

    /// `walk` alone.
    pub(super) fn of(query: &'q PageQuery, walk: Walk<'q>) -> Self {
        Self { query, walks: vec![walk], others: None }
    }

    /// The walk through the project that the query is about, if these walks may pass over events of others.
    pub(super) fn own(&self) -> Option<Walk<'q>> {
        let own = self.walks.first()?.within_project()?;
        let mut walks = self.walks.iter().chain(self.others.iter().flatten());
        walks.any(|walk| !walk.has_driver_of(&own)).then_some(own)
    }

    /// The last place of the first `window` rows of the driving index; `None` if all of the walk may be taken at once,
    /// because there is no more than that or because every row of it is asked for.
    pub(super) fn first_window_end(
        &self,
        connection: &mut AnyConnection,
        after: Option<Position>,
        window: usize,
    ) -> Result<Option<Position>, StoreError> {
        self.window_end(connection, &self.walks, after, window)
    }

    /// The same of a next window. The first look has found too little, so it goes on with a walk for each value if those
    /// get further.
    pub(super) fn next_window_end(
        &mut self,
        connection: &mut AnyConnection,
        after: Option<Position>,
        window: usize,
    ) -> Result<Option<Position>, StoreError> {
        let end = self.window_end(connection, &self.walks, after, window)?;
        let Some(others) = self.others.take() else { return Ok(end) };
        let other_end = self.window_end(connection, &others, after, window)?;
        let get_further = match (other_end, end) {
            (None, Some(_)) => true,
            (Some(other), Some(end)) => other.is_behind(end, self.query.order),
            (_, None) => false,
        };
        if !get_further {
            return Ok(end);
        }
        self.walks = others;
        Ok(other_end)
    }

    fn window_end(
        &self,
        connection: &mut AnyConnection,
        walks: &[Walk<'q>],
        after: Option<Position>,
        window: usize,
    ) -> Result<Option<Position>, StoreError> {
        if !walks.iter().any(Walk::has_residual) {
            return Ok(None);
        }
        if let [walk] = walks {
            return walk.place(connection, after, window);
        }
        let mut merge = Merge::new(walks.iter(), self.query.order, after, window);
        let places = merge.take(window, |walk, after, count| walk.places(connection, after, count))?;
        Ok(places.get(window - 1).map(|(place, ())| *place))
    }

    /// The rows of a stretch that the query asks for.
    pub(super) fn rows(&self, stretch: Stretch) -> Rows<'_, 'q> {
        let at_once = if self.walks.len() > 1 { ROWS_AT_ONCE_OF_SEVERAL } else { ROWS_AT_ONCE };
        let merge = Merge::new(self.walks.iter(), self.query.order, stretch.after, at_once);
        Rows { lanes: self, end: stretch.end, at_once, merge }
    }

    fn load(
        &self,
        connection: &mut AnyConnection,
        walk: &Walk<'q>,
        stretch: Stretch,
        count: usize,
    ) -> Result<Vec<Placed<NotedRow>>, StoreError> {
        let has_notes = HasNotes::of(self.query.scope.tenant());
        let rows = walk.filtered(stretch, count).select((EventRowColumns, has_notes));
        let placed = |row: QueryResult<(EventRow, bool)>| {
            let (row, has_notes) = row?;
            Ok((Position::of(row.id()?, row.leaf_index(), self.query.order), (Box::new(row), has_notes)))
        };
        rows.load_iter::<(EventRow, bool), _>(connection)?.map(placed).collect()
    }
}

impl Rows<'_, '_> {
    /// The next ones in order, as many as there are up to `limit`, or up to what is taken at once.
    pub(super) fn take(&mut self, connection: &mut AnyConnection, limit: usize) -> Result<Vec<NotedRow>, StoreError> {
        let Self { lanes, end, at_once, merge } = self;
        let rows = merge.take(limit.min(*at_once), |walk, after, count| {
            lanes.load(connection, walk, Stretch { after, end: *end }, count)
        })?;
        Ok(rows.into_iter().map(|(_, row)| row).collect())
    }

    /// Whether there are more.
    pub(super) fn has_more(&mut self, connection: &mut AnyConnection) -> Result<bool, StoreError> {
        let Self { lanes, end, merge, .. } = self;
        merge.has_more(|walk, after, count| lanes.load(connection, walk, Stretch { after, end: *end }, count))
    }
}
