//! Connections: which database a URL names, and how each connection to it is set up.

pub(super) mod postgres;
mod sqlite;

use std::{
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use diesel::{
    Connection as _, PgConnection, SqliteConnection,
    connection::{AnsiTransactionManager, InstrumentationEvent, SimpleConnection as _, TransactionManager as _},
};

use super::error::StoreError;

/// A connection to either store. Queries that both understand run on it as they are; for the others, match.
#[derive(diesel::MultiConnection)]
pub(super) enum AnyConnection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// Where the database is and how to connect to it.
#[derive(Clone, Debug)]
pub(super) struct Target {
    place: Place,
    /// How long a statement may take, or wait for a lock.
    timeout: Duration,
    statements: Arc<AtomicU64>,
}

#[derive(Clone, Debug)]
enum Place {
    Sqlite(sqlite::File),
    Postgres(postgres::Server),
}

/// What a connection may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Migrate: make what is not there, and take as long as it takes.
    Migrate,
    /// Append.
    Append,
    /// Read only.
    Read,
    /// Read only, in a process of its own that changes nothing about the database's files, nor needs the right to.
    Audit,
}

impl Target {
    /// Reads a database URL: `sqlite://FILE`, relative to the working directory, `sqlite:///ABSOLUTE/FILE`, or
    /// `postgres://…` as libpq reads it.
    pub(super) fn parse(url: &str, timeout: Duration) -> Result<Self, StoreError> {
        let place = match url.split_once("://") {
            Some(("sqlite", path)) => Place::Sqlite(sqlite::File::parse(path)?),
            Some(("postgres" | "postgresql", _)) => Place::Postgres(postgres::Server::new(url)),
            _ => {
                return Err(StoreError::Unavailable(
                    "the database URL must be sqlite://FILE or postgres://…".to_owned(),
                ));
            }
        };
        Ok(Self { place, timeout, statements: Arc::default() })
    }

    /// Whether the database is on a server, which may come later than this process, and which others share.
    pub(super) fn is_server(&self) -> bool {
        matches!(self.place, Place::Postgres(_))
    }

    /// How long a statement may take.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// How many statements all connections to this target have run.
    pub(super) fn statements(&self) -> u64 {
        self.statements.load(Ordering::Relaxed)
    }

    /// Opens a connection. Not diesel's own choice by URL: that one would make a SQLite file named like the URL of a
    /// PostgreSQL server that is away.
    pub(super) fn connect(&self, access: Access) -> Result<AnyConnection, StoreError> {
        self.connect_watched(access, Arc::default())
    }

    /// The same, and counts in `prepared` the statements that the connection keeps.
    fn connect_watched(&self, access: Access, prepared: Arc<AtomicUsize>) -> Result<AnyConnection, StoreError> {
        let mut connection = self.connect_uncounted(access)?;
        let statements = Arc::clone(&self.statements);
        connection.set_instrumentation(move |event: InstrumentationEvent<'_>| match event {
            InstrumentationEvent::StartQuery { .. } => drop(statements.fetch_add(1, Ordering::Relaxed)),
            InstrumentationEvent::CacheQuery { .. } => drop(prepared.fetch_add(1, Ordering::Relaxed)),
            _ => (),
        });
        Ok(connection)
    }

    /// For what no call asks for.
    pub(super) fn connect_uncounted(&self, access: Access) -> Result<AnyConnection, StoreError> {
        let mut connection = match &self.place {
            Place::Sqlite(file) => AnyConnection::Sqlite(file.connect(access)?),
            Place::Postgres(server) => AnyConnection::Postgres(server.connect(access)?),
        };
        connection.batch_execute(&self.set_up(access))?;
        Ok(connection)
    }

    fn set_up(&self, access: Access) -> String {
        match &self.place {
            Place::Sqlite(_) => sqlite::set_up(access, self.timeout),
            Place::Postgres(_) => postgres::set_up(access, self.timeout),
        }
    }

    /// Remembers which database stands at the URL now, for [`Self::require_in_place`].
    pub(super) fn pin(&mut self) -> Result<(), StoreError> {
        match &mut self.place {
            Place::Sqlite(file) => file.pin(),
            Place::Postgres(_) => Ok(()),
        }
    }

    /// The same for the files beside that of a SQLite database, which are there once connections are open.
    pub(super) fn pin_beside(&self) -> Result<(), StoreError> {
        match &self.place {
            Place::Sqlite(file) => file.pin_beside(),
            Place::Postgres(_) => Ok(()),
        }
    }

    /// Refuses a SQLite file that is not the one that was opened first, and others beside it than those then.
    pub(super) fn require_in_place(&self) -> Result<(), StoreError> {
        match &self.place {
            Place::Sqlite(file) => file.require_in_place(),
            Place::Postgres(_) => Ok(()),
        }
    }
}

impl AnyConnection {
    /// Whether the other end is there. To be asked after a failure: diesel takes no notice of a connection that breaks while
    /// it prepares a query, but does when this breaks.
    pub(super) fn answers(&mut self) -> bool {
        self.batch_execute("SELECT 1").is_ok()
    }

    /// Whether the connection itself has failed, so that nothing more can be asked through it.
    pub(super) fn is_broken(&mut self) -> bool {
        match self {
            Self::Sqlite(_) => false,
            Self::Postgres(connection) => AnsiTransactionManager::is_broken_transaction_manager(connection),
        }
    }
}

/// How many statements a read connection keeps before another one takes its place. Each filter is a statement of its own, diesel
/// forgets none, and a server keeps the plan of each over all months: some 170 KiB with three years of them.
const MOST_PREPARED: usize = 128;

/// A connection of the read pool.
pub(super) struct Reader {
    connection: AnyConnection,
    prepared: Arc<AtomicUsize>,
}

impl Deref for Reader {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        &self.connection
    }
}

impl DerefMut for Reader {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        &mut self.connection
    }
}

/// A pool's way to make and check read connections.
#[derive(Debug)]
pub(super) struct Readers(pub(super) Target);

impl diesel::r2d2::ManageConnection for Readers {
    type Connection = Reader;
    type Error = StoreError;

    fn connect(&self) -> Result<Self::Connection, Self::Error> {
        self.0.require_in_place()?;
        let prepared = Arc::default();
        let connection = self.0.connect_watched(Access::Read, Arc::clone(&prepared))?;
        // Again: where a file went meanwhile, SQLite has made another one for this connection alone.
        self.0.require_in_place()?;
        Ok(Reader { connection, prepared })
    }

    /// Not asked, as the pool is set up: a connection that broke while it was idle shows when it is used, and the read is then
    /// done once more; and a file that is gone shows before, where it is an error at once.
    fn is_valid(&self, _: &mut Self::Connection) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Also whether it has served its time.
    fn has_broken(&self, reader: &mut Self::Connection) -> bool {
        reader.is_broken() || reader.prepared.load(Ordering::Relaxed) > MOST_PREPARED
    }
}

/// Asks the database for a sign of life. One that takes no writes is dead for the service.
pub(super) fn ping(connection: &mut AnyConnection) -> Result<(), StoreError> {
    let question = match connection {
        AnyConnection::Sqlite(_) => "SELECT 1 FROM tree_heads LIMIT 1",
        AnyConnection::Postgres(_) => postgres::PING,
    };
    Ok(connection.batch_execute(question)?)
}
