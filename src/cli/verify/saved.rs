//! The checkpoint that was saved earlier, and the one to save now.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    cli::{CliError, whole_file},
    merkle::{Checkpoint, VerifierKey, is_of_tenant},
};

/// A checkpoint has some 300 bytes; with many signatures and extensions a few thousand.
const MAX_BYTES: u64 = 1 << 20;

#[derive(Debug, clap::Args)]
pub(super) struct SavedArgs {
    /// Checkpoint that was saved earlier: the log must extend it
    #[arg(id = "checkpoint", long = "checkpoint", value_name = "FILE", conflicts_with = "csv")]
    pub(super) read: Option<PathBuf>,
    /// File to save the present checkpoint in, if all holds; takes --address, since only the service signs
    #[arg(id = "write_checkpoint", long = "write-checkpoint", value_name = "FILE", conflicts_with = "csv")]
    pub(super) write: Option<PathBuf>,
}

impl SavedArgs {
    /// Reads the saved checkpoint, which must be of the tenant's log.
    pub(super) fn read(&self, tenant: &str, key: Option<&VerifierKey>) -> Result<Option<Checkpoint>, CliError> {
        let Some(path) = &self.read else { return Ok(None) };
        if self.write.is_some() && !path.exists() {
            return Err(CliError::NoSavedCheckpoint(path.clone()));
        }
        // Tools such as jq and echo put a line's end behind what ends with one already.
        let text = format!("{}\n", read_text(path)?.trim_end_matches('\n'));
        let checkpoint =
            Checkpoint::read(&text, key).map_err(|error| CliError::Checkpoint { file: path.clone(), error })?;
        match is_of_tenant(&checkpoint.origin, tenant) {
            true => Ok(Some(checkpoint)),
            false => {
                Err(CliError::OtherLog { file: path.clone(), found: checkpoint.origin, tenant: tenant.to_owned() })
            }
        }
    }
}

/// Reads a small file of text.
pub(super) fn read_text(path: &Path) -> Result<String, CliError> {
    let failed = |source| CliError::File { what: "read", file: path.to_owned(), source };
    match fs::metadata(path).map_err(failed)?.len() {
        ..=MAX_BYTES => fs::read_to_string(path).map_err(failed),
        _ => Err(failed(io::Error::other("the file is too large to be a signed note"))),
    }
}

/// Writes the checkpoint, in the place of an earlier one.
pub(super) fn write(path: &Path, checkpoint: &str) -> Result<(), CliError> {
    let failed = |source| CliError::File { what: "write", file: path.to_owned(), source };
    whole_file::replace(path, checkpoint.as_bytes()).map_err(failed)
}
