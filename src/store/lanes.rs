//! One walk, or several side by side whose rows are merged.
//!
//! A filter with several values of a field has no index whose entries come in order. Where the values are common, the walk
//! through all of the tenant's events fills a page soon; where they are rare, a walk for each value passes over nothing
//! else.

use diesel::prelude::*;

use crate::model::{PageQuery, Position};

use super::{
    conditions::HasNotes,
    conn::AnyConnection,
    error::StoreError,
    merge::{Placed, merged},
    rows::EventRow,
    walk::{Stretch, Walk},
};

/// An event's row, and whether there are notes on it. Large, and moved about.
pub(super) type NotedRow = (Box<EventRow>, bool);

/// Walks in the same order that have no row in common.
#[derive(Debug)]
pub(super) struct Lanes<'q> {
    query: &'q PageQuery,
    walks: Vec<Walk<'q>>,
}

impl<'q> Lanes<'q> {
    /// One walk that sees all rows.
    pub(super) fn new(query: &'q PageQuery, connection: &AnyConnection) -> Self {
        Self { query, walks: vec![Walk::new(query, connection)] }
    }

    /// Goes on with a walk for each value, if there are several.
    pub(super) fn part(&mut self) {
        if let [walk] = self.walks[..] {
            let apart = walk.apart();
            if apart.len() > 1 {
                self.walks = apart;
            }
        }
    }

    /// The last place of the next `window` rows of the driving indexes; `None` if the rest of the walk may be taken at once,
    /// because there is no more than that or because every row of it is asked for.
    pub(super) fn window_end(
        &self,
        connection: &mut AnyConnection,
        after: Option<Position>,
        window: usize,
    ) -> Result<Option<Position>, StoreError> {
        if !self.walks.iter().any(Walk::has_residual) {
            return Ok(None);
        }
        if let [walk] = &self.walks[..] {
            return walk.place(connection, after, window);
        }
        let walks = self.walks.iter();
        let next = |walk: &&Walk<'q>, after, count| walk.places(connection, after, count);
        let places = merged(walks, self.query.order, after, window, next)?;
        Ok(places.get(window - 1).map(|(place, ())| *place))
    }

    /// The first `limit` rows of a stretch that the query asks for, in order.
    pub(super) fn rows(
        &self,
        connection: &mut AnyConnection,
        stretch: Stretch,
        limit: usize,
    ) -> Result<Vec<NotedRow>, StoreError> {
        let next = |walk: &&Walk<'q>, after, count| self.load(connection, walk, Stretch { after, ..stretch }, count);
        let rows = merged(self.walks.iter(), self.query.order, stretch.after, limit, next)?;
        Ok(rows.into_iter().map(|(_, row)| row).collect())
    }

    fn load(
        &self,
        connection: &mut AnyConnection,
        walk: &Walk<'q>,
        stretch: Stretch,
        count: usize,
    ) -> Result<Vec<Placed<NotedRow>>, StoreError> {
        let rows =
            walk.filtered(stretch, count).select((EventRow::as_select(), HasNotes::of(self.query.scope.tenant())));
        let placed = |row: QueryResult<(EventRow, bool)>| {
            let (row, has_notes) = row?;
            Ok((Position::of(row.id()?, row.leaf_index(), self.query.order), (Box::new(row), has_notes)))
        };
        rows.load_iter::<(EventRow, bool), _>(connection)?.map(placed).collect()
    }
}
