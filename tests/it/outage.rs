//! Takes a store away while a service runs on it, and gives it back.

use std::{fs, path::PathBuf, str::FromStr as _};

use diesel::{Connection as _, RunQueryDsl as _, SqliteConnection, connection::SimpleConnection as _};

use crate::harness::{Backend, Database};

/// Somebody else holds the lock that every write needs, until this is dropped.
pub struct WriteLock(SqliteConnection);

impl WriteLock {
    pub fn hold(database: &Database) -> Self {
        let mut connection = connect(database);
        connection.batch_execute("PRAGMA busy_timeout=10000; BEGIN IMMEDIATE").unwrap();
        Self(connection)
    }
}

impl Drop for WriteLock {
    fn drop(&mut self) {
        self.0.batch_execute("ROLLBACK").unwrap();
    }
}

/// The database is gone, until this is dropped.
pub struct Away(PathBuf, PathBuf);

impl Away {
    pub fn take(database: &Database) -> Self {
        let path = path(database);
        let aside = path.with_extension("aside");
        fs::rename(&path, &aside).unwrap();
        Self(path, aside)
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        fs::rename(&self.1, &self.0).unwrap();
    }
}

/// Runs SQL behind the service's back.
pub fn execute(database: &Database, sql: &str) -> usize {
    diesel::sql_query(sql).execute(&mut connect(database)).unwrap()
}

fn connect(database: &Database) -> SqliteConnection {
    SqliteConnection::establish(path(database).to_str().unwrap()).unwrap()
}

fn path(database: &Database) -> PathBuf {
    match database.backend {
        Backend::Sqlite => PathBuf::from_str(database.url.strip_prefix("sqlite://").unwrap()).unwrap(),
    }
}
