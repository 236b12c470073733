//! The queries of a walk through the events.
//!
//! A walk is driven by one index whose entries come in the order asked for; what that index does not settle is a
//! *residual* condition, and may leave out any number of rows. Which index that is must not depend on what a planner
//! thinks of the values: the bound on inspection counts the rows of the driving one.

use diesel::{expression::BoxableExpression, prelude::*, sql_types::Bool};

use crate::model::{Order, PageQuery, Position};

use super::{
    conditions::{KeyBound, LeafBound},
    conn::{AnyConnection, MultiBackend},
    driver::{self, Driver},
    error::StoreError,
    merge::Placed,
    schema::events,
    types::Id,
};

/// Rows of a walk, still to be selected.
pub(super) type Rows<'q> = events::BoxedQuery<'q, MultiBackend>;
type Condition<'q> = Box<dyn BoxableExpression<events::table, MultiBackend, SqlType = Bool> + 'q>;

/// One walk, and how its store likes to be asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk<'q> {
    query: &'q PageQuery,
    driver: Driver<'q>,
    is_postgres: bool,
}

/// A stretch of a walk: behind `after`, up to and including `end`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stretch {
    pub(super) after: Option<Position>,
    pub(super) end: Option<Position>,
}

impl<'q> Walk<'q> {
    pub(super) fn new(query: &'q PageQuery, connection: &AnyConnection) -> Self {
        let is_postgres = matches!(connection, AnyConnection::Postgres(_));
        Self { query, driver: Driver::of(query), is_postgres }
    }

    /// Walks which see the same rows side by side, each row once: one for each value of the most telling field, of which
    /// there may be one or none.
    pub(super) fn apart(self) -> Vec<Self> {
        driver::side_by_side(self.query).into_iter().map(|driver| Self { driver, ..self }).collect()
    }

    /// The walk that sees no events but those of the project that the query is about, in an order by time.
    pub(super) fn within_project(self) -> Option<Self> {
        let project = self.query.scope.project().filter(|_| self.query.order != Order::Log)?;
        Some(Self { driver: Driver::Project(project), ..self })
    }

    /// Whether one index drives both.
    pub(super) fn has_driver_of(&self, other: &Self) -> bool {
        self.driver == other.driver
    }

    /// The place of the `count`th row of the driving index behind `after`; `None` if there are fewer.
    pub(super) fn place(
        &self,
        connection: &mut AnyConnection,
        after: Option<Position>,
        count: usize,
    ) -> Result<Option<Position>, StoreError> {
        let row = self.driven(Stretch { after, end: None }).offset(to_i64(count) - 1).limit(1);
        let places = self.places_of(connection, row)?;
        Ok(places.into_iter().next().map(|(place, ())| place))
    }

    /// The places of the next `count` rows of the driving index.
    pub(super) fn places(
        &self,
        connection: &mut AnyConnection,
        after: Option<Position>,
        count: usize,
    ) -> Result<Vec<Placed<()>>, StoreError> {
        self.places_of(connection, self.driven(Stretch { after, end: None }).limit(to_i64(count)))
    }

    fn places_of(&self, connection: &mut AnyConnection, rows: Rows<'q>) -> Result<Vec<Placed<()>>, StoreError> {
        let rows: Vec<(Id, i64)> = rows.select((events::event_id, events::leaf_index)).load(connection)?;
        let place = |(id, leaf): (Id, i64)| Ok((Position::of(id.time_id()?, leaf, self.query.order), ()));
        rows.into_iter().map(place).collect()
    }

    /// All rows of a stretch that the driving index gives, in order.
    fn driven(&self, stretch: Stretch) -> Rows<'q> {
        let rows = events::table.filter(events::tenant_id.eq(self.query.scope.tenant())).into_boxed();
        match self.driver.key() {
            _ if self.query.order == Order::Log => self.by_leaf(rows, stretch),
            Some((column, key)) if self.is_postgres => self.by_key_and_id(rows, stretch, column, key),
            _ => self.by_id(self.with_key(rows), stretch),
        }
    }

    /// The first `count` rows of a stretch that the query asks for, in order.
    pub(super) fn filtered(&self, stretch: Stretch, count: usize) -> Rows<'q> {
        let driven = self.driven(stretch).limit(to_i64(count));
        self.residual().into_iter().fold(driven, |rows, condition| rows.filter(condition))
    }

    /// Whether there are conditions that the driving index does not settle.
    pub(super) fn has_residual(&self) -> bool {
        !self.residual().is_empty()
    }

    fn with_key(&self, rows: Rows<'q>) -> Rows<'q> {
        match self.driver {
            Driver::Resource(id) => rows.filter(events::resource_id.eq(id)),
            Driver::Actor(id) => rows.filter(events::actor_id.eq(id)),
            Driver::ResourceType(kind) => rows.filter(events::resource_type.eq(kind)),
            Driver::Project(id) => rows.filter(events::project_id.eq(id)),
            Driver::Tenant | Driver::Log => rows,
        }
    }

    fn by_id(&self, rows: Rows<'q>, stretch: Stretch) -> Rows<'q> {
        let (low, high) = self.ids(stretch);
        let rows = rows.filter(events::event_id.ge(low)).filter(events::event_id.lt(high));
        match self.query.order {
            Order::NewestFirst => rows.order(events::event_id.desc()),
            _ => rows.order(events::event_id.asc()),
        }
    }

    /// PostgreSQL's planner sees through `key = $1 … ORDER BY event_id` and takes the primary key where it thinks the key
    /// common; that walk could pass over a whole tenant. It does not see through row comparisons ordered by both columns,
    /// for which this index is the only one. The bounds on the id alone are for the pruning of partitions.
    fn by_key_and_id(&self, rows: Rows<'q>, stretch: Stretch, column: &'static str, key: &'q str) -> Rows<'q> {
        let (low, high) = self.ids(stretch);
        let bound = |operator, id| KeyBound { column, operator, key: key.to_owned(), id };
        let rows = self.by_id(rows, stretch).filter(bound(">=", low)).filter(bound("<", high));
        let (id, newest) = (events::event_id, self.query.order == Order::NewestFirst);
        match self.driver {
            Driver::Resource(_) if newest => rows.order((events::resource_id.desc(), id.desc())),
            Driver::Resource(_) => rows.order((events::resource_id.asc(), id.asc())),
            Driver::Actor(_) if newest => rows.order((events::actor_id.desc(), id.desc())),
            Driver::Actor(_) => rows.order((events::actor_id.asc(), id.asc())),
            Driver::ResourceType(_) if newest => rows.order((events::resource_type.desc(), id.desc())),
            Driver::ResourceType(_) => rows.order((events::resource_type.asc(), id.asc())),
            Driver::Project(_) if newest => rows.order((events::project_id.desc(), id.desc())),
            Driver::Project(_) => rows.order((events::project_id.asc(), id.asc())),
            Driver::Tenant | Driver::Log => rows,
        }
    }

    fn by_leaf(&self, rows: Rows<'q>, stretch: Stretch) -> Rows<'q> {
        let leaf = |position| match position {
            Some(Position::Leaf(index)) => Some(index),
            Some(Position::Id(_)) | None => None,
        };
        let low = leaf(stretch.after).map_or(0, |index| index.saturating_add(1));
        let high = leaf(stretch.end).map_or(i64::MAX, |index| index.saturating_add(1));
        let low = low.max(self.query.filter.start_leaf_index.unwrap_or(0));
        let high = high.min(self.query.log_size.unwrap_or(i64::MAX));
        rows.filter(events::leaf_index.ge(low)).filter(events::leaf_index.lt(high)).order(events::leaf_index.asc())
    }

    /// The ids of a stretch: from the first, and below the second.
    fn ids(&self, stretch: Stretch) -> (Id, Id) {
        let filter = &self.query.filter;
        let low = filter.start_millis.map_or(Id::MIN, Id::lower_bound);
        let high = filter.end_millis.map_or(Id::MAX, Id::lower_bound);
        let id = |position| match position {
            Some(Position::Id(id)) => Some(Id::from(id)),
            Some(Position::Leaf(_)) | None => None,
        };
        match (self.query.order, id(stretch.after), id(stretch.end)) {
            (Order::NewestFirst, after, end) => (low.max(end.unwrap_or(Id::MIN)), high.min(after.unwrap_or(Id::MAX))),
            (_, after, end) => (low.max(after.map_or(Id::MIN, Id::next)), high.min(end.map_or(Id::MAX, Id::next))),
        }
    }

    /// The conditions that the driving index does not settle. Columns with an index of their own stand in expressions, so
    /// that no planner takes that index instead.
    fn residual(&self) -> Vec<Condition<'q>> {
        let filter = &self.query.filter;
        let mut conditions = Vec::new();
        if !matches!(self.driver, Driver::Project(_)) || driver::projects(self.query).is_empty() {
            conditions.extend(of_project(self.query));
        }
        if !matches!(self.driver, Driver::Resource(_)) && !filter.resource_ids.is_empty() {
            conditions.push(boxed(events::resource_id.assume_not_null().concat("").eq_any(&filter.resource_ids)));
        }
        if !matches!(self.driver, Driver::Actor(_)) && !filter.actor_ids.is_empty() {
            conditions.push(boxed(events::actor_id.assume_not_null().concat("").eq_any(&filter.actor_ids)));
        }
        if !matches!(self.driver, Driver::ResourceType(_)) && !filter.resource_types.is_empty() {
            conditions.push(boxed(events::resource_type.concat("").eq_any(&filter.resource_types)));
        }
        if !filter.action_types.is_empty() {
            let words: Vec<&str> = filter.action_types.iter().map(|action| action.as_str()).collect();
            conditions.push(boxed(events::action_type.eq_any(words)));
        }
        if !filter.actor_types.is_empty() {
            let words: Vec<&str> = filter.actor_types.iter().map(|kind| kind.as_str()).collect();
            conditions.push(boxed(events::actor_type.assume_not_null().eq_any(words)));
        }
        conditions.extend(self.residual_bounds());
        conditions
    }

    /// Times where the log drives the walk, and the log's own where time does: nearly all rows pass the end of the log, until
    /// the walk comes to what was recorded since.
    fn residual_bounds(&self) -> Vec<Condition<'q>> {
        let filter = &self.query.filter;
        if self.driver != Driver::Log {
            let start = filter.start_leaf_index.map(LeafBound::from);
            let end = self.query.log_size.map(LeafBound::below);
            return start.into_iter().chain(end).map(boxed).collect();
        }
        let start = filter.start_millis.map(|start| boxed(events::event_id.ge(Id::lower_bound(start))));
        let end = filter.end_millis.map(|end| boxed(events::event_id.lt(Id::lower_bound(end))));
        start.into_iter().chain(end).collect()
    }
}

/// The scope's project, the filter's projects, or the tenant itself: all that are named must hold.
fn of_project(query: &PageQuery) -> Vec<Condition<'_>> {
    let mut conditions = Vec::new();
    let project_id = || events::project_id.concat("");
    if let Some(project) = query.scope.project() {
        conditions.push(boxed(project_id().eq(project)));
    }
    if !query.filter.project_ids.is_empty() {
        conditions.push(boxed(project_id().eq_any(&query.filter.project_ids)));
    }
    if query.filter.tenant_only {
        conditions.push(boxed(project_id().eq("")));
    }
    conditions
}

fn boxed<'q>(condition: impl BoxableExpression<events::table, MultiBackend, SqlType = Bool> + 'q) -> Condition<'q> {
    Box::new(condition)
}

fn to_i64(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
