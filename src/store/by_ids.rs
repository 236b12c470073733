//! Finding events by their ids.

use diesel::{
    PgConnection, SqliteConnection,
    dsl::{AsSelect, SqlTypeOf},
    pg::Pg,
    prelude::*,
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    sql_types::{Array, Text},
};

use super::{
    conditions::EVENT_ROW_COLUMNS,
    conn::AnyConnection,
    error::StoreError,
    rows::EventRow,
    schema::events,
    types::{Id, SqlUuid},
};

/// How many ids one statement names: SQLite takes 32,766 values at most.
pub(super) const IDS_AT_ONCE: usize = 4096;

/// The events of a tenant that have these ids, each once, in any order.
pub(super) fn events(connection: &mut AnyConnection, tenant: &str, ids: &[Id]) -> Result<Vec<EventRow>, StoreError> {
    // Many notes may be on one event, which is to be read once.
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    let mut found = Vec::new();
    for ids in ids.chunks(IDS_AT_ONCE) {
        found.extend(match connection {
            AnyConnection::Sqlite(connection) => listed(connection, tenant, ids)?,
            AnyConnection::Postgres(connection) => one_by_one(connection, tenant, ids)?,
        });
    }
    Ok(found)
}

fn listed(connection: &mut SqliteConnection, tenant: &str, ids: &[Id]) -> QueryResult<Vec<EventRow>> {
    let of_tenant = events::table.filter(events::tenant_id.eq(tenant));
    of_tenant.filter(events::event_id.eq_any(ids)).select(EventRow::as_select()).load(connection)
}

/// `ids` in order.
fn one_by_one(connection: &mut PgConnection, tenant: &str, ids: &[Id]) -> QueryResult<Vec<EventRow>> {
    let (Some(&first), Some(&last)) = (ids.first(), ids.last()) else { return Ok(Vec::new()) };
    OneByOne { tenant, ids, first, last }.load(connection)
}

/// Has PostgreSQL look for each id by itself. Asked for a list of them, it looks in all months; told the first and the last as well,
/// by which it can tell the months, it may read all that the tenant has in between, because it takes that for less.
struct OneByOne<'a> {
    tenant: &'a str,
    ids: &'a [Id],
    first: Id,
    last: Id,
}

impl QueryFragment<Pg> for OneByOne<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT ");
        out.push_sql(&EVENT_ROW_COLUMNS);
        out.push_sql(" FROM unnest(");
        out.push_bind_param::<Array<SqlUuid>, _>(self.ids)?;
        // The limit keeps a planner from making another join of it.
        out.push_sql(") AS wanted (id) CROSS JOIN LATERAL (SELECT * FROM events WHERE tenant_id = ");
        out.push_bind_param::<Text, _>(self.tenant)?;
        out.push_sql(" AND event_id = wanted.id AND event_id BETWEEN ");
        out.push_bind_param::<SqlUuid, _>(&self.first)?;
        out.push_sql(" AND ");
        out.push_bind_param::<SqlUuid, _>(&self.last)?;
        out.push_sql(" LIMIT 1) AS events");
        Ok(())
    }
}

impl QueryId for OneByOne<'_> {
    type QueryId = OneByOne<'static>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for OneByOne<'_> {
    type SqlType = SqlTypeOf<AsSelect<EventRow, Pg>>;
}

impl RunQueryDsl<PgConnection> for OneByOne<'_> {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use diesel::{Connection as _, SqliteConnection};

    use super::{AnyConnection, Id, events};
    use crate::store::migrate;

    #[test]
    fn more_ids_are_looked_up_than_a_statement_of_sqlite_takes() {
        let mut connection = AnyConnection::Sqlite(SqliteConnection::establish(":memory:").unwrap());
        migrate::run(&mut connection, Duration::ZERO).unwrap();
        let ids: Vec<Id> = (0..40_000).map(Id::lower_bound).collect();
        assert!(events(&mut connection, "t", &ids).unwrap().is_empty());
    }
}
