//! The file while it is not complete, and what is needed to go on with it.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use prost::Message as _;
use sha2::{Digest as _, Sha256};

use crate::{
    cli::{CliError, whole_file},
    proto::auditlog::v1::ExportCsvRequest,
};

/// An export that is being written: `FILE.part`, and beside it `FILE.part.request`, the call that it came from.
pub(super) struct Part {
    output: PathBuf,
    file: File,
    rows: RowEnds,
    /// The log's size that the rows are of; 0 before the service has told it.
    pub(super) log_size: i64,
}

/// The file's manifest.
pub(super) fn manifest_of(output: &Path) -> PathBuf {
    beside(output, ".manifest")
}

/// The file's name with something behind it.
fn beside(output: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(output);
    name.push(suffix);
    name.into()
}

impl Part {
    /// Begins a file. Neither it nor its manifest nor an interrupted one may be there: they are not this program's to remove.
    pub(super) fn begin(output: &Path) -> Result<Self, CliError> {
        require_absent(output, "is there already")?;
        require_absent(&manifest_of(output), "is there already, and is the manifest of another file")?;
        let path = beside(output, ".part");
        require_absent(&path, "is of an export that was interrupted: go on with --resume, or remove it")?;
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).open(&path).map_err(failed("write", &path))?;
        Ok(Self { output: output.to_owned(), file, rows: RowEnds::default(), log_size: 0 })
    }

    /// Goes on with a file, if it is of the same call.
    pub(super) fn reopen(output: &Path, request: &ExportCsvRequest) -> Result<Self, CliError> {
        require_absent(output, "is there already: the export is complete")?;
        let (path, kept) = (beside(output, ".part"), beside(output, ".part.request"));
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(failed("resume", &path))?;
        let mut part = Self { output: output.to_owned(), file, rows: RowEnds::default(), log_size: 0 };
        if !kept.exists() {
            // It broke off before the service had answered.
            part.clear()?;
            return Ok(part);
        }
        let bytes = fs::read(&kept).map_err(failed("read", &kept))?;
        let stored =
            ExportCsvRequest::decode(&*bytes).map_err(|error| failed("read", &kept)(io::Error::other(error)))?;
        part.log_size = stored.log_size;
        let same = ExportCsvRequest { log_size: 0, ..stored };
        match same == *request {
            true => {
                io::copy(&mut BufReader::new(&part.file), &mut part.rows).map_err(failed("read", &path))?;
                Ok(part)
            }
            false => {
                Err(CliError::Output { file: path, problem: "is of another export: scope, filter or order differ" })
            }
        }
    }

    /// Remembers the call, with the log's size, before the first byte is written.
    pub(super) fn remember(&mut self, request: &ExportCsvRequest, log_size: i64) -> Result<(), CliError> {
        self.log_size = log_size;
        let kept = ExportCsvRequest { log_size, after_event_id: String::new(), ..request.clone() };
        let path = beside(&self.output, ".part.request");
        // Half of it would be another question, or none, and the file could not be gone on with.
        whole_file::replace(&path, &kept.encode_to_vec()).map_err(failed("write", &path))
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.file.write_all(bytes).map_err(failed("write", &beside(&self.output, ".part")))?;
        self.rows.pass(bytes);
        Ok(())
    }

    /// Drops what is behind the last complete row, and tells that row's event; `None` if there is none, and the file is
    /// empty then.
    pub(super) fn cut(&mut self) -> Result<Option<String>, CliError> {
        let (bytes, event_id) = self.rows.cut();
        if event_id.is_none() {
            self.clear()?;
            return Ok(None);
        }
        let mut cut = || {
            self.file.set_len(bytes)?;
            self.file.seek(io::SeekFrom::End(0))
        };
        cut().map_err(failed("write", &beside(&self.output, ".part")))?;
        Ok(event_id)
    }

    fn clear(&mut self) -> Result<(), CliError> {
        (self.log_size, self.rows) = (0, RowEnds::default());
        let mut clear = || {
            self.file.set_len(0)?;
            self.file.rewind()
        };
        clear().map_err(failed("write", &beside(&self.output, ".part")))
    }

    /// The hash of all that was written.
    pub(super) fn sha256(&mut self) -> Result<[u8; 32], CliError> {
        let mut hash = Sha256::new();
        let mut sum = || {
            self.file.rewind()?;
            io::copy(&mut BufReader::new(&self.file), &mut hash)?;
            self.file.seek(io::SeekFrom::End(0))
        };
        sum().map_err(failed("read", &beside(&self.output, ".part")))?;
        Ok(hash.finalize().into())
    }

    /// The rows that were written, without the header row.
    pub(super) fn rows(&self) -> u64 {
        self.rows.ends.saturating_sub(1)
    }

    /// The file is complete: gives it its name.
    pub(super) fn give_name(&self) -> Result<(), CliError> {
        let name = || {
            self.file.sync_all()?;
            whole_file::rename(&beside(&self.output, ".part"), &self.output)
        };
        name().map_err(|source| not_written(&self.output, source))
    }

    /// Does what is left once the file has its name. The request goes last: if the name does not outlive a power cut, it is
    /// what the export goes on with.
    pub(super) fn tidy(&self) -> Result<(), CliError> {
        let request = beside(&self.output, ".part.request");
        let tidied = whole_file::sync_folder(&self.output)
            .map_err(failed("write the folder of", &self.output))
            .and_then(|()| fs::remove_file(&request).map_err(failed("remove", &request)));
        tidied.map_err(|error| CliError::Untidy { file: self.output.clone(), error: Box::new(error) })
    }
}

/// An export that failed before a byte had come leaves nothing that the next one would stumble over.
impl Drop for Part {
    fn drop(&mut self) {
        if self.rows.bytes == 0 && self.file.metadata().is_ok_and(|file| file.len() == 0) {
            for suffix in [".part", ".part.request"] {
                // That one is left is as before.
                let _ = fs::remove_file(beside(&self.output, suffix));
            }
        }
    }
}

fn require_absent(path: &Path, problem: &'static str) -> Result<(), CliError> {
    match path.exists() {
        true => Err(CliError::Output { file: path.to_owned(), problem }),
        false => Ok(()),
    }
}

/// Why a file did not get its name, at the end of an export that is complete.
pub(super) fn not_written(file: &Path, source: io::Error) -> CliError {
    match source.kind() {
        io::ErrorKind::AlreadyExists => CliError::Output {
            file: file.to_owned(),
            problem: "is there already: move it away, and go on with --resume",
        },
        _ => failed("complete", file)(source),
    }
}

fn failed(what: &'static str, file: &Path) -> impl Fn(io::Error) -> CliError {
    move |source| CliError::File { what, file: file.to_owned(), source }
}

/// Follows what is written, and knows where the last complete row ends. In RFC 4180 a line's end is that of a row where as
/// many quotes have been opened as closed, and a doubled quote does both.
#[derive(Default)]
struct RowEnds {
    /// All bytes that have passed.
    bytes: u64,
    is_quoted: bool,
    /// How the row that is under way begins.
    begin: Vec<u8>,
    /// How many rows have ended, the header row included.
    ends: u64,
    /// Where the last one ended, and how it began.
    end: u64,
    last: Vec<u8>,
}

/// An event's id is the first cell, without quotes.
const ID_BYTES: usize = 36;

impl RowEnds {
    fn pass(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.bytes += 1;
            self.is_quoted ^= *byte == b'"';
            if *byte == b'\n' && !self.is_quoted {
                (self.ends, self.end) = (self.ends + 1, self.bytes);
                self.last = std::mem::take(&mut self.begin);
            } else if self.begin.len() < ID_BYTES {
                self.begin.push(*byte);
            }
        }
    }

    /// Forgets what came behind the last complete row: where that ended, and its event. The header row has none.
    fn cut(&mut self) -> (u64, Option<String>) {
        (self.bytes, self.is_quoted) = (self.end, false);
        self.begin.clear();
        let id = self.last.split(|byte| *byte == b',').next().unwrap_or_default();
        (self.end, (self.ends > 1).then(|| String::from_utf8_lossy(id).into_owned()))
    }
}

impl io::Write for RowEnds {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pass(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(text: &[u8]) -> (u64, Option<String>) {
        let mut ends = RowEnds::default();
        text.chunks(3).for_each(|chunk| ends.pass(chunk));
        ends.cut()
    }

    #[test]
    fn a_row_ends_at_a_line_end_outside_of_quotes() {
        let text = "id,text\r\n1,a\r\n2,\"b\r\nb\"\r\n3,\"c\r\n";
        assert_eq!(found(text.as_bytes()), (24, Some("2".to_owned())));
        for nothing in ["", "id,te", "id,text\r\n", "id,text\r\n1,a\r", "id,text\r\n1,\"a\r\n"] {
            assert_eq!(found(nothing.as_bytes()).1, None, "{nothing:?}");
        }
    }

    proptest! {
        /// Wherever a file breaks off, what is kept of it is whole rows, the last of which is the one that is named.
        #[test]
        fn what_is_kept_ends_with_the_row_that_is_named(
            cells in prop::collection::vec("[ab\"\r\n,ä]{0,4}", 1..6),
            cut in 0.0..1.0,
        ) {
            let mut whole = b"id,text\r\n".to_vec();
            let mut ends = Vec::new();
            for (n, cell) in cells.iter().enumerate() {
                whole.extend(format!("{n},\"{}\"\r\n", cell.replace('"', "\"\"")).bytes());
                ends.push(whole.len() as u64);
            }
            let part = &whole[..(whole.len() as f64 * cut) as usize];
            let complete = ends.iter().filter(|end| **end <= part.len() as u64).count();
            match found(part) {
                (bytes, Some(id)) => {
                    prop_assert_eq!(id.parse::<usize>().unwrap() + 1, complete);
                    prop_assert_eq!(bytes, ends[complete - 1]);
                }
                (_, None) => prop_assert_eq!(complete, 0),
            }
        }
    }
}
