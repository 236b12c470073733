//! What somebody with the right to write to the database can do to it: each change by itself, undone afterwards.

use crate::{
    harness::{Backend, Database},
    sql::Sql,
};

/// The tables that make up a log.
const TABLES: [&str; 6] = ["events", "update_notes", "tree_heads", "tree_tiles", "log_epochs", "signing_keys"];

/// A database without its triggers, with a copy of what was in it.
pub struct Tampering {
    sql: Sql,
    backend: Backend,
}

impl Tampering {
    /// Takes the triggers away and keeps a copy.
    pub fn begin(database: &Database) -> Self {
        let mut sql = Sql::open(database);
        let backend = database.backend;
        let drops = match backend {
            Backend::Sqlite => "SELECT 'DROP TRIGGER ' || name AS value FROM sqlite_master WHERE type = 'trigger'",
            Backend::Postgres => {
                "SELECT format('ALTER TABLE %I DISABLE TRIGGER USER', c.relname) AS value FROM pg_class c \
                 WHERE c.relkind IN ('r', 'p') AND c.relnamespace = current_schema()::regnamespace"
            }
        };
        sql.values(drops).iter().for_each(|drop| sql.run(drop));
        for table in TABLES {
            sql.run(&format!("CREATE TABLE kept_{table} AS SELECT * FROM {table}"));
        }
        Self { sql, backend }
    }

    /// Changes something.
    #[track_caller]
    pub fn run(&mut self, statement: &str) {
        self.sql.run(statement);
    }

    /// The one text that a query gives as `value`.
    #[track_caller]
    pub fn value(&mut self, query: &str) -> String {
        self.sql.value(query)
    }

    /// Puts everything back.
    pub fn undo(&mut self) {
        for table in TABLES {
            self.sql.run(&format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM kept_{table}"));
        }
    }

    /// All columns of a table, as the catalogue has them, and whether they may be NULL.
    pub fn columns(&mut self, table: &str) -> Vec<(String, bool)> {
        let query = match self.backend {
            Backend::Sqlite => format!(
                "SELECT name || ' ' || CASE WHEN \"notnull\" = 0 THEN 'YES' ELSE 'NO' END AS value \
                 FROM pragma_table_info('{table}')"
            ),
            Backend::Postgres => format!(
                "SELECT column_name || ' ' || is_nullable AS value FROM information_schema.columns \
                 WHERE table_schema = current_schema() AND table_name = '{table}'"
            ),
        };
        let columns = self.sql.values(&query);
        let columns = columns.iter().map(|line| line.split_once(' ').unwrap());
        columns.map(|(name, nullable)| (name.to_owned(), nullable == "YES")).collect()
    }

    /// So many bytes of this value, in the store's SQL.
    pub fn bytes(&self, count: usize, byte: u8) -> String {
        self.blob(&vec![byte; count])
    }

    /// Bytes, in the store's SQL.
    pub fn blob(&self, bytes: &[u8]) -> String {
        match self.backend {
            Backend::Sqlite => format!("x'{}'", hex::encode(bytes)),
            Backend::Postgres => format!("'\\x{}'::bytea", hex::encode(bytes)),
        }
    }

    /// A value, in SQL, that the column does not hold in any event or note of the tests.
    pub fn other_value(&self, column: &str) -> String {
        match column {
            "event_id" | "note_id" => "'01900000-0000-7000-8000-00000000dead'".to_owned(),
            "leaf_index" => "leaf_index + 100000".to_owned(),
            "record_time" | "create_time" | "erase_time" => "'2020-01-01 00:00:00.000001'".to_owned(),
            "action_type" => "'delete'".to_owned(),
            "actor_type" | "recorder_type" | "author_type" => "'system'".to_owned(),
            "changes" => r#"'[{"field":"tampered"}]'"#.to_owned(),
            "context" => r#"'{"source_ip":"192.0.2.66"}'"#.to_owned(),
            "attributes" => r#"'{"tampered":"yes"}'"#.to_owned(),
            "salt" => self.bytes(16, 7),
            "body_commitment" | "leaf_hash" => self.bytes(32, 7),
            "tenant_id" | "project_id" | "resource_type" | "resource_id" | "resource_name" | "actor_id"
            | "actor_name" | "recorder_id" | "recorder_name" | "message" | "erase_reason" | "author_id"
            | "author_name" | "text" => "'tampered'".to_owned(),
            _ => panic!("say here how {column} is tampered with"),
        }
    }
}
