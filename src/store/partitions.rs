//! On PostgreSQL the events are kept by month; the months are made before they begin.

use diesel::{PgConnection, QueryResult, RunQueryDsl as _, define_sql_function, sql_types::Timestamptz};

use crate::model::Timestamp;

use super::{
    conn::{Access, AnyConnection, Target},
    error::StoreError,
};

/// How far ahead the months are made: a service that cannot make any for three months still records.
const AHEAD: chrono::Days = chrono::Days::new(92);

define_sql_function! {
    /// Makes the months up to a time, and tells how many it has made.
    fn make_event_partitions(until: Timestamptz) -> Integer;
}

/// Makes the months up to some time after `now`, if the store keeps any. Safe to call from everywhere at any time.
pub(super) fn make(target: &Target, now: Timestamp) -> Result<(), StoreError> {
    let AnyConnection::Postgres(mut connection) = target.connect(Access::Append)? else { return Ok(()) };
    Ok(make_on(&mut connection, now)?)
}

/// The same on a connection that is there.
pub(super) fn make_on(connection: &mut PgConnection, now: Timestamp) -> QueryResult<()> {
    let until = now.checked_add_days(AHEAD).unwrap_or(now);
    diesel::select(make_event_partitions(until)).execute(connection).map(drop)
}
