//! An exported file.

use std::{
    fs::File,
    future::ready,
    io::{self, BufReader},
    path::PathBuf,
    pin::pin,
};

use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};

use crate::{
    cli::{CliError, progress::Progress, refuse_unused, remote::Remote},
    merkle::{Hash, VerifierKey, verify_inclusion},
    model::{
        Event,
        leaf::{self, leaf_hash},
    },
    proto::auditlog::v1::{GetInclusionProofRequest, proof_service_client::ProofServiceClient},
    verify::{BrokenOff, CsvRow, CsvRows, ExportReport, Findings, Manifest, Unreadable, check_export, row_name},
};

use super::{Report, coverage, saved};

/// How many proofs are asked for at once.
const CALLS_IN_FLIGHT: usize = 32;

#[derive(Debug, clap::Args)]
pub(super) struct ExportedArgs {
    /// Exported file to verify, instead of a log
    #[arg(id = "csv", long, value_name = "FILE", requires = "manifest")]
    pub(super) csv: Option<PathBuf>,
    /// Its manifest
    #[arg(id = "manifest", long, value_name = "FILE", requires = "csv")]
    manifest: Option<PathBuf>,
    /// Have the service prove that each row and note of the file is in the log; takes --address
    #[arg(id = "proofs", long, requires_all = ["csv", "address"])]
    pub(super) proofs: bool,
    /// Check the file against its manifest without knowing who has signed that: anybody may have made both
    #[arg(id = "unsigned", long, requires = "csv", conflicts_with = "verifier_key")]
    unsigned: bool,
    /// Demand that the file can be shown to have the whole log of a tenant: a filter, for example, is a finding
    #[arg(id = "whole", long, requires = "csv")]
    whole: bool,
}

impl ExportedArgs {
    /// Verifies the file; with a service, by its proofs too.
    pub(super) fn verify(
        &self,
        key: Option<&VerifierKey>,
        proofs: impl FnOnce(&Self, &Manifest, &mut Findings) -> Result<u64, CliError>,
    ) -> Result<Report, BrokenOff<CliError>> {
        if key.is_none() && !self.unsigned {
            return Err(CliError::NoVerifierKey.into());
        }
        let note = saved::read_text(self.manifest.as_deref().unwrap_or("".as_ref()))?;
        let file = self.open()?;
        let manifest = match Manifest::read(&note, key) {
            Ok(manifest) => manifest,
            Err(error) => {
                let mut findings = Findings::default();
                findings.add("the manifest", error);
                return Ok(Report::new(findings));
            }
        };
        let has_nothing_to_prove = self.proofs && !manifest.proof_columns;
        refuse_unused(&[(has_nothing_to_prove, "--proofs")], "on a file without proof columns")?;
        let mut export = check(file, &manifest).map_err(|broken_off| broken_off.map(|source| self.unread(source)))?;
        if self.whole {
            coverage::require_whole(&manifest, &mut export.findings);
        }
        let proved = match self.proofs.then(|| proofs(self, &manifest, &mut export.findings)).transpose() {
            Ok(proved) => proved,
            Err(error) => return Err(BrokenOff { findings: export.findings, error }),
        };
        if let Some(row) = export.unread {
            return Err(BrokenOff { findings: export.findings, error: CliError::Unread(row) });
        }
        let mut report = Report::new(export.findings);
        coverage::tell(&mut report, &manifest);
        report.line("rows", export.rows);
        report.line("leaves", export.leaves);
        coverage::explain(&mut report, &manifest, key, proved);
        Ok(report)
    }

    fn open(&self) -> Result<BufReader<File>, CliError> {
        let file = File::open(self.csv.as_deref().unwrap_or("".as_ref()));
        file.map(BufReader::new).map_err(|source| self.unread(source))
    }

    fn unread(&self, source: io::Error) -> CliError {
        CliError::File { what: "read", file: self.csv.clone().unwrap_or_default(), source }
    }

    /// Has each row and note proved. How many proofs held.
    pub(super) async fn prove(
        &self,
        remote: &Remote,
        manifest: &Manifest,
        findings: &mut Findings,
    ) -> Result<u64, CliError> {
        let rows = match CsvRows::open(self.open()?) {
            Ok(rows) => rows,
            Err(Unreadable::File(source)) => return Err(self.unread(source)),
            Err(Unreadable::Content(_)) => return Ok(0),
        };
        let prover = Prover { remote, manifest };
        let progress = Progress::new("proofs");
        let claims = claims(rows).map_err(|source| self.unread(source));
        let mut proofs = pin!(claims.map_ok(|claim| prover.prove(claim)).try_buffered(CALLS_IN_FLIGHT));
        let (mut asked, mut held) = (0, 0);
        while let Some(failed) = proofs.try_next().await? {
            asked += 1;
            progress.at(asked, asked);
            match failed {
                Some((name, problem)) => findings.add(name, problem),
                None => held += 1,
            }
        }
        progress.end();
        Ok(held)
    }
}

fn check(file: BufReader<File>, manifest: &Manifest) -> Result<ExportReport, BrokenOff<io::Error>> {
    let bytes = file.get_ref().metadata().map_or(0, |metadata| metadata.len());
    let progress = Progress::new("bytes");
    let report = check_export(file, manifest, |done| progress.at(done, bytes.max(done)));
    progress.end();
    report
}

/// That something of the file is a leaf of the log.
struct Claim {
    name: String,
    event: String,
    note_id: String,
    leaf_index: i64,
    leaf: Vec<u8>,
}

/// The claims of all rows.
fn claims(rows: CsvRows<BufReader<File>>) -> impl Stream<Item = io::Result<Claim>> {
    let rows = stream::try_unfold(rows, |mut rows| ready(next(&mut rows).map(|row| row.map(|row| (row, rows)))));
    rows.map_ok(|row| stream::iter(claims_of(row)).map(Ok)).try_flatten()
}

/// Rows that cannot be read were found already.
fn next(rows: &mut CsvRows<BufReader<File>>) -> io::Result<Option<CsvRow>> {
    match rows.next_row() {
        Err(Unreadable::File(error)) => Err(error),
        Err(Unreadable::Content(_)) => Ok(None),
        Ok(row) => Ok(row),
    }
}

fn claims_of(row: CsvRow) -> Vec<Claim> {
    let Ok(event) = &row.event else { return Vec::new() };
    let Event { name, sealed, notes, .. } = event;
    let row_name = row_name(row.number, &row.id);
    let mut claims = vec![Claim {
        name: row_name.clone(),
        event: name.to_string(),
        note_id: String::new(),
        leaf_index: sealed.leaf_index,
        leaf: leaf::of_event(event),
    }];
    claims.extend(notes.iter().map(|note| Claim {
        name: format!("the note {} in {row_name}", note.id),
        event: name.to_string(),
        note_id: note.id.to_string(),
        leaf_index: note.sealed.leaf_index,
        leaf: leaf::of_note(name, note),
    }));
    claims
}

struct Prover<'p> {
    remote: &'p Remote,
    manifest: &'p Manifest,
}

impl Prover<'_> {
    /// The claim's name and what is wrong with it, if something is.
    async fn prove(&self, claim: Claim) -> Result<Option<(String, String)>, CliError> {
        let client = ProofServiceClient::new(self.remote.channel.clone());
        let tree_size = i64::try_from(self.manifest.log_size).unwrap_or(i64::MAX);
        let request = GetInclusionProofRequest { name: claim.event, tree_size, note_id: claim.note_id };
        let send = |request| {
            let mut client = client.clone();
            async move { client.get_inclusion_proof(request).await }
        };
        let proof = match self.remote.call(request, send).await {
            Ok(proof) => proof,
            Err(CliError::Call { failed, .. }) if is_answer(&failed) => {
                return Ok(Some((claim.name, unproved(&failed))));
            }
            Err(error) => return Err(error),
        };
        if proof.leaf_index() != claim.leaf_index {
            let problem = format!("leaf_index {} is {} in the log", claim.leaf_index, proof.leaf_index());
            return Ok(Some((claim.name, problem)));
        }
        let hashes: Option<Vec<Hash>> = proof.hashes.into_iter().map(|hash| hash.try_into().ok()).collect();
        let (place, size) = (u64::try_from(claim.leaf_index).unwrap_or(u64::MAX), self.manifest.log_size);
        let root = &self.manifest.checkpoint.root;
        let holds = |hashes: Vec<Hash>| verify_inclusion(&leaf_hash(&claim.leaf), place, size, root, &hashes).is_ok();
        let problem = "a cell was changed: it does not make the leaf that the log has at its place";
        Ok((!hashes.is_some_and(holds)).then(|| (claim.name, problem.to_owned())))
    }
}

/// What its answer means. The service makes a row's leaf anew, and where that is not the one that it has sealed it can but
/// say that something is wrong within.
fn unproved(failed: &crate::client::CallFailed) -> String {
    match failed.code() {
        tonic::Code::Internal | tonic::Code::DataLoss => format!(
            "the service could not prove it, and the log may have been changed in its database: the operator sees what \
             by `auditlog verify --tenant` with --database-url ({failed})"
        ),
        _ => format!("the service does not prove it: {failed}"),
    }
}

/// Whether the service says something of the row, and not of the caller or itself.
fn is_answer(failed: &crate::client::CallFailed) -> bool {
    use tonic::Code::{DataLoss, FailedPrecondition, InvalidArgument, NotFound};
    matches!(failed.code(), NotFound | InvalidArgument | DataLoss | FailedPrecondition)
        || failed.code() == tonic::Code::Internal && !failed.is_temporary()
}
