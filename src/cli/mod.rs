//! The command line: what is asked for, and how it ends.
//!
//! Exit codes: 0 when all went well, 2 when the command line or the settings are wrong, 3 when `verify` has found something
//! that does not hold, 130 and 143 when a signal ended the process at once, 1 for everything else.

mod acknowledge;
mod demo;
mod descriptor;
mod export;
mod file_limit;
mod grpcurl;
mod healthcheck;
mod key;
mod listed_event;
mod migrate;
mod progress;
mod remote;
mod serve;
mod signals;
mod token;
mod verify;
mod whole_file;

use std::{
    collections::BTreeSet,
    env,
    error::Error,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Arg, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::{
    app::AppError,
    auth::jwt::JwtError,
    checkpoint_key::KeyFileError,
    client::{CallFailed, ClientError},
    config::{self, Config, ConfigError, Loaded, Settings},
    merkle::{CheckpointError, VerifierKey, is_of_tenant},
    model::{Printable, Scope},
    telemetry::{self, TelemetryError},
    verify::VerifyError,
};

const EXAMPLES: &str = "\
Examples:
  auditlog demo                          sample events, and commands to try on them
  auditlog                               serve on 127.0.0.1:50051, store in ./auditlog.db
  auditlog --database-url sqlite:///var/lib/auditlog/events.db
  auditlog key show --tenant acme        what verifies the checkpoints of tenants/acme
  auditlog token --subject ann --role tenant_admin@tenants/acme
                                         a token, signed with jwt.secret_file
  auditlog export --address http://127.0.0.1:50051 --parent tenants/acme --output acme.csv \
      -H 'x-audit-subject: ann' -H 'x-audit-roles: tenant_admin@tenants/acme'
  auditlog verify --tenant acme          whether the log in the database is what was sealed
  auditlog descriptor > auditlog.binpb   the contract, for proxies and code generators

Settings come from flags, else the environment, else ./auditlog.toml or the file
that --config names, else the defaults. --database-pool-size 4 is the variable
AUDITLOG_DATABASE_POOL_SIZE=4, and in the file pool_size = 4 under [database].";

/// Keeps an audit log: who did what to which resource, and when. Services record events over gRPC, consoles and operators
/// list, filter and export them. An event that was acknowledged is stored, and found, and never changes.
#[derive(Debug, Parser)]
#[command(name = "auditlog", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::ServeArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API; what `auditlog` does without a command
    Serve(Box<serve::ServeArgs>),
    /// Bring the database's schema up to date, and print what was applied
    Migrate(migrate::MigrateArgs),
    /// Serve a temporary database with sample events, and print grpcurl commands to try on it
    Demo(demo::DemoArgs),
    /// Ask the service on this machine, at its admin.listen, whether it serves; exit code 1 if not
    Healthcheck(healthcheck::HealthcheckArgs),
    /// Make the key that signs checkpoints, or show what verifies them
    Key(key::KeyArgs),
    /// Acknowledge that the database went back, so that the service records and signs for a tenant again
    AcknowledgeRollback(acknowledge::AcknowledgeArgs),
    /// Print a token that a service with the same settings takes
    Token(Box<token::TokenArgs>),
    /// Write a scope's events into a CSV file that proves itself, with its manifest beside it
    Export(Box<export::ExportArgs>),
    /// Check that a log, or an exported file, is what was sealed, and name what is not; exit code 3 if so
    Verify(Box<verify::VerifyArgs>),
    /// Write the protobuf descriptor set of the API to standard output
    Descriptor,
}

/// Where the settings of a command come from, beside its flags.
#[derive(Clone, Debug, Args)]
struct FileArg {
    /// Configuration file; it must exist [default: ./auditlog.toml if there is one]
    #[arg(id = "config", long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the descriptor set is binary: redirect it, as in `auditlog descriptor > auditlog.binpb`")]
    BinaryToTerminal,
    #[error("there is no address to ask at: set AUDITLOG_ADMIN_LISTEN as for the service")]
    NoAdminAddress,
    #[error("the service is not ready")]
    NotReady,
    #[error(
        "there is nothing to sign a token with: set AUDITLOG_JWT_SECRET_FILE (--jwt-secret-file), or give --private-key-file"
    )]
    NoSigningKey,
    #[error(transparent)]
    Jwt(#[from] JwtError),
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    #[error(transparent)]
    App(#[from] AppError),
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    #[error("--tenant: {0:?} is no tenant id, which is like [A-Za-z0-9][A-Za-z0-9._~-]{{0,127}}")]
    Tenant(String),
    #[error("--verifier-key is for {found}, which is not the log of tenants/{tenant}")]
    KeyOfOtherLog { found: String, tenant: String },
    #[error("{}: the checkpoint is of {found}, which is not the log of tenants/{tenant}", .file.display())]
    OtherLog { file: PathBuf, found: String, tenant: String },
    #[error("{}: {error}", .file.display())]
    Checkpoint { file: PathBuf, error: CheckpointError },
    #[error(
        "there is no log of tenants/{0}, or nothing is recorded in it: check the tenant, and the database or the address; \
         --allow-empty accepts it"
    )]
    NoSuchLog(String),
    #[error("there is no {}: leave --checkpoint out the first time, when --write-checkpoint makes it", .0.display())]
    NoSavedCheckpoint(PathBuf),
    #[error("--write-checkpoint takes --address: a checkpoint is signed, and only the service has the key")]
    OnlyServiceSigns,
    #[error(
        "--verifier-key is missing: give the key that the operator has printed with `auditlog key show`, or --unsigned, \
         which checks the file against a manifest that anybody may have made"
    )]
    NoVerifierKey,
    #[error("--address is missing: where is the service?")]
    NoAddress,
    #[error("{0} has no effect {1}: leave it out")]
    NoEffect(&'static str, &'static str),
    #[error("--address and --database-url are two logs: name one")]
    TwoLogs,
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the service at {address}: {failed}")]
    Call { address: String, failed: Box<CallFailed> },
    #[error("the export cannot be completed: {0}")]
    Export(String),
    #[error("{} is complete; what was left to do failed", .file.display())]
    Untidy {
        file: PathBuf,
        #[source]
        error: Box<CliError>,
    },
    #[error("{} {problem}", .file.display())]
    Output { file: PathBuf, problem: &'static str },
    #[error("the service lists events of {0} without an end, behind the checkpoint that is to be verified")]
    Endless(String),
    #[error("the file cannot be checked, although it is the one that the manifest is about: {0}")]
    Unread(String),
    #[error("it does not hold: {0} finding(s)")]
    DoesNotHold(u64),
    #[error("cannot {what} {}", .file.display())]
    File { what: &'static str, file: PathBuf, source: io::Error },
    #[error("cannot {0}")]
    Io(&'static str, #[source] io::Error),
    #[error("cannot record the sample events")]
    Demo(#[source] Box<dyn Error + Send + Sync>),
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    match parse(env::args_os()) {
        Ok(cli) => end(cli.run()),
        Err(error) => {
            // A closed pipe leaves nobody to tell.
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
    }
}

fn parse(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Cli, clap::Error> {
    Cli::from_arg_matches(&name_variables(hide_unused(Cli::command())).try_get_matches_from(arguments)?)
}

/// Settings that a command shares with the service and does nothing with. It refuses them as flags, and takes no notice of
/// them elsewhere, where they are meant for the service.
const UNUSED: [(&str, &[&str]); 2] = [
    ("verify", &["database.migrate", "database.start_wait", "database.pool_size"]),
    ("acknowledge-rollback", &["database.migrate", "database.pool_size"]),
];

fn hide_unused(command: clap::Command) -> clap::Command {
    UNUSED.iter().fold(command, |command, (name, settings)| {
        command.mut_subcommand(name, |command| {
            settings.iter().fold(command, |command, setting| command.mut_arg(setting, |argument| argument.hide(true)))
        })
    })
}

/// Refuses the first flag that is there and has no effect.
fn refuse_unused(flags: &[(bool, &'static str)], why: &'static str) -> Result<(), CliError> {
    match flags.iter().find(|(is_given, _)| *is_given) {
        Some((_, flag)) => Err(CliError::NoEffect(flag, why)),
        None => Ok(()),
    }
}

/// Adds its environment variable to the help of each setting. It is not clap that reads them: clap would take an empty
/// variable for a value, and could not be given other variables by a test.
fn name_variables(command: clap::Command) -> clap::Command {
    name_variables_of(&config::setting_ids(), command)
}

fn name_variables_of(settings: &BTreeSet<String>, command: clap::Command) -> clap::Command {
    let name = |argument: Arg| match settings.contains(argument.get_id().as_str()) {
        true => name_variable(argument),
        false => argument,
    };
    command.mut_args(name).mut_subcommands(|command| name_variables_of(settings, command))
}

fn name_variable(argument: Arg) -> Arg {
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let variable = config::variable(argument.get_id().as_str());
    argument.help(format!("{help} [env: {variable}]"))
}

impl Cli {
    fn run(self) -> Result<(), CliError> {
        match self.command {
            None => self.serve.run(),
            Some(Command::Serve(serve)) => serve.run(),
            Some(Command::Migrate(migrate)) => migrate.run(),
            Some(Command::Demo(demo)) => demo.run(),
            Some(Command::Healthcheck(healthcheck)) => healthcheck.run(),
            Some(Command::Key(key)) => key.run(),
            Some(Command::AcknowledgeRollback(acknowledge)) => acknowledge.run(),
            Some(Command::Token(token)) => token.run(),
            Some(Command::Export(export)) => export.run(),
            Some(Command::Verify(verify)) => verify.run(),
            Some(Command::Descriptor) => descriptor::run(),
        }
    }
}

impl FileArg {
    fn load(self, flags: Settings) -> Result<Loaded, CliError> {
        Ok(Config::load(flags, self.config, env::vars_os())?)
    }
}

impl CliError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_)
            | Self::BinaryToTerminal
            | Self::NoAdminAddress
            | Self::NoSigningKey
            | Self::Jwt(_)
            | Self::Tenant(_)
            | Self::KeyOfOtherLog { .. }
            | Self::OtherLog { .. }
            | Self::NoSavedCheckpoint(_)
            | Self::OnlyServiceSigns
            | Self::NoVerifierKey
            | Self::NoEffect(..)
            | Self::TwoLogs
            | Self::NoAddress
            | Self::Output { .. } => ExitCode::from(2),
            Self::DoesNotHold(_) => ExitCode::from(3),
            _ => ExitCode::FAILURE,
        }
    }
}

/// The tenant that `--tenant` names by its id.
fn tenant_scope(tenant: &str) -> Result<Scope, CliError> {
    Scope::new(tenant, None).map_err(|_| CliError::Tenant(tenant.to_owned()))
}

/// Refuses what is no tenant's id, and a key that is for another log.
fn require_tenant(tenant: &str, key: Option<&VerifierKey>) -> Result<(), CliError> {
    tenant_scope(tenant)?;
    match key.map(VerifierKey::name) {
        Some(name) if !is_of_tenant(name, tenant) => {
            Err(CliError::KeyOfOtherLog { found: name.to_owned(), tenant: tenant.to_owned() })
        }
        _ => Ok(()),
    }
}

fn end(result: Result<(), CliError>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    let line = one_line(&error);
    telemetry::briefly(move || {
        // Not `eprintln!`, which panics when stderr is closed.
        let _ = writeln!(io::stderr(), "auditlog: {line}");
    });
    error.exit_code()
}

/// The error and its causes, leaving out those whose text the one before has said already.
fn one_line(error: &dyn Error) -> String {
    let mut line = flat(error);
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = flat(error);
        if !line.ends_with(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line
}

/// In words of ours and, where a service has answered, of its own.
fn flat(error: &dyn Error) -> String {
    let text = error.to_string();
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Printable(&lines.join(" ")).to_string()
}

#[cfg(test)]
mod tests;
