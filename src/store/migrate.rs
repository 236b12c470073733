//! Brings the schema up to date, and refuses one that this binary must not use.

use std::{
    thread,
    time::{Duration, Instant},
};

use diesel::{
    dsl::sql,
    expression::SqlLiteral,
    migration::{Migration as _, MigrationSource},
    prelude::*,
    sql_types::{Bool, Text},
};
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

/// The pause between two attempts to be the one who migrates.
const TURN_PAUSE: Duration = Duration::from_millis(100);
/// The pause between two attempts to migrate what others hold.
const LOCK_PAUSE: Duration = Duration::from_secs(1);

type BoxedError = Box<dyn std::error::Error + Send + Sync>;

/// Applies what is missing, each migration in its own transaction, and tells the names of those it applied. Replicas that
/// start together wait for each other, each for so long.
pub(super) fn run(connection: &mut AnyConnection, patience: Duration) -> Result<Vec<String>, StoreError> {
    let mut applied = Vec::new();
    match connection {
        AnyConnection::Sqlite(connection) => apply(connection, SQLITE, &mut applied).map_err(failed)?,
        AnyConnection::Postgres(connection) => {
            take_turn(connection, patience)?;
            apply_patiently(connection, patience, &mut applied)?;
        }
    }
    Ok(applied)
}

fn apply<DB: diesel::backend::Backend>(
    connection: &mut impl MigrationHarness<DB>,
    migrations: EmbeddedMigrations,
    applied: &mut Vec<String>,
) -> Result<(), BoxedError> {
    for migration in connection.pending_migrations(migrations)? {
        connection.run_migration(&migration)?;
        applied.push(migration.name().to_string());
    }
    Ok(())
}

/// Refuses a database to write to that is not in UTF-8. In another encoding it would refuse some texts, each with all that is
/// recorded beside it; without one, as `SQL_ASCII`, it knows no characters. One that was written is read all the same.
pub(super) fn require_unicode(connection: &mut AnyConnection) -> Result<(), StoreError> {
    let AnyConnection::Postgres(connection) = connection else { return Ok(()) };
    let encoding: String = diesel::select(sql::<Text>("current_setting('server_encoding')")).get_result(connection)?;
    let why = match encoding.as_str() {
        "UTF8" => return Ok(()),
        "SQL_ASCII" => "does not know what is text",
        _ => "has no place for every text",
    };
    Err(StoreError::Unusable(format!(
        "the database has the encoding {encoding}, which {why}: make one with ENCODING 'UTF8' TEMPLATE template0"
    )))
}

fn failed(error: BoxedError) -> StoreError {
    match error.to_string() {
        denied if is_denied(&denied) => StoreError::Unusable(format!(
            "migrating: {denied}: have the role own the database (ALTER DATABASE … OWNER TO …); or, where it shall own nothing, run \
             `auditlog migrate` as the owner and serve with AUDITLOG_DATABASE_MIGRATE=false"
        )),
        error => StoreError::Unavailable(format!("migrating: {error}")),
    }
}

/// diesel gives no SQLSTATE. What is said in another language goes without the hint.
fn is_denied(message: &str) -> bool {
    message.contains("permission denied")
}

/// Takes the lock of those who migrate, which is held until the connection is closed. Asked for again and again, because a
/// session that waits for a lock of this kind keeps a transaction open, for the server to keep dead versions for.
fn take_turn(connection: &mut PgConnection, patience: Duration) -> Result<(), StoreError> {
    let start = Instant::now();
    while !diesel::select(try_turn()).get_result(connection)? {
        if start.elapsed() >= patience {
            return Err(StoreError::Unavailable(format!(
                "another process migrates this database, and has for longer than database.start_wait ({patience:?}): wait until \
                 it has ended, or end it, and start again"
            )));
        }
        thread::sleep(TURN_PAUSE);
    }
    Ok(())
}

fn try_turn() -> SqlLiteral<Bool> {
    sql("pg_try_advisory_lock(hashtextextended('auditlog.migrate', 0))")
}

/// Tries again where a table is in use. Those who wait behind the migration go on between two attempts.
fn apply_patiently(
    connection: &mut PgConnection,
    patience: Duration,
    applied: &mut Vec<String>,
) -> Result<(), StoreError> {
    let start = Instant::now();
    loop {
        match apply(connection, POSTGRES, applied) {
            Err(error) if waited_in_vain(&error) && start.elapsed() < patience => {
                tracing::warn!(%error, "waiting for others to let go of what is to be migrated");
                thread::sleep(LOCK_PAUSE);
            }
            Err(error) if waited_in_vain(&error) => return Err(in_use(&error, patience)),
            result => return result.map_err(failed),
        }
    }
}

/// See [`is_denied`]; here what is said in another language is not tried again, at no other harm.
fn waited_in_vain(error: &BoxedError) -> bool {
    error.to_string().contains("lock timeout")
}

fn in_use(error: &BoxedError, patience: Duration) -> StoreError {
    StoreError::Unavailable(format!(
        "migrating: {error}: another session has held what is to be migrated for longer than database.start_wait ({patience:?}): \
         wait for its end, a backup's say, or end it (pg_stat_activity shows it), and start again"
    ))
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
        Err(diesel::result::Error::DatabaseError(_, info)) if is_denied(info.message()) => {
            Err(StoreError::Unusable(format!(
                "{}: as the owner of the tables run `auditlog migrate` and then deploy/postgres-role.sql, which gives the role \
                 auditlog_service its rights, once after each migration",
                info.message()
            )))
        }
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
