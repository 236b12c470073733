//! `auditlog verify`: holds a log, or an exported file, against what was sealed.

mod client;
mod coverage;
mod database;
mod difference;
mod exported;
mod report;
mod saved;
mod walk;

use crate::{
    config::settings::DatabaseSettings,
    merkle::{Checkpoint, CheckpointError, VerifierKey},
    verify::{Expected, Findings, Manifest},
};

use self::report::Report;
use super::{
    CliError, FileArg, refuse_unused,
    remote::{RemoteArgs, block_on},
};

const EXPLAINED: &str = "\
A tenant's log, as its service shows it or straight from the database:
  auditlog verify --tenant acme --address https://audit.example.com --token-file token
  auditlog verify --tenant acme --database-url sqlite://auditlog.db

An exported file, with the manifest that auditlog export has put beside it:
  auditlog verify --csv acme.csv --manifest acme.csv.manifest --verifier-key KEY

Give the verifier key that the operator has printed with auditlog key show, not one that
comes from the server that you check. What was shown, and what was not, stands in the
last lines of the output.

Exit codes: 0 all holds, 1 it could not be checked, 2 wrong command line or settings,
3 it does not hold: the output names what is wrong.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXPLAINED)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    file: FileArg,
    /// The tenant whose log to verify, as in tenants/{tenant}
    #[arg(id = "tenant", long, value_name = "ID", required_unless_present = "csv", conflicts_with = "csv")]
    tenant: Option<String>,
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(flatten)]
    database: DatabaseSettings,
    #[command(flatten)]
    saved: saved::SavedArgs,
    /// Accept a log that has no leaf, or is not there
    #[arg(id = "allow_empty", long = "allow-empty", conflicts_with = "csv")]
    allow_empty: bool,
    #[command(flatten)]
    exported: exported::ExportedArgs,
    /// Key of the tenant's log, which must have signed: name+hash+base64, as auditlog key show prints it in its last line
    #[arg(id = "verifier_key", long = "verifier-key", value_name = "KEY", value_parser = verifier_key)]
    verifier_key: Option<VerifierKey>,
}

impl VerifyArgs {
    pub(super) fn run(self) -> Result<(), CliError> {
        self.refuse_unused()?;
        match (&self.tenant, &self.remote.address) {
            (None, _) => self.verify_export(),
            (Some(tenant), Some(_)) => self.verify_service(tenant),
            (Some(tenant), None) => self.verify_database(tenant),
        }
    }

    fn refuse_unused(&self) -> Result<(), CliError> {
        self.remote.refuse_unused()?;
        let DatabaseSettings { migrate, start_wait, pool_size, .. } = &self.database;
        let unused = [
            (migrate.is_some(), "--database-migrate"),
            (start_wait.is_some(), "--database-start-wait"),
            (pool_size.is_some(), "--database-pool-size"),
        ];
        refuse_unused(&unused, "here")?;
        let has_database = self.database != DatabaseSettings::default();
        let is_of_service = self.tenant.is_some() && self.remote.address.is_some();
        if is_of_service && (self.database.url.is_some() || self.database.url_file.is_some()) {
            return Err(CliError::TwoLogs);
        }
        refuse_unused(&[(has_database && is_of_service, "--database-statement-timeout")], "with --address")?;
        let is_of_file = self.tenant.is_none();
        refuse_unused(&[(has_database && is_of_file, "what begins with --database")], "with --csv")?;
        let asks_nobody = is_of_file && self.remote.address.is_some() && !self.exported.proofs;
        refuse_unused(&[(asks_nobody, "--address")], "with --csv and without --proofs")
    }

    fn verify_export(&self) -> Result<(), CliError> {
        let key = self.verifier_key.as_ref();
        let prove = |exported: &exported::ExportedArgs, manifest: &Manifest, findings: &mut Findings| {
            block_on(async { exported.prove(&self.remote.connect()?, manifest, findings).await })
        };
        self.exported.verify(key, prove).or_else(Report::of_broken_off)?.print()
    }

    fn verify_service(&self, tenant: &str) -> Result<(), CliError> {
        let saved = self.read_saved(tenant)?;
        let question = client::Question { tenant, key: self.verifier_key.as_ref(), saved: saved.as_ref() };
        let answer = match block_on(async { client::verify(&self.remote.connect()?, &question).await }) {
            Ok(answer) => answer,
            Err(broken_off) => return Report::of_broken_off(broken_off)?.print(),
        };
        self.require_log(&answer.report, tenant)?;
        answer.report.print()?;
        match &self.saved.write {
            Some(path) => saved::write(path, &answer.checkpoint),
            None => Ok(()),
        }
    }

    fn verify_database(&self, tenant: &str) -> Result<(), CliError> {
        if self.saved.write.is_some() {
            return Err(CliError::OnlyServiceSigns);
        }
        let saved = self.read_saved(tenant)?;
        let key = self.verifier_key.as_ref().and_then(VerifierKey::public_key);
        let expected = Expected { saved: saved.as_ref(), key };
        let report = database::verify(&self.file, &self.database, tenant, expected).or_else(Report::of_broken_off)?;
        self.require_log(&report, tenant)?;
        report.print()
    }

    fn require_log(&self, report: &Report, tenant: &str) -> Result<(), CliError> {
        if self.allow_empty { Ok(()) } else { report.require_log(tenant) }
    }

    fn read_saved(&self, tenant: &str) -> Result<Option<Checkpoint>, CliError> {
        let key = self.verifier_key.as_ref();
        super::require_tenant(tenant, key)?;
        match self.saved.read(tenant, key) {
            // What somebody has changed is a finding wherever it is found.
            Err(CliError::Checkpoint { file, error }) if error.is_of_signature() => {
                let mut findings = Findings::default();
                findings.add(format!("the checkpoint in {}", file.display()), error);
                Report::new(findings).print().map(|()| None)
            }
            read => read,
        }
    }
}

fn verifier_key(text: &str) -> Result<VerifierKey, CheckpointError> {
    VerifierKey::parse(text)
}
