//! `auditlog key new` and `auditlog key show`.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use crate::{
    checkpoint_key,
    config::{Config, Settings, settings::CheckpointSettings},
    merkle::epoch_name,
};

use super::{CliError, FileArg, tenant_scope};

#[derive(Debug, clap::Args)]
pub(super) struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, clap::Subcommand)]
enum KeyCommand {
    /// Make a key and write it to a file that only its owner can read; a file that is there is not overwritten
    New(NewArgs),
    /// Print the verifier key for the checkpoints of a tenant, as the last line
    Show(ShowArgs),
}

#[derive(Debug, clap::Args)]
struct NewArgs {
    #[command(flatten)]
    file: FileArg,
    /// File to write; without it, the one that the service reads, checkpoint.key_file
    #[arg(id = "output", long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    #[command(flatten)]
    file: FileArg,
    /// The tenant's id, as in tenants/{tenant}
    #[arg(id = "tenant", long, value_name = "ID")]
    tenant: String,
    /// The epoch of its log: the first one, unless an operator has acknowledged that the log went back
    #[arg(id = "epoch", long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    epoch: u32,
    #[command(flatten)]
    checkpoint: CheckpointSettings,
}

impl KeyArgs {
    pub(super) fn run(self) -> Result<(), CliError> {
        match self.command {
            KeyCommand::New(new) => new.run(),
            KeyCommand::Show(show) => show.run(),
        }
    }
}

impl NewArgs {
    /// The file's name goes to standard output, what to do with it to stderr.
    fn run(self) -> Result<(), CliError> {
        let config = self.file.load(Settings::default())?.config;
        let path = self.output.unwrap_or(config.checkpoint.key_file);
        checkpoint_key::create(&path)?;
        let hint = "keep a copy where it is safe, and give the same file to every replica: with another key the service \
                    cannot continue the log";
        // That nobody reads the hint is no failure: the key is there.
        let _ = writeln!(io::stderr(), "auditlog: a new key is in {}; {hint}", path.display());
        print(&path.display().to_string())
    }
}

impl ShowArgs {
    fn run(self) -> Result<(), CliError> {
        let flags = Settings { checkpoint: self.checkpoint, ..Settings::default() };
        let config = self.file.load(flags)?.config;
        print(&verifier_key(&config, &self.tenant, self.epoch)?)
    }
}

/// What the key is for, and in the last line the key.
fn verifier_key(config: &Config, tenant: &str, epoch: u32) -> Result<String, CliError> {
    let scope = tenant_scope(tenant)?;
    let name = epoch_name(&config.checkpoint.origin, tenant, epoch);
    let key = checkpoint_key::load(&config.checkpoint.key_file)?.verifier_key(&name);
    Ok(format!(
        "The log of {scope} is called {name}.\n\
         Its checkpoints are C2SP signed notes, and this is the key that verifies them:\n\
         {key}"
    ))
}

fn print(text: &str) -> Result<(), CliError> {
    writeln!(io::stdout(), "{text}").map_err(|error| CliError::Io("write to standard output", error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::VerifierKey;

    #[test]
    fn the_last_line_is_the_verifier_key_of_the_tenants_log() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.checkpoint.key_file = folder.path().join("checkpoint.key");
        config.checkpoint.origin = "audit.example.com".to_owned();
        checkpoint_key::create(&config.checkpoint.key_file).unwrap();
        let text = verifier_key(&config, "acme", 1).unwrap();
        let key = VerifierKey::parse(text.lines().last().unwrap()).unwrap();
        assert_eq!(key.name(), "audit.example.com/tenants/acme");
        let text = verifier_key(&config, "acme", 2).unwrap();
        let key = VerifierKey::parse(text.lines().last().unwrap()).unwrap();
        assert_eq!(key.name(), "audit.example.com/tenants/acme/epochs/2");
        for tenant in ["", "a b", "a/b", "tenants/acme", "a+b"] {
            assert!(matches!(verifier_key(&config, tenant, 1), Err(CliError::Tenant(_))), "{tenant}");
        }
    }
}
