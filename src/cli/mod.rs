//! The command line: what is asked for, and how it ends.

mod acknowledge;
mod demo;
mod descriptor;
mod error;
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

use std::{collections::BTreeSet, env, path::PathBuf, process::ExitCode};

use clap::{Arg, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::{
    config::{self, Config, Loaded, Settings},
    merkle::{VerifierKey, is_of_tenant},
    model::Scope,
};

use self::error::{CliError, end, one_line};

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

#[cfg(test)]
mod tests;
