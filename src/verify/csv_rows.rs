//! From the rows of an exported file back to events, as section 8 of `docs/leaf-format.md` says.

use std::{
    collections::BTreeMap,
    io::{self, Read},
};

use chrono::{DateTime, SecondsFormat, Utc};
use csv::{ReaderBuilder, StringRecord};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::model::{
    ActionType, Actor, ActorType, Content, Erasure, Event, EventBody, EventName, FieldChange, NoteBody, RequestContext,
    Resource, Scope, Sealed, TimeId, Timestamp, UpdateNote, leaf::Hash,
};

/// The columns of an export with what a verifier needs, in their order: said once more, so that a mistake in the export's own
/// list is found here and not repeated.
const COLUMNS: [&str; 26] = [
    "event_id",
    "event_time",
    "record_time",
    "tenant_id",
    "project_id",
    "action_type",
    "resource_type",
    "resource_id",
    "resource_name",
    "actor_type",
    "actor_id",
    "actor_name",
    "recorder_id",
    "message",
    "changes",
    "source_ip",
    "user_agent",
    "request_id",
    "trace_id",
    "attributes",
    "update_notes",
    "leaf_index",
    "recorder_type",
    "recorder_name",
    "salt",
    "body_commitment",
];
/// How many of them every export has.
const PLAIN_COLUMNS: usize = 22;
/// By default no row of an export is longer, by far: an event has at most 64 KiB, and 100 notes of 4 KiB. A quote too many makes
/// one row of all that follows, and that must not be kept in memory.
const MAX_ROW_BYTES: usize = 16 << 20;

/// Reads an exported file row by row, and hashes its bytes on the way.
pub struct CsvRows<R> {
    reader: csv::Reader<Counted<R>>,
    record: StringRecord,
    /// Whether the columns for verifiers are there.
    proof_columns: bool,
    rows: u64,
}

/// One row.
#[derive(Debug)]
pub struct CsvRow {
    /// From 1, without the header row.
    pub number: u64,
    /// The first cell, which should be the event's id.
    pub id: String,
    /// The event, or the column that is wrong, and why.
    pub event: Result<Event, String>,
}

/// Why a file cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// The file cannot be had, which says nothing of what stands in it.
    #[error(transparent)]
    File(io::Error),
    /// What stands in it.
    #[error("{0}")]
    Content(String),
}

impl From<csv::Error> for Unreadable {
    fn from(error: csv::Error) -> Self {
        let text = error.to_string();
        match error.into_kind() {
            csv::ErrorKind::Io(error) if !error.get_ref().is_some_and(|inner| inner.is::<TooLong>()) => {
                Self::File(error)
            }
            _ => Self::Content(text),
        }
    }
}

/// A row has no end in sight. Of all errors that reading comes to, it alone is one of what stands in the file.
#[derive(Debug, thiserror::Error)]
#[error(
    "is longer than 16 MiB, more than is read of one row: a quote is missing or too many, or the service's limits are that high"
)]
struct TooLong;

/// Hashes what passes, and stops at a row that would not end.
struct Counted<R> {
    inner: R,
    hash: Sha256,
    bytes: u64,
    left: usize,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::Error::other(TooLong));
        }
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        self.bytes += count as u64;
        self.left = self.left.saturating_sub(count);
        Ok(count)
    }
}

impl<R: Read> CsvRows<R> {
    /// Reads the header row. The error is what is wrong with it.
    pub fn open(file: R) -> Result<Self, Unreadable> {
        let counted = Counted { inner: file, hash: Sha256::new(), bytes: 0, left: MAX_ROW_BYTES };
        let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(counted);
        let mut record = StringRecord::new();
        reader.read_record(&mut record)?;
        let proof_columns = record.len() > PLAIN_COLUMNS;
        let expected = if proof_columns { &COLUMNS[..] } else { &COLUMNS[..PLAIN_COLUMNS] };
        let differs = record.iter().zip(expected).find(|(found, expected)| found != *expected);
        match differs {
            Some((found, expected)) => Err(Unreadable::Content(format!("has {found:?} in place of {expected}"))),
            None if record.len() != expected.len() => Err(Unreadable::Content(format!("has {} columns", record.len()))),
            None => Ok(Self { reader, record, proof_columns, rows: 0 }),
        }
    }

    /// Whether the events can be made from the rows.
    pub fn has_proof_columns(&self) -> bool {
        self.proof_columns
    }

    /// Bytes that were read so far.
    pub fn bytes(&self) -> u64 {
        self.reader.get_ref().bytes
    }

    /// Of all bytes that were read so far.
    pub fn sha256(&self) -> Hash {
        self.reader.get_ref().hash.clone().finalize().into()
    }

    /// The next row; an error if the file cannot be read on.
    pub fn next_row(&mut self) -> Result<Option<CsvRow>, Unreadable> {
        self.reader.get_mut().left = MAX_ROW_BYTES;
        let number = self.rows + 1;
        match self.reader.read_record(&mut self.record) {
            Ok(false) => return Ok(None),
            Err(error) if !matches!(error.kind(), csv::ErrorKind::Utf8 { .. }) => return Err(error.into()),
            Err(error) => {
                self.rows = number;
                return Ok(Some(CsvRow { number, id: String::new(), event: Err(error.to_string()) }));
            }
            Ok(true) => self.rows = number,
        }
        let id = self.record.get(0).unwrap_or_default().to_owned();
        Ok(Some(CsvRow { number, id, event: self.event() }))
    }

    /// Passes over the rest of the file, so that the sum of its bytes is known.
    pub fn skip_rest(&mut self) -> io::Result<()> {
        let rest = self.reader.get_mut();
        rest.left = usize::MAX;
        io::copy(rest, &mut io::sink()).map(|_| ())
    }

    fn event(&self) -> Result<Event, String> {
        let expected = if self.proof_columns { COLUMNS.len() } else { PLAIN_COLUMNS };
        match self.record.len() {
            count if count != expected => Err(format!("has {count} cells instead of {expected}")),
            _ => Cells(&self.record).event(),
        }
    }
}

/// The cells of one row.
struct Cells<'r>(&'r StringRecord);

impl<'r> Cells<'r> {
    /// A cell without the `'` that keeps spreadsheets from executing it.
    fn cell(&self, column: &'static str) -> &'r str {
        let place = COLUMNS.iter().position(|name| *name == column);
        let cell = place.and_then(|place| self.0.get(place)).unwrap_or_default();
        cell.strip_prefix('\'').unwrap_or(cell)
    }

    fn text(&self, column: &'static str) -> String {
        self.cell(column).to_owned()
    }

    fn parse<T>(&self, column: &'static str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, String> {
        let cell = self.cell(column);
        parse(cell).ok_or_else(|| format!("{column}: {cell:?} is not what the service writes"))
    }

    fn event(&self) -> Result<Event, String> {
        let id = self.parse("event_id", |text| TimeId::parse(text).ok())?;
        self.parse("event_time", |text| (text == millis(id.time())).then_some(()))?;
        let project = Some(self.cell("project_id")).filter(|project| !project.is_empty());
        let scope = self.parse("tenant_id", |tenant| Scope::new(tenant, None).ok())?;
        let scope = self.parse("project_id", |_| Scope::new(scope.tenant(), project).ok())?;
        let name = EventName { scope, id };
        let is_erased = self.cell("salt").is_empty();
        let body = if is_erased { Err(self.erased()?) } else { Ok(self.body()?) };
        let sealed = Sealed {
            record_time: self.parse("record_time", time)?,
            leaf_index: self.parse("leaf_index", index)?,
            body_commitment: match is_erased {
                true => self.parse("body_commitment", bytes)?,
                false => self.parse("body_commitment", |text| text.is_empty().then_some([0; 32]))?,
            },
        };
        let notes = self.notes()?;
        let action = self.parse("action_type", ActionType::parse)?;
        Ok(Event { name, action, resource_type: self.text("resource_type"), sealed, body, notes })
    }

    /// The cells of the body are empty then.
    fn erased(&self) -> Result<Erasure, String> {
        let of_body = |column: &&str| {
            let is_kept = ["event_id", "event_time", "record_time", "tenant_id", "project_id", "action_type"];
            let is_kept = is_kept.contains(column)
                || ["resource_type", "update_notes", "leaf_index", "body_commitment"].contains(column);
            !is_kept
        };
        for column in COLUMNS.into_iter().filter(of_body) {
            self.parse(column, |text| text.is_empty().then_some(()))?;
        }
        Ok(Erasure { time: Timestamp::UNIX_EPOCH, reason: String::new() })
    }

    fn body(&self) -> Result<EventBody, String> {
        let context = RequestContext {
            source_ip: self.text("source_ip"),
            user_agent: self.text("user_agent"),
            request_id: self.text("request_id"),
            trace_id: self.text("trace_id"),
        };
        let content = Content {
            resource: Resource {
                kind: self.text("resource_type"),
                id: self.text("resource_id"),
                name: self.text("resource_name"),
            },
            actor: self.actor("actor_type", "actor_id", "actor_name")?,
            message: self.text("message"),
            changes: self.parse("changes", canonical::<Vec<FieldChange>>)?,
            context: Some(context).filter(|context| *context != RequestContext::default()),
            attributes: self.parse("attributes", canonical::<BTreeMap<String, String>>)?,
        };
        let recorder = self.actor("recorder_type", "recorder_id", "recorder_name")?;
        Ok(EventBody { content, recorder, salt: self.parse("salt", bytes)? })
    }

    fn actor(&self, kind: &'static str, id: &'static str, name: &'static str) -> Result<Actor, String> {
        Ok(Actor { kind: self.parse(kind, ActorType::parse)?, id: self.text(id), name: self.text(name) })
    }

    fn notes(&self) -> Result<Vec<UpdateNote>, String> {
        let notes: Vec<NoteJson> = serde_json::from_str(self.cell("update_notes"))
            .map_err(|error| format!("update_notes: is not the JSON expected: {error}"))?;
        let note = |note: NoteJson| {
            let id = note.note_id.clone();
            note.into_note().ok_or_else(|| format!("update_notes: the note {id} is not what the service writes"))
        };
        notes.into_iter().map(note).collect()
    }
}

/// A note inside the cell `update_notes`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoteJson {
    note_id: String,
    author: Option<AuthorJson>,
    text: Option<String>,
    create_time: String,
    leaf_index: i64,
    salt: Option<String>,
    body_commitment: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AuthorJson {
    r#type: String,
    id: String,
    name: String,
}

impl NoteJson {
    fn into_note(self) -> Option<UpdateNote> {
        let (body, body_commitment) = match (self.author, self.text, self.salt, self.body_commitment) {
            (Some(author), Some(text), Some(salt), None) => {
                let author = Actor { kind: ActorType::parse(&author.r#type)?, id: author.id, name: author.name };
                (Some(NoteBody { author, text, salt: bytes(&salt)? }), [0; 32])
            }
            (None, None, None, Some(commitment)) => (None, bytes(&commitment)?),
            _ => return None,
        };
        let leaf_index = Some(self.leaf_index).filter(|index| *index >= 0)?;
        let sealed = Sealed { record_time: time(&self.create_time)?, leaf_index, body_commitment };
        Some(UpdateNote { id: TimeId::parse(&self.note_id).ok()?, sealed, body })
    }
}

/// JSON that is written as the service writes it: what is written in another way was changed.
fn canonical<T: serde::Serialize + for<'de> Deserialize<'de>>(text: &str) -> Option<T> {
    let value: T = serde_json::from_str(text).ok()?;
    (serde_json::to_string(&value).ok()? == text).then_some(value)
}

fn millis(time: Timestamp) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// A time to the microsecond, in the one way to write it.
fn time(text: &str) -> Option<Timestamp> {
    let time = DateTime::parse_from_rfc3339(text).ok()?.with_timezone(&Utc);
    (time.to_rfc3339_opts(SecondsFormat::Micros, true) == text).then_some(time)
}

fn index(text: &str) -> Option<i64> {
    let index = text.parse().ok().filter(|index| *index >= 0)?;
    (i64::to_string(&index) == text).then_some(index)
}

fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    (hex::encode(bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk that fails.
    struct Broken;

    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk fails"))
        }
    }

    #[test]
    fn a_disk_that_fails_is_told_from_what_stands_on_it() {
        let header = COLUMNS.join(",") + "\r\n";
        let open = |rest: &'static str| CsvRows::open(io::Cursor::new(header.clone() + rest).chain(Broken));
        assert!(matches!(CsvRows::open(Broken), Err(Unreadable::File(_))));
        for rest in ["", "a,b", "\"a"] {
            assert!(matches!(open(rest).unwrap().next_row(), Err(Unreadable::File(_))), "{rest:?}");
        }
        let endless = io::Cursor::new(header.clone()).chain(io::repeat(b'a')).chain(Broken);
        assert!(matches!(CsvRows::open(endless).unwrap().next_row(), Err(Unreadable::Content(_))));
    }
}
