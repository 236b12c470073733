//! What a test does to a database beside the service: to make what no call makes, and what must never happen.

use diesel::{Connection as _, PgConnection, SqliteConnection, connection::SimpleConnection as _};

use super::{Backend, Database};
use crate::sql::Sql;

/// The columns of an event's body.
const BODY: [&str; 13] = [
    "resource_id",
    "resource_name",
    "actor_type",
    "actor_id",
    "actor_name",
    "recorder_type",
    "recorder_id",
    "recorder_name",
    "message",
    "changes",
    "context",
    "attributes",
    "salt",
];

impl Database {
    /// Runs statements.
    pub fn execute(&self, sql: &str) {
        match self.backend {
            Backend::Sqlite => {
                let path = self.url.strip_prefix("sqlite://").unwrap();
                let mut connection = SqliteConnection::establish(path).unwrap();
                connection.batch_execute("PRAGMA busy_timeout = 5000").unwrap();
                connection.batch_execute(sql).unwrap();
            }
            Backend::Postgres => PgConnection::establish(&self.url).unwrap().batch_execute(sql).unwrap(),
        }
    }

    /// Runs statements as somebody who has the right to change what is stored: no trigger stops them.
    pub fn forge(&self, sql: &str) {
        match self.backend {
            Backend::Sqlite => {
                let triggers: Vec<String> = Sql::open(self)
                    .values("SELECT 'DROP TRIGGER ' || name AS value FROM sqlite_master WHERE type = 'trigger'");
                self.execute(&format!("{};{sql}", triggers.join(";")));
            }
            Backend::Postgres => self.execute(&format!("SET session_replication_role = replica; {sql}")),
        }
    }

    /// Erases the body of an event.
    pub fn erase(&self, event_id: &str) {
        let nulls = BODY.map(|column| format!("{column} = NULL")).join(", ");
        self.execute(&format!(
            "UPDATE events SET erase_time = '2026-01-02 00:00:00', erase_reason = 'asked', {nulls} \
             WHERE event_id = '{event_id}'"
        ));
    }

    /// Makes an event unreadable, as a damaged disk would: its changes are no list any more.
    pub fn damage(&self, event_id: &str) {
        self.change(event_id, "changes = '{}'");
    }

    /// Changes an event, once nothing forbids it any more.
    pub fn change(&self, event_id: &str, set: &str) {
        let allow = match self.backend {
            Backend::Sqlite => "DROP TRIGGER events_only_erasure",
            // Locked first: without that the server takes the partitions before the table, and everybody else the other way around.
            Backend::Postgres => "LOCK TABLE events; DROP TRIGGER events_only_erasure ON events",
        };
        self.execute(&format!("{allow}; UPDATE events SET {set} WHERE event_id = '{event_id}'"));
    }
}
