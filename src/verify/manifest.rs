//! What the service has signed of an export. `docs/leaf-format.md` is its specification.

use std::fmt;

use serde::Deserialize;

use crate::{
    merkle::{Checkpoint, CheckpointError, VerifierKey, is_of_tenant, manifest_name_of, note_text},
    model::{Order, Scope, leaf::Hash},
};

const VERSION: &str = "auditlog export manifest v1";

/// A JSON object.
type Json = serde_json::Map<String, serde_json::Value>;

/// The third line.
#[derive(Deserialize)]
struct Statement {
    parent: String,
    filter: Option<Json>,
    filter_sha256: Option<String>,
    order: String,
    log_size: u64,
    proof_columns: bool,
    row_count: u64,
    sha256: String,
    checkpoint: String,
}

/// What an exported file is, by its manifest.
#[derive(Debug)]
pub struct Manifest {
    /// What was exported.
    pub parent: Scope,
    /// Which events of that.
    pub filter: ManifestFilter,
    /// The order of the rows.
    pub order: Order,
    /// Rows and notes with smaller places are in the file.
    pub log_size: u64,
    /// Whether the file has what a verifier needs.
    pub proof_columns: bool,
    /// Rows, without the header row.
    pub row_count: u64,
    /// Of the whole file.
    pub sha256: Hash,
    /// The head of the log at `log_size`.
    pub checkpoint: Checkpoint,
}

/// Which events were asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum ManifestFilter {
    /// In full; without a member it is no filter.
    Told(Json),
    /// The SHA-256 of a filter that is too long for a manifest.
    Hashed(Hash),
}

/// Why a text is no manifest, or not the one that it should be.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not signed as it should be.
    #[error(transparent)]
    Note(CheckpointError),
    /// Not in the form that this program knows.
    #[error("this is no export manifest of version 1: {0}")]
    Malformed(String),
    /// The checkpoint within.
    #[error("the checkpoint in the manifest: {0}")]
    Checkpoint(CheckpointError),
    /// Its parts contradict each other.
    #[error("the manifest contradicts itself: {0}")]
    Contradiction(String),
}

impl Manifest {
    /// Reads a manifest; with the key of the tenant's log, one that it has signed.
    pub fn read(note: &str, key: Option<&VerifierKey>) -> Result<Self, ManifestError> {
        let text = match key {
            Some(key) => key.under(&manifest_name_of(key.name())).and_then(|key| key.verify_note(note)),
            None => note_text(note),
        };
        let text = text.map_err(|error| match error {
            CheckpointError::Malformed => malformed("it is no signed note"),
            error => ManifestError::Note(error),
        })?;
        let lines: Vec<&str> = text.lines().collect();
        let [name, VERSION, statement] = lines[..] else {
            return Err(malformed(format!("its second line is not {VERSION:?}, or it has not three")));
        };
        let statement: Statement = serde_json::from_str(statement).map_err(|error| malformed(error.to_string()))?;
        Self::of(name, statement, key)
    }

    fn of(name: &str, statement: Statement, key: Option<&VerifierKey>) -> Result<Self, ManifestError> {
        let parent = Scope::parse(&statement.parent).map_err(|error| malformed(format!("parent {error}")))?;
        let checkpoint = Checkpoint::read(&statement.checkpoint, key).map_err(ManifestError::Checkpoint)?;
        require_one_log(name, &parent, statement.log_size, &checkpoint)?;
        let sha256 = hash("sha256", &statement.sha256)?;
        let order = Order::parse(&statement.order).ok_or_else(|| malformed("order is none"))?;
        let Statement { log_size, proof_columns, row_count, .. } = statement;
        let filter = statement.filter()?;
        Ok(Self { parent, filter, order, log_size, proof_columns, row_count, sha256, checkpoint })
    }

    /// Whether the file must have every leaf of the log.
    pub fn is_of_whole_log(&self) -> bool {
        self.filter.is_none() && self.parent.project().is_none()
    }
}

impl ManifestFilter {
    /// Whether every event was asked for.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::Told(filter) if filter.is_empty())
    }
}

impl fmt::Display for ManifestFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Told(filter) if filter.is_empty() => f.write_str("none"),
            Self::Told(filter) => f.write_str(&serde_json::to_string(filter).map_err(|_| fmt::Error)?),
            Self::Hashed(hash) => write!(f, "too long to be told, SHA-256 {}", hex::encode(hash)),
        }
    }
}

impl Statement {
    fn filter(self) -> Result<ManifestFilter, ManifestError> {
        match (self.filter, self.filter_sha256) {
            (Some(filter), None) => Ok(ManifestFilter::Told(filter)),
            (None, Some(sha256)) => Ok(ManifestFilter::Hashed(hash("filter_sha256", &sha256)?)),
            (None, None) => Err(malformed("it tells no filter")),
            (Some(_), Some(_)) => Err(malformed("it tells a filter twice")),
        }
    }
}

fn hash(member: &str, text: &str) -> Result<Hash, ManifestError> {
    let mut hash = [0; 32];
    hex::decode_to_slice(text, &mut hash).map_err(|_| malformed(format!("{member} is no hash")))?;
    Ok(hash)
}

/// The manifest's name, what was exported and the checkpoint are of one log.
fn require_one_log(name: &str, parent: &Scope, log_size: u64, checkpoint: &Checkpoint) -> Result<(), ManifestError> {
    let Checkpoint { origin, size, .. } = checkpoint;
    let contradiction = |what| Err(ManifestError::Contradiction(what));
    if name != manifest_name_of(origin) {
        return contradiction(format!("it is called {name}, and its checkpoint is of {origin}"));
    }
    if !is_of_tenant(origin, parent.tenant()) {
        return contradiction(format!("{parent} was exported, and its checkpoint is of {origin}"));
    }
    match *size == log_size {
        true => Ok(()),
        false => contradiction(format!("log_size {log_size}, and its checkpoint {size}")),
    }
}

fn malformed(what: impl Into<String>) -> ManifestError {
    ManifestError::Malformed(what.into())
}
