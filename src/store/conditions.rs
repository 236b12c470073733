//! Conditions that diesel has no words for, and the columns of an event, for which it has too many.

use std::sync::LazyLock;

use diesel::{
    AppearsOnTable, Expression, QueryDsl as _, QueryResult, SelectableExpression, SelectableHelper as _,
    dsl::{AsSelect, SqlTypeOf},
    expression::{ValidGrouping, is_aggregate},
    pg::Pg,
    query_builder::{AstPass, QueryFragment, QueryId},
    sql_types::{BigInt, Bool, Text},
};

use super::{
    conn::MultiBackend,
    rows::EventRow,
    schema::events,
    types::{Id, SqlUuid},
};

/// `(column, event_id) < ($1, $2)`, or `>=`.
#[derive(Debug)]
pub(super) struct KeyBound {
    pub(super) column: &'static str,
    pub(super) operator: &'static str,
    pub(super) key: String,
    pub(super) id: Id,
}

impl QueryFragment<MultiBackend> for KeyBound {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, MultiBackend>) -> QueryResult<()> {
        out.push_sql("(");
        out.push_identifier(self.column)?;
        out.push_sql(", event_id) ");
        out.push_sql(self.operator);
        out.push_sql(" (");
        out.push_bind_param::<Text, _>(&self.key)?;
        out.push_sql(", ");
        out.push_bind_param::<SqlUuid, _>(&self.id)?;
        out.push_sql(")");
        Ok(())
    }
}

/// `leaf_index + 0 < $1`, or `>=`: an expression, so that no planner walks the log's index and sorts.
#[derive(Debug)]
pub(super) struct LeafBound {
    operator: &'static str,
    index: i64,
}

impl LeafBound {
    pub(super) fn below(index: i64) -> Self {
        Self { operator: "<", index }
    }

    pub(super) fn from(index: i64) -> Self {
        Self { operator: ">=", index }
    }
}

impl QueryFragment<MultiBackend> for LeafBound {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, MultiBackend>) -> QueryResult<()> {
        out.push_sql("leaf_index + 0 ");
        out.push_sql(self.operator);
        out.push_sql(" ");
        out.push_bind_param::<BigInt, _>(&self.index)
    }
}

/// Whether there are notes on an event of this tenant. It is asked once whether the tenant has notes at all, and for each
/// event only if so. Both by a subquery for one value: a planner may answer `EXISTS` by reading the notes of everybody,
/// where it expects to find one soon, and the tenant may have none. The second in words that fit one index alone: without
/// statistics a planner takes any that begins with the tenant, and reads all notes of it for each event.
#[derive(Debug)]
pub(super) struct HasNotes(String);

impl HasNotes {
    pub(super) fn of(tenant: &str) -> Self {
        Self(tenant.to_owned())
    }
}

impl QueryFragment<MultiBackend> for HasNotes {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, MultiBackend>) -> QueryResult<()> {
        out.push_sql("CASE WHEN (SELECT 1 FROM update_notes WHERE tenant_id = ");
        out.push_bind_param::<Text, _>(&self.0)?;
        out.push_sql(
            " ORDER BY leaf_index LIMIT 1) IS NOT NULL THEN (SELECT 1 FROM update_notes WHERE update_notes.tenant_id = events.tenant_id \
             AND (update_notes.event_id, note_id) >= (events.event_id, ",
        );
        out.push_bind_param::<SqlUuid, _>(&Id::MIN)?;
        out.push_sql(") AND (update_notes.event_id, note_id) <= (events.event_id, ");
        out.push_bind_param::<SqlUuid, _>(&Id::MAX)?;
        out.push_sql(") ORDER BY update_notes.event_id, note_id LIMIT 1) IS NOT NULL ELSE FALSE END");
        Ok(())
    }
}

/// The columns of an [`EventRow`], as diesel names them, which would put each name in quotes anew for every statement.
#[derive(Debug)]
pub(super) struct EventRowColumns;

/// Both stores take a name in double quotes.
pub(super) static EVENT_ROW_COLUMNS: LazyLock<String> = LazyLock::new(|| {
    let select = diesel::debug_query::<Pg, _>(&events::table.select(EventRow::as_select())).to_string();
    let columns = select.strip_prefix("SELECT ").and_then(|rest| rest.split_once(" FROM "));
    columns.expect("diesel writes SELECT, the columns and FROM").0.to_owned()
});

impl QueryFragment<MultiBackend> for EventRowColumns {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, MultiBackend>) -> QueryResult<()> {
        out.push_sql(&EVENT_ROW_COLUMNS);
        Ok(())
    }
}

/// What diesel wants to know of an expression on `events`. The statement's text is its identity: columns and operators vary.
macro_rules! expression_on_events {
    ($($name:ident: $sql_type:ty),+) => {$(
        impl Expression for $name {
            type SqlType = $sql_type;
        }
        impl SelectableExpression<events::table> for $name {}
        impl AppearsOnTable<events::table> for $name {}
        impl<G> ValidGrouping<G> for $name {
            type IsAggregate = is_aggregate::No;
        }
        impl QueryId for $name {
            type QueryId = ();
            const HAS_STATIC_QUERY_ID: bool = false;
        }
    )+};
}

expression_on_events!(
    KeyBound: Bool,
    LeafBound: Bool,
    HasNotes: Bool,
    EventRowColumns: SqlTypeOf<AsSelect<EventRow, MultiBackend>>
);
