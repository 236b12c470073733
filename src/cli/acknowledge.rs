//! `auditlog acknowledge-rollback`.

use std::{
    io::{self, Write as _},
    sync::Arc,
};

use crate::{
    app::{self, Acknowledged, Acknowledgement},
    auth::MAX_SUBJECT_BYTES,
    config::{
        Settings,
        settings::{DatabaseSettings, LogSettings},
    },
    model::{Clock, SystemClock, TextRule, limits::TextError},
    telemetry,
};

use super::{CliError, FileArg, refuse_unused, serve, tenant_scope};

#[derive(Debug, clap::Args)]
pub(super) struct AcknowledgeArgs {
    #[command(flatten)]
    file: FileArg,
    #[command(flatten)]
    database: DatabaseSettings,
    #[command(flatten)]
    log: LogSettings,
    /// The tenant's id, as in tenants/{tenant}
    #[arg(id = "tenant", long, value_name = "ID")]
    tenant: String,
    /// Who acknowledges it: the actor of the event that is recorded
    #[arg(long, value_name = "SUBJECT", value_parser = text_of(MAX_SUBJECT_BYTES))]
    by: String,
    /// What has happened, for those who read the log
    #[arg(long, value_name = "TEXT", value_parser = text_of(2048))]
    reason: String,
    /// Begin an epoch even of a log that is not there any more, or was acknowledged already and has not grown since
    #[arg(long)]
    force: bool,
}

impl AcknowledgeArgs {
    /// The number of the epoch goes to standard output, what to do now to stderr.
    pub(super) fn run(self) -> Result<(), CliError> {
        let scope = tenant_scope(&self.tenant)?;
        let DatabaseSettings { migrate, pool_size, .. } = &self.database;
        let unused = [(migrate.is_some(), "--database-migrate"), (pool_size.is_some(), "--database-pool-size")];
        refuse_unused(&unused, "here")?;
        let flags = Settings { database: self.database, log: self.log, ..Settings::default() };
        let loaded = self.file.load(flags)?;
        telemetry::init_logs(&loaded.config.log)?;
        serve::warn_of_unknown(&loaded.unknown_variables);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let acknowledgement = Acknowledgement { scope, by: self.by, reason: self.reason, force: self.force };
        let Acknowledged { size_before, epoch } =
            app::acknowledge_rollback(&loaded.config.database, &clock, &acknowledgement)?;
        let hint = "its checkpoints have another name from now on, and the same key: tell those who verify them";
        let _ = writeln!(
            io::stderr(),
            "auditlog: tenants/{} had {size_before} leaves, and begins epoch {epoch}; {hint}",
            self.tenant
        );
        writeln!(io::stdout(), "{epoch}").map_err(|error| CliError::Io("write to standard output", error))
    }
}

/// A text that an event takes, of at most so many bytes.
fn text_of(max_bytes: usize) -> impl Fn(&str) -> Result<String, TextError> + Clone {
    move |text| TextRule::required(max_bytes).check(text).map(|()| text.to_owned())
}
