//! Connections: which database the URL names, and how each connection to it is set up.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use diesel::{
    Connection as _, RunQueryDsl as _, SqliteConnection,
    connection::{InstrumentationEvent, SimpleConnection as _},
};

use super::error::StoreError;

/// A connection to the store.
pub(super) type Connection = SqliteConnection;
/// What SQL is written for.
pub(super) type Backend = diesel::sqlite::Sqlite;

const SCHEME: &str = "sqlite://";

/// Where the database is and how to connect to it.
#[derive(Clone, Debug)]
pub(super) struct Target {
    path: PathBuf,
    wait: Duration,
    statements: Arc<AtomicU64>,
    file: Option<FileIdentity>,
}

/// What a connection may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Make the file if it is not there, and write.
    Create,
    /// Write, to the file that is there.
    Write,
    /// Read only.
    Read,
}

impl Target {
    /// Reads a database URL: `sqlite://FILE`, relative to the working directory, or `sqlite:///ABSOLUTE/FILE`. A
    /// statement waits at most `wait` for a lock.
    pub(super) fn parse(url: &str, wait: Duration) -> Result<Self, StoreError> {
        let path = url.strip_prefix(SCHEME).filter(|path| !path.is_empty() && !path.contains(['?', '#', '%']));
        let path = path.ok_or_else(|| StoreError::Unavailable(format!("the database URL must be {SCHEME}FILE")))?;
        let path = std::path::absolute(path).map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(Self { path, wait, statements: Arc::default(), file: None })
    }

    /// How many statements all connections to this target have run.
    pub(super) fn statements(&self) -> u64 {
        self.statements.load(Ordering::Relaxed)
    }

    /// Opens a connection.
    pub(super) fn connect(&self, access: Access) -> Result<Connection, StoreError> {
        let mut connection = Connection::establish(&self.uri(access))
            .map_err(|error| StoreError::Unavailable(format!("cannot open {}: {error}", self.path.display())))?;
        connection.batch_execute(&self.pragmas(access))?;
        let statements = Arc::clone(&self.statements);
        connection.set_instrumentation(move |event: InstrumentationEvent<'_>| {
            if let InstrumentationEvent::StartQuery { .. } = event {
                statements.fetch_add(1, Ordering::Relaxed);
            }
        });
        Ok(connection)
    }

    /// Only the first connection may make the file: one that was lost must be missed, not replaced by an empty one.
    fn uri(&self, access: Access) -> String {
        let mode = if access == Access::Create { "rwc" } else { "rw" };
        let path = percent_encoding::percent_encode(self.path.as_os_str().as_encoded_bytes(), PATH);
        format!("file:{path}?mode={mode}")
    }

    /// `synchronous=FULL` because in WAL mode the default would lose acknowledged commits with the power.
    fn pragmas(&self, access: Access) -> String {
        let wait = self.wait.as_millis();
        let query_only = if access == Access::Read { "ON" } else { "OFF" };
        format!(
            "PRAGMA busy_timeout={wait}; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; \
             PRAGMA query_only={query_only};"
        )
    }

    /// Remembers which file stands at the path now, for [`Self::require_in_place`].
    pub(super) fn pin(&mut self) -> Result<(), StoreError> {
        self.file = Some(self.identity()?);
        Ok(())
    }

    /// Refuses a file that is not the one that was opened first: SQLite would go on writing to a file that was moved away,
    /// and what it acknowledged then would be lost.
    pub(super) fn require_in_place(&self) -> Result<(), StoreError> {
        match self.file == Some(self.identity()?) {
            true => Ok(()),
            false => {
                Err(StoreError::Unavailable(format!("{} was moved or replaced since the start", self.path.display())))
            }
        }
    }

    fn identity(&self) -> Result<FileIdentity, StoreError> {
        FileIdentity::of(&self.path)
            .map_err(|error| StoreError::Unavailable(format!("{}: {error}", self.path.display())))
    }
}

/// What stays as it is in the path of a SQLite URI.
const PATH: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');

/// Tells one file from another at the same path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileIdentity {
    device: u64,
    inode: u64,
}

impl FileIdentity {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

/// A pool's way to make and check read connections.
#[derive(Debug)]
pub(super) struct Readers(pub(super) Target);

impl diesel::r2d2::ManageConnection for Readers {
    type Connection = Connection;
    type Error = StoreError;

    fn connect(&self) -> Result<Self::Connection, Self::Error> {
        self.0.require_in_place()?;
        self.0.connect(Access::Read)
    }

    fn is_valid(&self, _: &mut Self::Connection) -> Result<(), Self::Error> {
        self.0.require_in_place()
    }

    fn has_broken(&self, _: &mut Self::Connection) -> bool {
        false
    }
}

/// Asks the database for a sign of life.
pub(super) fn ping(connection: &mut Connection) -> Result<(), StoreError> {
    diesel::sql_query("SELECT 1 FROM tree_heads LIMIT 1").execute(connection)?;
    Ok(())
}
