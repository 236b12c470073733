//! On PostgreSQL the events are kept by month; the months are made before they begin.

use diesel::{RunQueryDsl as _, sql_types::Timestamptz};

use crate::model::Timestamp;

use super::{
    conn::{Access, AnyConnection, Target},
    error::StoreError,
};

/// How far ahead the months are made: a service that cannot make any for two months still records.
const AHEAD: chrono::Days = chrono::Days::new(92);

/// Makes the months up to some time after `now`, if the store keeps any. Safe to call from everywhere at any time.
pub(super) fn make(target: &Target, now: Timestamp) -> Result<(), StoreError> {
    let AnyConnection::Postgres(mut connection) = target.connect(Access::Append)? else { return Ok(()) };
    let until = now.checked_add_days(AHEAD).unwrap_or(now);
    diesel::sql_query("SELECT make_event_partitions($1)").bind::<Timestamptz, _>(until).execute(&mut connection)?;
    Ok(())
}
