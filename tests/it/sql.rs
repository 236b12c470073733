//! SQL straight to a store, past the service: what an operator would see, or somebody who should not be there.

use diesel::{
    Connection as _, PgConnection, QueryableByName, RunQueryDsl as _, SqliteConnection,
    connection::SimpleConnection as _, sql_types::Text,
};

use crate::harness::{Backend, Database};

/// A connection past the service, as the owner of the tables.
pub enum Sql {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

#[derive(QueryableByName)]
struct Value {
    #[diesel(sql_type = Text)]
    value: String,
}

impl Sql {
    /// To SQLite with the one setting that the triggers rely on, as the service has it.
    pub fn open(database: &Database) -> Self {
        match database.backend {
            Backend::Sqlite => {
                let file = database.url.strip_prefix("sqlite://").unwrap();
                let mut connection = SqliteConnection::establish(file).unwrap();
                connection.batch_execute("PRAGMA recursive_triggers=ON; PRAGMA busy_timeout=10000").unwrap();
                Self::Sqlite(connection)
            }
            Backend::Postgres => Self::postgres(&database.url),
        }
    }

    pub fn postgres(url: &str) -> Self {
        Self::try_postgres(url).unwrap()
    }

    pub fn try_postgres(url: &str) -> Result<Self, String> {
        PgConnection::establish(url).map(Self::Postgres).map_err(|error| error.to_string())
    }

    /// Runs statements; the error is what the database said.
    pub fn try_run(&mut self, sql: &str) -> Result<(), String> {
        let result = match self {
            Self::Sqlite(connection) => connection.batch_execute(sql),
            Self::Postgres(connection) => connection.batch_execute(sql),
        };
        // With what the database advises.
        result.map_err(|error| match &error {
            diesel::result::Error::DatabaseError(_, told) => format!("{error} {}", told.hint().unwrap_or_default()),
            _ => error.to_string(),
        })
    }

    #[track_caller]
    pub fn run(&mut self, sql: &str) {
        self.try_run(sql).unwrap_or_else(|error| panic!("{error}: {sql}"));
    }

    /// Asserts that a statement is refused with an error that says `why`.
    #[track_caller]
    pub fn refused(&mut self, sql: &str, why: &str) {
        match self.try_run(sql) {
            Ok(()) => panic!("was not refused: {sql}"),
            Err(error) => assert!(error.contains(why), "refused for another reason: {error}: {sql}"),
        }
    }

    /// The rows of a query whose one column is a text called `value`.
    #[track_caller]
    pub fn values(&mut self, sql: &str) -> Vec<String> {
        let query = diesel::sql_query(sql);
        let rows: Result<Vec<Value>, _> = match self {
            Self::Sqlite(connection) => query.load(connection),
            Self::Postgres(connection) => query.load(connection),
        };
        rows.unwrap_or_else(|error| panic!("{error}: {sql}")).into_iter().map(|row| row.value).collect()
    }

    #[track_caller]
    pub fn value(&mut self, sql: &str) -> String {
        let mut values = self.values(sql);
        assert_eq!(values.len(), 1, "{sql}");
        values.remove(0)
    }
}
