//! Epochs: what an operator acknowledges when a log went back.

use diesel::{prelude::*, sql_types::Bool};

use crate::{
    model::Timestamp,
    store::{
        conn::AnyConnection,
        error::StoreError,
        heads::{HEAD_COLUMNS, HeadRow},
        schema::{log_epochs, tree_heads},
    },
};

use super::transaction::Failed;

/// Who acknowledged it, why, and when.
pub(super) struct Acknowledged<'a> {
    pub(super) by: &'a str,
    pub(super) reason: &'a str,
    pub(super) time: Timestamp,
}

#[derive(Insertable)]
#[diesel(table_name = log_epochs)]
struct NewEpoch<'a> {
    tenant_id: &'a str,
    epoch: i32,
    tree_size: i64,
    root: Vec<u8>,
    begin_time: chrono::NaiveDateTime,
    acknowledged_by: &'a str,
    reason: &'a str,
}

/// Where a log stands, for who is about to begin an epoch of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochState {
    /// How many leaves it has.
    pub size: i64,
    /// Its epoch, from 1.
    pub epoch: i32,
    /// How many leaves it had when that epoch began, the acknowledgement among them; `None` for the first one.
    pub began_at: Option<i64>,
}

/// Reads where the log of `tenant` stands; `None` where there is none.
pub(super) fn state(connection: &mut AnyConnection, tenant: &str) -> Result<Option<EpochState>, StoreError> {
    let head: Option<HeadRow> = tree_heads::table.find(tenant).select(HEAD_COLUMNS).first(connection).optional()?;
    let Some(HeadRow { tree_size: size, epoch, .. }) = head else { return Ok(None) };
    let began_at =
        log_epochs::table.find((tenant, epoch)).select(log_epochs::tree_size).first(connection).optional()?;
    Ok(Some(EpochState { size, epoch, began_at }))
}

/// Whether the role may begin epochs: the one of `deploy/postgres-role.sql` may not. On SQLite whoever may write may.
pub(super) fn may_begin(connection: &mut AnyConnection) -> Result<bool, StoreError> {
    let AnyConnection::Postgres(connection) = connection else { return Ok(true) };
    let rights = diesel::dsl::sql::<Bool>(
        "has_column_privilege('tree_heads', 'epoch', 'UPDATE') AND has_table_privilege('log_epochs', 'INSERT')",
    );
    Ok(diesel::select(rights).get_result(connection)?)
}

/// Begins the next epoch at the head as it is, inside a transaction.
pub(super) fn begin(
    connection: &mut AnyConnection,
    tenant: &str,
    acknowledged: &Acknowledged<'_>,
) -> Result<i32, Failed> {
    // The update takes the lock, so that the head that is read behind it is the one that the epoch begins with.
    let next = diesel::update(tree_heads::table.find(tenant)).set(tree_heads::epoch.eq(tree_heads::epoch + 1));
    match connection {
        AnyConnection::Sqlite(connection) => next.execute(connection)?,
        AnyConnection::Postgres(connection) => next.execute(connection)?,
    };
    let head: HeadRow = tree_heads::table.find(tenant).select(HEAD_COLUMNS).first(connection)?;
    let epoch = NewEpoch {
        tenant_id: tenant,
        epoch: head.epoch,
        tree_size: head.tree_size,
        root: head.frontier()?.root().to_vec(),
        begin_time: acknowledged.time.naive_utc(),
        acknowledged_by: acknowledged.by,
        reason: acknowledged.reason,
    };
    insert(connection, &epoch)?;
    Ok(head.epoch)
}

fn insert(connection: &mut AnyConnection, epoch: &NewEpoch<'_>) -> Result<(), StoreError> {
    let insert = diesel::insert_into(log_epochs::table).values(epoch);
    match connection {
        AnyConnection::Sqlite(connection) => insert.execute(connection)?,
        AnyConnection::Postgres(connection) => insert.execute(connection)?,
    };
    Ok(())
}
