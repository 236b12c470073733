//! Brings the schema up to date, and refuses one that this binary must not use.

use diesel::{connection::SimpleConnection as _, migration::MigrationSource, prelude::*};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::{
    conn::AnyConnection,
    error::StoreError,
    schema::{__diesel_schema_migrations, schema_requirements},
};

const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// What this binary is, to schemas that ask for a newer one. It grows with each release that adds what a later schema may
/// rely on.
const BINARY_VERSION: i32 = 2;

type BoxedError = Box<dyn std::error::Error + Send + Sync>;

/// Applies what is missing, each migration in its own transaction, and tells the names of those it applied. Replicas that
/// start together wait for each other.
pub(super) fn run(connection: &mut AnyConnection) -> Result<Vec<String>, StoreError> {
    let applied = match connection {
        AnyConnection::Sqlite(connection) => pending(connection, SQLITE),
        AnyConnection::Postgres(connection) => {
            // Held until the connection is closed.
            connection.batch_execute("SELECT pg_advisory_lock(hashtextextended('auditlog.migrate', 0))")?;
            pending(connection, POSTGRES)
        }
    };
    applied.map_err(|error| StoreError::Unavailable(format!("migrating: {error}")))
}

fn pending<DB: diesel::backend::Backend>(
    connection: &mut impl MigrationHarness<DB>,
    migrations: EmbeddedMigrations,
) -> Result<Vec<String>, BoxedError> {
    let pending = connection.pending_migrations(migrations)?;
    connection.run_migrations(&pending)?;
    Ok(pending.iter().map(|migration| migration.name().to_string()).collect())
}

/// Whether all migrations of this binary are applied. Not asked of diesel, which would first make the table that it looks
/// into, and that takes a right which the service need not have.
fn is_current(connection: &mut AnyConnection) -> Result<bool, StoreError> {
    let known = match connection {
        AnyConnection::Sqlite(_) => versions::<diesel::sqlite::Sqlite>(SQLITE),
        AnyConnection::Postgres(_) => versions::<diesel::pg::Pg>(POSTGRES),
    };
    let known = known.map_err(|error| StoreError::Unavailable(error.to_string()))?;
    let applied: Result<Vec<String>, _> =
        __diesel_schema_migrations::table.select(__diesel_schema_migrations::version).load(connection);
    match applied {
        Ok(applied) => Ok(known.iter().all(|version| applied.contains(version))),
        // There is no such table. Whatever else it is comes up again at the next statement.
        Err(diesel::result::Error::DatabaseError(_, _)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn versions<DB: diesel::backend::Backend>(migrations: EmbeddedMigrations) -> Result<Vec<String>, BoxedError> {
    let migrations = MigrationSource::<DB>::migrations(&migrations)?;
    Ok(migrations.iter().map(|migration| migration.name().version().to_string()).collect())
}

/// Refuses a database whose schema is older than the one this binary knows, or too new for it.
pub(super) fn require_usable(connection: &mut AnyConnection) -> Result<(), StoreError> {
    if !is_current(connection)? {
        let fix = "run `auditlog migrate`; the service does so at its start with AUDITLOG_DATABASE_MIGRATE=true";
        return Err(StoreError::Unusable(format!("the database has no current schema: {fix}")));
    }
    match schema_requirements::table.select(schema_requirements::min_binary_version).first(connection)? {
        ..=BINARY_VERSION => Ok(()),
        needed => Err(StoreError::Unusable(format!(
            "the database's schema needs auditlog of binary version {needed} or later, and this one is {BINARY_VERSION}: \
             run a newer release"
        ))),
    }
}
