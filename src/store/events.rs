//! Reading events: one by id, or a page of a walk.
//!
//! A walk is driven by one index whose entries come in the order asked for; what that index does not settle is a
//! *residual* condition, and may leave out any number of rows. So a page with residual conditions looks up first where
//! its inspection ends, and stays before that.

use std::collections::HashMap;

use diesel::{
    dsl::sql,
    expression::BoxableExpression,
    prelude::*,
    sql_types::{BigInt, Bool},
};

use crate::model::{Event, EventId, Order, PageQuery, Position, Scope, TimeId};

use super::{
    conn::{Backend, Connection},
    error::StoreError,
    rows::{EventRow, NoteRow},
    schema::{events, update_notes},
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

/// One page of a walk.
#[derive(Debug, Default)]
pub struct EventPage {
    /// The events, in the order asked for.
    pub events: Vec<Event>,
    /// Where the next page starts; `None` at the end of the walk.
    pub next: Option<Position>,
}

type Query<'a> = events::BoxedQuery<'a, Backend>;
type Condition<'a> = Box<dyn BoxableExpression<events::table, Backend, SqlType = Bool> + 'a>;

/// The most rows that one statement fetches, to keep memory flat.
const ROWS_PER_STATEMENT: usize = 256;

/// The event `id` within `scope`, with its notes.
pub(super) fn event(connection: &mut Connection, scope: &Scope, id: EventId) -> Result<Option<Event>, StoreError> {
    let row: Option<EventRow> = events::table
        .find((scope.tenant(), id.to_string()))
        .select(EventRow::as_select())
        .first(connection)
        .optional()?;
    let event = row.map(EventRow::into_event).transpose()?.filter(|event| scope.contains(&event.name.scope));
    let mut found = Vec::from_iter(event);
    attach_notes(connection, scope.tenant(), &mut found, None)?;
    Ok(found.pop())
}

/// One page.
pub(super) fn page(
    connection: &mut Connection,
    query: &PageQuery,
    bounds: PageBounds,
) -> Result<EventPage, StoreError> {
    let end = inspection_end(connection, query, bounds.inspected)?;
    let mut page = Vec::new();
    let mut bytes = 0;
    loop {
        let after = last_position(&page, query.order).or(query.after);
        let want = (bounds.rows - page.len()).min(ROWS_PER_STATEMENT);
        let mut fetched = fetch(connection, query, after, end, want + 1)?;
        let more = fetched.len() > want;
        fetched.truncate(want);
        for event in fetched {
            bytes += event.encoded_bound();
            if bytes > bounds.bytes && !page.is_empty() {
                return Ok(EventPage { next: last_position(&page, query.order), events: page });
            }
            page.push(event);
        }
        match more {
            false => return Ok(EventPage { events: page, next: end }),
            true if page.len() == bounds.rows => {
                return Ok(EventPage { next: last_position(&page, query.order), events: page });
            }
            true => {}
        }
    }
}

fn last_position(page: &[Event], order: Order) -> Option<Position> {
    page.last().map(|event| Position::of(event, order))
}

fn fetch(
    connection: &mut Connection,
    query: &PageQuery,
    after: Option<Position>,
    end: Option<Position>,
    limit: usize,
) -> Result<Vec<Event>, StoreError> {
    let driven = driven(query, after, end);
    let filtered = residual(query).into_iter().fold(driven, |filtered, condition| filtered.filter(condition));
    let rows: Vec<EventRow> = filtered.limit(to_i64(limit)).select(EventRow::as_select()).load(connection)?;
    let mut found = rows.into_iter().map(EventRow::into_event).collect::<Result<Vec<_>, _>>()?;
    attach_notes(connection, query.scope.tenant(), &mut found, query.log_size)?;
    Ok(found)
}

/// The last place that a page may inspect, or `None` if it may go on to the end of the walk.
fn inspection_end(
    connection: &mut Connection,
    query: &PageQuery,
    inspected: usize,
) -> Result<Option<Position>, StoreError> {
    if residual(query).is_empty() {
        return Ok(None);
    }
    let last = driven(query, query.after, None).offset(to_i64(inspected.saturating_sub(1))).limit(1);
    match query.order {
        Order::Log => Ok(last.select(events::leaf_index).first(connection).optional()?.map(Position::Leaf)),
        Order::NewestFirst | Order::OldestFirst => {
            let id: Option<String> = last.select(events::event_id).first(connection).optional()?;
            let parse = |id: String| TimeId::parse(&id).map_err(|error| StoreError::Corrupt(error.to_string()));
            Ok(id.map(parse).transpose()?.map(Position::Id))
        }
    }
}

/// Which index drives a walk: the most telling one that a single value of the filter opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Driver {
    Log,
    Resource,
    Actor,
    ResourceType,
    Project,
    Tenant,
}

fn driver(query: &PageQuery) -> Driver {
    let filter = &query.filter;
    match query.order {
        Order::Log => Driver::Log,
        _ if filter.resource_ids.len() == 1 => Driver::Resource,
        _ if filter.actor_ids.len() == 1 => Driver::Actor,
        _ if filter.resource_types.len() == 1 => Driver::ResourceType,
        _ if of_project(query).len() == 1 && filter.project_ids.len() < 2 => Driver::Project,
        _ => Driver::Tenant,
    }
}

/// The rows between `after` and `end` that the driving index gives, in order.
fn driven<'a>(query: &'a PageQuery, after: Option<Position>, end: Option<Position>) -> Query<'a> {
    let rows = events::table.filter(events::tenant_id.eq(query.scope.tenant())).into_boxed();
    let filter = &query.filter;
    let rows = match driver(query) {
        Driver::Resource => rows.filter(events::resource_id.eq(&filter.resource_ids[0])),
        Driver::Actor => rows.filter(events::actor_id.eq(&filter.actor_ids[0])),
        Driver::ResourceType => rows.filter(events::resource_type.eq(&filter.resource_types[0])),
        Driver::Project => match query.scope.project().or(filter.project_ids.first().map(String::as_str)) {
            Some(project) => rows.filter(events::project_id.eq(project)),
            None => rows.filter(events::project_id.is_null()),
        },
        Driver::Tenant | Driver::Log => rows,
    };
    let rows = between(rows, query.order, after, end);
    match query.order {
        Order::Log => in_log_range(rows, query),
        Order::NewestFirst | Order::OldestFirst => in_time_range(rows, query),
    }
}

fn between<'a>(rows: Query<'a>, order: Order, after: Option<Position>, end: Option<Position>) -> Query<'a> {
    let rows = match (after, order) {
        (Some(Position::Id(id)), Order::NewestFirst) => rows.filter(events::event_id.lt(id.to_string())),
        (Some(Position::Id(id)), _) => rows.filter(events::event_id.gt(id.to_string())),
        (Some(Position::Leaf(index)), _) => rows.filter(events::leaf_index.gt(index)),
        (None, _) => rows,
    };
    match (end, order) {
        (Some(Position::Id(id)), Order::NewestFirst) => rows.filter(events::event_id.ge(id.to_string())),
        (Some(Position::Id(id)), _) => rows.filter(events::event_id.le(id.to_string())),
        (Some(Position::Leaf(index)), _) => rows.filter(events::leaf_index.le(index)),
        (None, _) => rows,
    }
}

fn in_log_range<'a>(rows: Query<'a>, query: &PageQuery) -> Query<'a> {
    let rows = rows.order(events::leaf_index.asc());
    let rows = match query.filter.start_leaf_index {
        Some(start) => rows.filter(events::leaf_index.ge(start)),
        None => rows,
    };
    match query.log_size {
        Some(size) => rows.filter(events::leaf_index.lt(size)),
        None => rows,
    }
}

fn in_time_range<'a>(rows: Query<'a>, query: &PageQuery) -> Query<'a> {
    let rows = match query.order {
        Order::NewestFirst => rows.order(events::event_id.desc()),
        _ => rows.order(events::event_id.asc()),
    };
    let rows = match query.filter.start_millis {
        Some(start) => rows.filter(events::event_id.ge(TimeId::lower_bound(start))),
        None => rows,
    };
    let rows = match query.filter.end_millis {
        Some(end) => rows.filter(events::event_id.lt(TimeId::lower_bound(end))),
        None => rows,
    };
    match query.log_size {
        // An expression, so that the planner does not walk the log's index and sort.
        Some(size) => rows.filter(sql::<BigInt>("leaf_index + 0").lt(size)),
        None => rows,
    }
}

/// The conditions that the driving index does not settle. Columns with an index of their own stand in expressions, so
/// that no planner takes that index instead: the bound on inspection counts the rows of the driving one.
fn residual<'a>(query: &'a PageQuery) -> Vec<Condition<'a>> {
    let (filter, driver) = (&query.filter, driver(query));
    let mut conditions: Vec<Condition<'a>> = Vec::new();
    if driver != Driver::Project {
        conditions.extend(of_project(query));
    }
    if driver != Driver::Resource && !filter.resource_ids.is_empty() {
        let resource_id = events::resource_id.assume_not_null().concat("");
        conditions.push(Box::new(resource_id.eq_any(&filter.resource_ids)));
    }
    if driver != Driver::Actor && !filter.actor_ids.is_empty() {
        let actor_id = events::actor_id.assume_not_null().concat("");
        conditions.push(Box::new(actor_id.eq_any(&filter.actor_ids)));
    }
    if driver != Driver::ResourceType && !filter.resource_types.is_empty() {
        conditions.push(Box::new(events::resource_type.concat("").eq_any(&filter.resource_types)));
    }
    if !filter.action_types.is_empty() {
        let words = filter.action_types.iter().map(|action| action.as_str());
        conditions.push(Box::new(events::action_type.eq_any(words.collect::<Vec<_>>())));
    }
    if !filter.actor_types.is_empty() {
        let words = filter.actor_types.iter().map(|kind| kind.as_str());
        conditions.push(Box::new(events::actor_type.assume_not_null().eq_any(words.collect::<Vec<_>>())));
    }
    match driver {
        Driver::Log => conditions.extend(of_time(query)),
        _ => conditions.extend(of_log_start(query)),
    }
    conditions
}

/// The scope's project, the filter's projects, or the tenant itself: all that are named must hold.
fn of_project(query: &PageQuery) -> Vec<Condition<'_>> {
    let mut conditions: Vec<Condition<'_>> = Vec::new();
    let project_id = || events::project_id.assume_not_null().concat("");
    if let Some(project) = query.scope.project() {
        conditions.push(Box::new(project_id().eq(project)));
    }
    if !query.filter.project_ids.is_empty() {
        conditions.push(Box::new(project_id().eq_any(&query.filter.project_ids)));
    }
    if query.filter.tenant_only {
        conditions.push(Box::new(events::project_id.is_null()));
    }
    conditions
}

fn of_time(query: &PageQuery) -> Vec<Condition<'_>> {
    let mut conditions: Vec<Condition<'_>> = Vec::new();
    if let Some(start) = query.filter.start_millis {
        conditions.push(Box::new(events::event_id.concat("").ge(TimeId::lower_bound(start))));
    }
    if let Some(end) = query.filter.end_millis {
        conditions.push(Box::new(events::event_id.concat("").lt(TimeId::lower_bound(end))));
    }
    conditions
}

fn of_log_start(query: &PageQuery) -> Option<Condition<'_>> {
    let start = query.filter.start_leaf_index?;
    Some(Box::new(sql::<BigInt>("leaf_index + 0").ge(start)))
}

/// Gives each event its notes, oldest first; of a log of `log_size` leaves only those that are in it.
fn attach_notes(
    connection: &mut Connection,
    tenant: &str,
    found: &mut [Event],
    log_size: Option<i64>,
) -> Result<(), StoreError> {
    if found.is_empty() {
        return Ok(());
    }
    let ids = found.iter().map(|event| event.name.id.to_string());
    let rows: Vec<NoteRow> = update_notes::table
        .filter(update_notes::tenant_id.eq(tenant).and(update_notes::event_id.eq_any(ids.collect::<Vec<_>>())))
        .filter(update_notes::leaf_index.lt(log_size.unwrap_or(i64::MAX)))
        .order(update_notes::leaf_index.asc())
        .select(NoteRow::as_select())
        .load(connection)?;
    let mut notes = HashMap::<TimeId, Vec<_>>::new();
    for row in rows {
        let (event_id, note) = row.into_note()?;
        notes.entry(event_id).or_default().push(note);
    }
    for event in found {
        event.notes = notes.remove(&event.name.id).unwrap_or_default();
    }
    Ok(())
}

fn to_i64(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
