//! Rows as the type `new_event` of the PostgreSQL schema.

use std::io::Write as _;

use diesel::{
    PgConnection, RunQueryDsl as _,
    pg::Pg,
    query_builder::QueryId,
    serialize::{self, IsNull, Output, ToSql, WriteTuple},
    sql_types::{Array, BigInt, Binary, Json, Nullable, SqlType, Text, Timestamptz},
};

use crate::store::{error::StoreError, rows::NewEvent, types::SqlUuid};

/// The SQL type. A connection must [learn it](learn) before it writes.
#[derive(QueryId, SqlType)]
#[diesel(postgres_type(name = "new_event"))]
pub(super) struct SqlNewEvent;

/// Has diesel learn the server's number for the type, which it keeps with the connection. Left to the first write, it would
/// take a connection that breaks meanwhile for a value that cannot be sent.
pub(super) fn learn(connection: &mut PgConnection) -> Result<(), StoreError> {
    let none: [NewEvent<'_>; 0] = [];
    let query = diesel::sql_query("SELECT cardinality($1)").bind::<Array<SqlNewEvent>, _>(&none[..]);
    query.execute(connection).map(drop).map_err(|error| StoreError::Unavailable(error.to_string()))
}

/// The types of its attributes.
type Attributes = (
    Text,
    SqlUuid,
    Text,
    BigInt,
    Timestamptz,
    Text,
    Text,
    Text,
    Text,
    Text,
    Text,
    Text,
    Text,
    Text,
    Text,
    Text,
    Json,
    Nullable<Json>,
    Json,
    Binary,
    Binary,
    Binary,
);

/// The names of its attributes, which are those of columns of `events`.
pub(super) const COLUMNS: &str = "tenant_id, event_id, project_id, leaf_index, record_time, action_type, resource_type, \
    resource_id, resource_name, actor_type, actor_id, actor_name, recorder_type, recorder_id, recorder_name, message, \
    changes, context, attributes, salt, body_commitment, leaf_hash";

/// JSON that is text already.
#[derive(Debug)]
struct JsonText<'a>(&'a str);

impl ToSql<Json, Pg> for JsonText<'_> {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        out.write_all(self.0.as_bytes())?;
        Ok(IsNull::No)
    }
}

impl ToSql<SqlNewEvent, Pg> for NewEvent<'_> {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        let attributes = (
            self.tenant_id,
            self.event_id,
            self.project_id,
            self.leaf_index,
            self.record_time,
            self.action_type,
            self.resource_type,
            self.resource_id,
            self.resource_name,
            self.actor_type,
            self.actor_id,
            self.actor_name,
            self.recorder_type,
            self.recorder_id,
            self.recorder_name,
            self.message,
            JsonText(&self.changes),
            self.context.as_deref().map(JsonText),
            JsonText(&self.attributes),
            self.salt,
            self.body_commitment,
            self.leaf_hash,
        );
        WriteTuple::<Attributes>::write_tuple(&attributes, &mut out.reborrow())
    }
}
