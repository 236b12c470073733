//! Brings the schema up to date.

use diesel_migrations::{EmbeddedMigrations, MigrationHarness as _, embed_migrations};

use super::{conn::Connection, error::StoreError};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// Applies what is missing, each migration in its own transaction, and tells the names of those it applied.
pub(super) fn run(connection: &mut Connection) -> Result<Vec<String>, StoreError> {
    let failed =
        |error: Box<dyn std::error::Error + Send + Sync>| StoreError::Unavailable(format!("migrating: {error}"));
    let applied = connection.run_pending_migrations(MIGRATIONS).map_err(failed)?;
    Ok(applied.iter().map(ToString::to_string).collect())
}

/// Refuses a database whose schema is not the one this binary knows.
pub(super) fn require_current(connection: &mut Connection) -> Result<(), StoreError> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| StoreError::Unavailable(error.to_string());
    match connection.has_pending_migration(MIGRATIONS).map_err(failed)? {
        false => Ok(()),
        true => Err(StoreError::Unavailable(
            "the database has no current schema: run `auditlog migrate`, or set AUDITLOG_DATABASE_MIGRATE=true"
                .to_owned(),
        )),
    }
}
