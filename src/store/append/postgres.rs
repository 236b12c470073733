//! Writing on PostgreSQL: in as few round trips as can be.
//!
//! A small batch is one statement, which is its own transaction. A large one goes through COPY, which takes rows faster
//! and three round trips more. Nobody holds a head while it copies: the server waits without end for a client that freezes in the
//! middle of COPY, and everybody else would wait with it. Who waits for its rows ends it (`conn::postgres::end_frozen`).

use diesel::{
    OptionalExtension as _, PgConnection, QueryResult, RunQueryDsl,
    connection::{AnsiTransactionManager, TransactionManager as _},
    pg::Pg,
    prelude::ExecuteCopyFromDsl as _,
    query_builder::{AstPass, QueryFragment, QueryId},
    sql_types::Array,
};

use crate::store::{
    rows::NewEvent,
    schema::{events, update_notes},
};

use super::{
    Rows,
    advance_heads::{AdvanceFreeHeads, AdvanceHeads},
    new_event::{COLUMNS, SqlNewEvent},
    plan::Move,
    transaction::Failed,
};

/// From how many events on COPY is faster than one statement.
const COPY_FROM: usize = 150;
/// How many notes one statement stores: each is twelve values, and the server takes 65,535.
const NOTES_AT_ONCE: usize = 1024;

/// Moves the heads, and stores the tiles and the events, as a transaction of its own.
pub(super) fn write_at_once(
    connection: &mut PgConnection,
    moves: &[Move<'_>],
    events: Vec<NewEvent<'_>>,
) -> Result<(), Failed> {
    if events.len() >= COPY_FROM {
        return copy(connection, moves, events);
    }
    let stored = InsertEvents { events: &events, heads: AdvanceHeads::new(moves) }.execute(connection);
    stored.map(drop).map_err(|error| committing(connection, error))
}

/// Moves the heads, and stores the tiles and the rows, inside a transaction.
pub(super) fn write(connection: &mut PgConnection, moves: &[Move<'_>], rows: Rows<'_>) -> Result<(), Failed> {
    if rows.events.is_empty() {
        AdvanceHeads::new(moves).execute(connection)?;
    } else {
        InsertEvents { events: &rows.events, heads: AdvanceHeads::new(moves) }.execute(connection)?;
    }
    for notes in rows.notes.chunks(NOTES_AT_ONCE) {
        diesel::insert_into(update_notes::table).values(notes).execute(connection)?;
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

/// `INSERT INTO events SELECT … FROM unnest(…) WHERE (SELECT advance_heads(…))`: rows as an array, so that the statement is
/// the same for any number of them and is planned once.
struct InsertEvents<'a> {
    events: &'a [NewEvent<'a>],
    heads: AdvanceHeads<'a>,
}

impl QueryFragment<Pg> for InsertEvents<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("INSERT INTO events (");
        out.push_sql(COLUMNS);
        out.push_sql(") SELECT ");
        // By name, so that the type's attributes and the table's columns cannot be taken for one another.
        out.push_sql(COLUMNS);
        out.push_sql(" FROM unnest(");
        out.push_bind_param::<Array<SqlNewEvent>, _>(self.events)?;
        out.push_sql(") WHERE (");
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
