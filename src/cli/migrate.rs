//! `auditlog migrate`.

use std::io::{self, Write as _};

use crate::{
    app,
    config::{
        Settings,
        settings::{DatabaseSettings, LogSettings},
    },
    model::SystemClock,
    telemetry,
};

use super::{CliError, FileArg, serve};

#[derive(Debug, clap::Args)]
pub(super) struct MigrateArgs {
    #[command(flatten)]
    file: FileArg,
    #[command(flatten)]
    database: DatabaseSettings,
    #[command(flatten)]
    log: LogSettings,
}

impl MigrateArgs {
    /// Applies what is missing. Whether the service may be served with the settings is not asked: the job that migrates
    /// may have fewer flags than the service.
    pub(super) fn run(self) -> Result<(), CliError> {
        let flags = Settings { database: self.database, log: self.log, ..Settings::default() };
        let loaded = self.file.load(flags)?;
        telemetry::init_logs(&loaded.config.log)?;
        serve::warn_of_unknown(&loaded.unknown_variables);
        let applied = app::migrate(&loaded.config.database, &SystemClock)?;
        print(&applied).map_err(|error| CliError::Io("write to standard output", error))
    }
}

/// The names go to standard output, one a line; that there are none, to stderr.
fn print(applied: &[String]) -> io::Result<()> {
    if applied.is_empty() {
        return writeln!(io::stderr(), "auditlog: the schema is up to date");
    }
    applied.iter().try_for_each(|name| writeln!(io::stdout(), "{name}"))
}
