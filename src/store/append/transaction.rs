//! Transactions, and what is known of the log when one fails.

use diesel::{
    QueryResult,
    connection::{AnsiTransactionManager, TransactionManager as _},
    result::{DatabaseErrorKind, Error as DieselError},
};

use crate::store::{conn::AnyConnection, error::StoreError};

/// Why a batch was not written.
#[derive(Debug)]
pub(super) enum Failed {
    /// Nothing was stored: a head has moved, or something else has happened meanwhile. Who looks first may succeed.
    Conflict(String),
    /// Nothing was stored: an id is taken. Who looks first may succeed, unless it is taken by what cannot be seen.
    Taken(String),
    /// Nothing was stored: PostgreSQL has no partition for a row. Who makes the months first may succeed.
    NoMonth(String),
    /// Anything else.
    Store(StoreError),
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<DieselError> for Failed {
    fn from(error: DieselError) -> Self {
        use DatabaseErrorKind::{CheckViolation, SerializationFailure, UniqueViolation};
        match &error {
            DieselError::DatabaseError(SerializationFailure, _) => Self::Conflict(error.to_string()),
            DieselError::DatabaseError(UniqueViolation, _) => Self::Taken(error.to_string()),
            // As of a CHECK, which would be named.
            DieselError::DatabaseError(CheckViolation, of)
                if of.table_name().is_some() && of.constraint_name().is_none() =>
            {
                Self::NoMonth(error.to_string())
            }
            _ => Self::Store(error.into()),
        }
    }
}

impl Failed {
    /// What it comes to when nothing more is tried. Looking has not helped where an id is taken: it is not another writer that is
    /// in the way then, but what is stored.
    pub(super) fn into_error(self) -> StoreError {
        match self {
            Self::Conflict(error) | Self::NoMonth(error) => StoreError::Unavailable(error),
            Self::Taken(error) => StoreError::Refused(error),
            Self::Store(error) => error,
        }
    }

    /// What it means when a statement failed that may have committed. A server that refused it says so, and can be asked
    /// more; one that went away says nothing.
    pub(super) fn committing(error: DieselError, is_broken: bool) -> Self {
        match Self::from(error) {
            Self::Store(error) if is_broken => Self::Store(StoreError::OutcomeUnknown(error.to_string())),
            failed => failed,
        }
    }
}

/// Runs `work` in a transaction. Only the commit can leave it open what has happened.
pub(super) fn transaction<T>(
    connection: &mut AnyConnection,
    work: impl FnOnce(&mut AnyConnection) -> Result<T, Failed>,
) -> Result<T, Failed> {
    begin(connection)?;
    match work(connection) {
        Ok(value) => commit(connection).map(|()| value),
        Err(failed) => {
            // What cannot be rolled back was not committed either, and the connection is not used again.
            let _ = rollback(connection);
            Err(failed)
        }
    }
}

/// Immediate on SQLite: a transaction that began by reading could not write if another one has written since.
fn begin(connection: &mut AnyConnection) -> QueryResult<()> {
    match connection {
        AnyConnection::Sqlite(connection) => {
            AnsiTransactionManager::begin_transaction_sql(connection, "BEGIN IMMEDIATE")
        }
        AnyConnection::Postgres(connection) => AnsiTransactionManager::begin_transaction(connection),
    }
}

fn commit(connection: &mut AnyConnection) -> Result<(), Failed> {
    let committed = match connection {
        AnyConnection::Sqlite(connection) => AnsiTransactionManager::commit_transaction(connection),
        AnyConnection::Postgres(connection) => AnsiTransactionManager::commit_transaction(connection),
    };
    let unknown = match connection {
        // It may have been written and not flushed, or the other way around.
        AnyConnection::Sqlite(_) => true,
        AnyConnection::Postgres(_) => connection.is_broken(),
    };
    committed.map_err(|error| Failed::committing(error, unknown))
}

fn rollback(connection: &mut AnyConnection) -> QueryResult<()> {
    match connection {
        AnyConnection::Sqlite(connection) => AnsiTransactionManager::rollback_transaction(connection),
        AnyConnection::Postgres(connection) => AnsiTransactionManager::rollback_transaction(connection),
    }
}
