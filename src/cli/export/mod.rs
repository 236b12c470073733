//! `auditlog export`: a CSV file that proves itself, with its manifest beside it.

mod agreement;
mod download;
mod part;
mod request;

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use self::{
    download::{Complete, Download, MAX_SILENCE},
    part::Part,
    request::WhatArgs,
};
use super::{
    CliError,
    remote::{RemoteArgs, block_on},
    whole_file,
};

const EXPLAINED: &str = "\
Rows go to FILE.part until the last one has come and all sums agree; only then it becomes
FILE, with FILE.manifest beside it. A connection that breaks is taken up where it broke. If the
command itself is interrupted, the same command with --resume goes on.

  auditlog verify --csv FILE --manifest FILE.manifest --verifier-key KEY
shows what the file proves.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXPLAINED)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    what: WhatArgs,
    /// File to write; neither it nor its manifest may be there yet
    #[arg(id = "output", long, value_name = "FILE")]
    output: PathBuf,
    /// Go on with an export that was interrupted
    #[arg(id = "resume", long)]
    resume: bool,
    /// How often to try again when a connection breaks before anything more has come
    #[arg(id = "retries", long, value_name = "N", default_value_t = 8)]
    retries: u32,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl ExportArgs {
    pub(super) fn run(self) -> Result<(), CliError> {
        if self.remote.address.is_none() {
            return Err(CliError::NoAddress);
        }
        self.remote.refuse_unused()?;
        let request = self.what.request();
        let part = match self.resume {
            true => Part::reopen(&self.output, &request)?,
            false => Part::begin(&self.output)?,
        };
        let work = async {
            let remote = self.remote.connect()?;
            Download { remote: &remote, request, part, retries: self.retries, silence: MAX_SILENCE }.run().await
        };
        let complete = block_on(work)?;
        let manifest = part::manifest_of(&self.output);
        publish(&complete, &manifest)?;
        let tidied = complete.part.tidy();
        print(&self.output, &manifest, &complete).map_err(|error| CliError::Io("write to standard output", error))?;
        tidied
    }
}

/// Gives the file its name. Its manifest comes first, because a file without one looks like one that has none.
fn publish(complete: &Complete, manifest: &Path) -> Result<(), CliError> {
    let is_new = match &complete.manifest {
        Some(note) => write_manifest(manifest, note)?,
        None => false,
    };
    complete.part.give_name().inspect_err(|_| {
        if is_new {
            // If it stays, the next attempt finds that it is its own.
            let _ = fs::remove_file(manifest);
        }
    })
}

/// Writes the manifest, which may be there already: then an earlier attempt ended before the file had its name. Whether it was
/// written now.
fn write_manifest(path: &Path, note: &str) -> Result<bool, CliError> {
    match whole_file::create(path, note.as_bytes()) {
        Ok(()) => Ok(true),
        Err(_) if fs::read(path).is_ok_and(|there| there == note.as_bytes()) => Ok(false),
        Err(source) => Err(part::not_written(path, source)),
    }
}

fn print(output: &Path, manifest: &Path, complete: &Complete) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "file: {}", output.display())?;
    writeln!(out, "rows: {}", complete.rows)?;
    writeln!(out, "sha256: {}", hex::encode(complete.sha256))?;
    writeln!(out, "log size: {}", complete.log_size)?;
    match &complete.manifest {
        Some(_) => writeln!(out, "manifest: {}", manifest.display())?,
        None => writeln!(out, "manifest: none; the service has sent none, as one without a key does")?,
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file has its name by then, and without its manifest it would prove nothing.
    #[test]
    fn a_file_that_has_its_name_keeps_its_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("a.csv");
        let manifest = part::manifest_of(&output);
        let mut part = Part::begin(&output).unwrap();
        part.write(b"event_id\r\n").unwrap();
        // A folder cannot be removed as a file is.
        fs::create_dir(folder.path().join("a.csv.part.request")).unwrap();
        let complete = Complete { part, rows: 0, sha256: [0; 32], log_size: 1, manifest: Some("signed".to_owned()) };
        publish(&complete, &manifest).unwrap();
        let failed = complete.part.tidy().unwrap_err();
        assert_eq!(fs::read(&output).unwrap(), b"event_id\r\n");
        assert_eq!(fs::read_to_string(&manifest).unwrap(), "signed");
        assert!(failed.to_string().contains("a.csv is complete"), "{failed}");
    }
}
