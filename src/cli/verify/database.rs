//! Straight from the database.

use crate::{
    cli::{CliError, FileArg, progress::Progress},
    config::{Settings, settings::DatabaseSettings},
    merkle::Checkpoint,
    verify::database::verify_database,
};

use super::Report;

/// Verifies the tenant's log in the database of the settings.
pub(super) fn verify(
    file: &FileArg,
    database: &DatabaseSettings,
    tenant: &str,
    saved: Option<&Checkpoint>,
) -> Result<Report, CliError> {
    let config = file.clone().load(Settings { database: database.clone(), ..Settings::default() })?.config.database;
    let progress = Progress::new("leaves");
    let log =
        verify_database(&config.url, config.statement_timeout, tenant, saved, |done, size| progress.at(done, size))?;
    progress.end();
    let mut report = Report::of_log(&format!("tenants/{tenant}"), log, saved);
    report
        .shown("every event and note of the database makes the leaf, the tile and the head that are stored beside it");
    if saved.is_none() {
        report.not_shown(
            "that the database was not rewritten as a whole, head included: only a checkpoint saved elsewhere shows that \
             (--checkpoint)",
        );
    }
    report.not_shown("when and why a body was erased: erase_time and erase_reason are in no leaf");
    Ok(report)
}
