//! Straight from the database.

use crate::{
    cli::{CliError, FileArg, progress::Progress},
    config::{Settings, settings::DatabaseSettings},
    verify::{BrokenOff, Expected, database::verify_database},
};

use super::Report;

/// Verifies the tenant's log in the database of the settings.
pub(super) fn verify(
    file: &FileArg,
    database: &DatabaseSettings,
    tenant: &str,
    expected: Expected<'_>,
) -> Result<Report, BrokenOff<CliError>> {
    let settings = Settings { database: database.clone(), ..Settings::default() };
    let config = file.clone().load(settings)?.config.database;
    let progress = Progress::new("leaves");
    let log =
        verify_database(&config.url, config.statement_timeout, tenant, expected, |done, size| progress.at(done, size))
            .map_err(|broken_off| broken_off.map(CliError::from))?;
    progress.end();
    let Expected { saved, key } = expected;
    let has_key = log.has_key;
    let mut report = Report::of_log(&format!("tenants/{tenant}"), log, saved);
    report
        .shown("every event and note of the database makes the leaf, the tile and the head that are stored beside it");
    match key {
        Some(_) => report.shown("the database names the key of --verifier-key as the one that signs"),
        None if has_key => {
            report.not_shown("that the key that the database names is the operator's: give --verifier-key")
        }
        None => report.not_shown("whose key signs: no service with a key has started on this database"),
    }
    if saved.is_none() {
        report.not_shown(
            "that the database was not rewritten as a whole, head included: only a checkpoint saved elsewhere shows that \
             (--checkpoint)",
        );
    }
    report.not_shown("when and why a body was erased: erase_time and erase_reason are in no leaf");
    Ok(report)
}
