//! Writing on PostgreSQL: in as few round trips as can be.
//!
//! A small batch is one statement, which is its own transaction. A large one goes through COPY, which takes rows faster
//! and three round trips more. Nobody holds a head while it copies: the server waits without end for a client that freezes in the
//! middle of COPY, and everybody else would wait with it. Who waits for its rows ends it (`conn::postgres::end_frozen`).

use std::borrow::Cow;

use chrono::NaiveDateTime;
use diesel::{
    OptionalExtension as _, PgConnection, QueryResult, RunQueryDsl,
    connection::{AnsiTransactionManager, TransactionManager as _},
    pg::Pg,
    prelude::ExecuteCopyFromDsl as _,
    query_builder::{AstPass, QueryFragment, QueryId},
    sql_types::{Array, BigInt, Binary, Nullable, Text, Timestamptz},
};

use crate::store::{
    rows::NewEvent,
    schema::{events, update_notes},
    types::{Id, SqlUuid},
};

use super::{
    Rows,
    advance_heads::{AdvanceFreeHeads, AdvanceHeads},
    plan::Move,
    transaction::Failed,
};

/// From how many events on COPY is faster than one statement.
const COPY_FROM: usize = 150;

/// Moves the heads, and stores the tiles and the events, as a transaction of its own.
pub(super) fn write_at_once(
    connection: &mut PgConnection,
    moves: &[Move<'_>],
    events: Vec<NewEvent<'_>>,
) -> Result<(), Failed> {
    if events.len() >= COPY_FROM {
        return copy(connection, moves, events);
    }
    let stored = InsertEvents::new(&events, moves).execute(connection);
    stored.map(drop).map_err(|error| committing(connection, error))
}

/// Moves the heads, and stores the tiles and the rows, inside a transaction.
pub(super) fn write(connection: &mut PgConnection, moves: &[Move<'_>], rows: Rows<'_>) -> Result<(), Failed> {
    if rows.events.is_empty() {
        AdvanceHeads::new(moves).execute(connection)?;
    } else {
        InsertEvents::new(&rows.events, moves).execute(connection)?;
    }
    if !rows.notes.is_empty() {
        diesel::insert_into(update_notes::table).values(rows.notes).execute(connection)?;
    }
    Ok(())
}

/// The rows first, the heads last: they are held only for as long as the commit takes.
fn copy(connection: &mut PgConnection, moves: &[Move<'_>], events: Vec<NewEvent<'_>>) -> Result<(), Failed> {
    AnsiTransactionManager::begin_transaction(connection)?;
    let copied = diesel::copy_from(events::table).from_insertable(events).execute(connection);
    let written = copied.map_err(Failed::from).and_then(|_| advance_free_heads(connection, moves));
    if let Err(failed) = written {
        // What cannot be rolled back was not committed either, and the connection is not used again.
        let _ = AnsiTransactionManager::rollback_transaction(connection);
        return Err(failed);
    }
    AnsiTransactionManager::commit_transaction(connection).map_err(|error| committing(connection, error))
}

/// Everywhere else a head is taken before the rows. Who waited for one here, with rows stored already, could be waited for
/// by its holder on account of a row. And nothing is lost by not waiting: a head that is held is about to move.
fn advance_free_heads(connection: &mut PgConnection, moves: &[Move<'_>]) -> Result<(), Failed> {
    let advanced: Option<bool> = AdvanceFreeHeads::new(moves).get_result(connection).optional()?;
    advanced.map(drop).ok_or_else(|| Failed::Conflict("a head is held by somebody else".to_owned()))
}

fn committing(connection: &mut PgConnection, error: diesel::result::Error) -> Failed {
    Failed::committing(error, AnsiTransactionManager::is_broken_transaction_manager(connection))
}

/// `INSERT INTO events SELECT … FROM unnest(…) WHERE (SELECT advance_heads(…))`: rows as arrays, one for each column, so
/// that the statement is the same for any number of rows and is planned once.
struct InsertEvents<'a> {
    heads: AdvanceHeads<'a>,
    record_time: NaiveDateTime,
    tenant_id: Vec<&'a str>,
    event_id: Vec<Id>,
    project_id: Vec<&'a str>,
    leaf_index: Vec<i64>,
    action_type: Vec<&'a str>,
    resource_type: Vec<&'a str>,
    resource_id: Vec<&'a str>,
    resource_name: Vec<&'a str>,
    actor_type: Vec<&'a str>,
    actor_id: Vec<&'a str>,
    actor_name: Vec<&'a str>,
    recorder_type: Vec<&'a str>,
    recorder_id: Vec<&'a str>,
    recorder_name: Vec<&'a str>,
    message: Vec<&'a str>,
    changes: Vec<&'a str>,
    context: Vec<Option<&'a str>>,
    attributes: Vec<&'a str>,
    salt: Vec<&'a [u8]>,
    body_commitment: Vec<&'a [u8]>,
    leaf_hash: Vec<&'a [u8]>,
}

impl<'a> InsertEvents<'a> {
    /// All events of a batch have one record time.
    fn new(events: &'a [NewEvent<'a>], moves: &'a [Move<'a>]) -> Self {
        fn column<'e, T>(events: &'e [NewEvent<'e>], value: impl Fn(&'e NewEvent<'e>) -> T) -> Vec<T> {
            events.iter().map(value).collect()
        }
        Self {
            heads: AdvanceHeads::new(moves),
            record_time: events.first().map(|event| event.record_time).unwrap_or_default(),
            tenant_id: column(events, |event| event.tenant_id),
            event_id: column(events, |event| event.event_id),
            project_id: column(events, |event| event.project_id),
            leaf_index: column(events, |event| event.leaf_index),
            action_type: column(events, |event| event.action_type),
            resource_type: column(events, |event| event.resource_type),
            resource_id: column(events, |event| event.resource_id),
            resource_name: column(events, |event| event.resource_name),
            actor_type: column(events, |event| event.actor_type),
            actor_id: column(events, |event| event.actor_id),
            actor_name: column(events, |event| event.actor_name),
            recorder_type: column(events, |event| event.recorder_type),
            recorder_id: column(events, |event| event.recorder_id),
            recorder_name: column(events, |event| event.recorder_name),
            message: column(events, |event| event.message),
            changes: column(events, |event| Cow::as_ref(&event.changes)),
            context: column(events, |event| event.context.as_deref()),
            attributes: column(events, |event| Cow::as_ref(&event.attributes)),
            salt: column(events, |event| event.salt),
            body_commitment: column(events, |event| event.body_commitment),
            leaf_hash: column(events, |event| event.leaf_hash),
        }
    }

    fn texts(&self) -> [&Vec<&'a str>; 15] {
        [
            &self.tenant_id,
            &self.project_id,
            &self.action_type,
            &self.resource_type,
            &self.resource_id,
            &self.resource_name,
            &self.actor_type,
            &self.actor_id,
            &self.actor_name,
            &self.recorder_type,
            &self.recorder_id,
            &self.recorder_name,
            &self.message,
            &self.changes,
            &self.attributes,
        ]
    }
}

impl QueryFragment<Pg> for InsertEvents<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "INSERT INTO events (tenant_id, project_id, action_type, resource_type, resource_id, resource_name, \
             actor_type, actor_id, actor_name, recorder_type, recorder_id, recorder_name, message, changes, attributes, \
             context, event_id, leaf_index, salt, body_commitment, leaf_hash, record_time) \
             SELECT t1, t2, t3, t4, t5, t6, t7, t8, t9, t10, t11, t12, t13, t14::json, t15::json, t16::json, \
             u, l, b1, b2, b3, ",
        );
        out.push_bind_param::<Timestamptz, _>(&self.record_time)?;
        out.push_sql(" FROM unnest(");
        for texts in self.texts() {
            out.push_bind_param::<Array<Text>, Vec<&str>>(texts)?;
            out.push_sql(", ");
        }
        out.push_bind_param::<Array<Nullable<Text>>, _>(&self.context)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<SqlUuid>, _>(&self.event_id)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<BigInt>, _>(&self.leaf_index)?;
        for bytes in [&self.salt, &self.body_commitment, &self.leaf_hash] {
            out.push_sql(", ");
            out.push_bind_param::<Array<Binary>, Vec<&[u8]>>(bytes)?;
        }
        out.push_sql(
            ") AS events(t1, t2, t3, t4, t5, t6, t7, t8, t9, t10, t11, t12, t13, t14, t15, t16, u, l, b1, b2, b3) \
             WHERE (",
        );
        self.heads.walk_ast(out.reborrow())?;
        out.push_sql(")");
        Ok(())
    }
}

impl QueryId for InsertEvents<'_> {
    type QueryId = InsertEvents<'static>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl RunQueryDsl<PgConnection> for InsertEvents<'_> {}
