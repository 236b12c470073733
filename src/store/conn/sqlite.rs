//! SQLite: one file, and how a connection to it is set up.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use diesel::{Connection as _, ConnectionError, SqliteConnection};

use super::Access;
use crate::store::error::StoreError;

/// The database's file.
#[derive(Clone, Debug)]
pub(super) struct File {
    path: PathBuf,
    /// Which file stood at the path when it was pinned.
    pinned: Option<Identity>,
    /// The same of [`BESIDE`] it, from when connections are open that keep those where they are.
    beside: Arc<OnceLock<[(PathBuf, Identity); 2]>>,
}

/// What SQLite adds to the file's name for the files of its write-ahead log. They go when the last connection is closed.
const BESIDE: [&str; 2] = ["-wal", "-shm"];

/// Tells one file from another at the same path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

/// What stays as it is in the path of a SQLite URI.
const PATH: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');

/// The bits of a file's mode that let somebody write it.
const ANYBODY_WRITES: u32 = 0o222;

impl File {
    /// Reads what stands behind `sqlite://`.
    pub(super) fn parse(path: &str) -> Result<Self, StoreError> {
        if path.is_empty() || path.contains(['?', '#', '%']) {
            return Err(StoreError::Unavailable(
                "the database URL must be sqlite://FILE, without ?, # or %".to_owned(),
            ));
        }
        let path = std::path::absolute(path).map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(Self { path, pinned: None, beside: Arc::default() })
    }

    pub(super) fn connect(&self, access: Access) -> Result<SqliteConnection, StoreError> {
        SqliteConnection::establish(&self.uri(access)).map_err(|error| StoreError::Unavailable(self.explain(&error)))
    }

    fn explain(&self, error: &ConnectionError) -> String {
        let path = self.path.display();
        match self.path.try_exists() {
            Ok(false) => format!("there is no {path}: check the database's URL, or make it by `auditlog migrate`"),
            _ => format!("cannot open {path}: {error}"),
        }
    }

    /// Only the first connection may make the file: one that was lost must be missed, not replaced by an empty one.
    fn uri(&self, access: Access) -> String {
        let mode = match access {
            Access::Migrate => "rwc",
            Access::Append | Access::Read => "rw",
            Access::Audit if self.is_frozen() => "ro&immutable=1",
            Access::Audit => "ro",
        };
        let path = percent_encoding::percent_encode(self.path.as_os_str().as_encoded_bytes(), PATH);
        format!("file:{path}?mode={mode}")
    }

    /// Whether nobody may write the file, and nothing waits beside it to be written. SQLite may then leave out its locks, which
    /// take a file of their own: so a copy in a folder that is read-only can be read too.
    fn is_frozen(&self) -> bool {
        let [log, _] = BESIDE.map(|suffix| self.beside(suffix));
        let waits = fs::metadata(log).is_ok_and(|log| log.len() > 0);
        !waits && fs::metadata(&self.path).is_ok_and(|file| file.mode() & ANYBODY_WRITES == 0)
    }

    /// Remembers which file stands at the path now.
    pub(super) fn pin(&mut self) -> Result<(), StoreError> {
        self.pinned = Some(self.identity()?);
        Ok(())
    }

    /// Remembers which files stand beside it now. To be called once connections are open.
    pub(super) fn pin_beside(&self) -> Result<(), StoreError> {
        let [log, index] = BESIDE.map(|suffix| self.beside(suffix));
        let found = [(log.clone(), identity(&log)?), (index.clone(), identity(&index)?)];
        self.beside.get_or_init(|| found);
        Ok(())
    }

    /// Refuses files that are not those that were opened first: SQLite would go on writing to one that was moved away or
    /// deleted, and what it acknowledged then would be lost.
    pub(super) fn require_in_place(&self) -> Result<(), StoreError> {
        if self.pinned != Some(self.identity()?) {
            return Err(replaced(&self.path));
        }
        for (path, pinned) in self.beside.get().into_iter().flatten() {
            if *pinned != identity(path)? {
                return Err(replaced(path));
            }
        }
        Ok(())
    }

    fn identity(&self) -> Result<Identity, StoreError> {
        identity(&self.path)
    }

    /// Beside the file itself, where the path is a link to it: SQLite resolves links first.
    fn beside(&self, suffix: &str) -> PathBuf {
        let mut path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone()).into_os_string();
        path.push(suffix);
        path.into()
    }
}

fn identity(path: &Path) -> Result<Identity, StoreError> {
    Identity::of(path).map_err(|error| StoreError::Unavailable(format!("{}: {error}", path.display())))
}

fn replaced(path: &Path) -> StoreError {
    StoreError::Unavailable(format!("{} was moved or replaced since the start", path.display()))
}

impl Identity {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

/// After how many pages in the write-ahead log, 16 MiB, they are moved to the database, while everybody waits. Four times as many as by
/// default: a page that several batches have changed is moved once.
const CHECKPOINT_PAGES: u32 = 4000;

/// What each connection is told first. `synchronous=FULL` because in WAL mode the default would lose acknowledged commits
/// with the power.
pub(super) fn set_up(access: Access, timeout: Duration) -> String {
    let wait = timeout.as_millis();
    if access == Access::Audit {
        return format!("PRAGMA busy_timeout={wait}; PRAGMA query_only=ON;");
    }
    let query_only = if access == Access::Read { "ON" } else { "OFF" };
    format!(
        "PRAGMA busy_timeout={wait}; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; \
         PRAGMA recursive_triggers=ON; PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}; PRAGMA query_only={query_only};"
    )
}
