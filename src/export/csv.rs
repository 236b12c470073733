//! Events as CSV: RFC 4180, UTF-8, times as RFC 3339 in UTC.

use std::borrow::Cow;

use chrono::SecondsFormat;
use csv::{Terminator, Writer, WriterBuilder};
use serde::Serialize;

use super::json;
use crate::{
    model::{Actor, BodyView, EventView, Timestamp, UpdateNote, view::ContextView},
    store::StoreError,
};

const COLUMNS: [&str; 22] = [
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
];
const PROOF_COLUMNS: [&str; 4] = ["recorder_type", "recorder_name", "salt", "body_commitment"];

/// A note inside the cell `update_notes`.
#[derive(Serialize)]
struct NoteJson<'a> {
    note_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<&'a Actor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    create_time: String,
    leaf_index: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    salt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_commitment: Option<String>,
}

/// Writes one chunk of CSV into memory.
pub(super) struct CsvEncoder {
    proof_columns: bool,
    chunk: Writer<Vec<u8>>,
}

impl CsvEncoder {
    /// An empty chunk, with room for so many bytes.
    pub(super) fn with_capacity(bytes: usize, proof_columns: bool) -> Self {
        let chunk = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(Vec::with_capacity(bytes));
        Self { proof_columns, chunk }
    }

    /// Adds the header row.
    pub(super) fn header(&mut self) -> Result<(), StoreError> {
        let proof_columns = self.proof_columns.then_some(PROOF_COLUMNS).into_iter().flatten();
        self.chunk.write_record(COLUMNS.into_iter().chain(proof_columns)).map_err(unwritable)
    }

    /// Adds one event.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if its JSON is none that this service can read.
    pub(super) fn event(&mut self, event: &EventView<'_>) -> Result<(), StoreError> {
        for cell in cells(event, self.proof_columns)? {
            self.chunk.write_field(&*guarded(&cell)).map_err(unwritable)?;
        }
        self.chunk.write_record(None::<&[u8]>).map_err(unwritable)
    }

    /// What was written.
    pub(super) fn into_bytes(self) -> Result<Vec<u8>, StoreError> {
        self.chunk.into_inner().map_err(|error| unwritable(error.into_error()))
    }
}

/// Memory takes what is written, and every row has as many cells: so this is not to be.
fn unwritable(error: impl std::error::Error) -> StoreError {
    StoreError::Corrupt(format!("a row that is no CSV: {error}"))
}

/// Puts one `'` before a cell that a spreadsheet would take for a formula (and before one that begins with `'`, so that
/// dropping one always undoes it).
fn guarded(cell: &str) -> Cow<'_, str> {
    match cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\'']) {
        true => Cow::Owned(format!("'{cell}")),
        false => Cow::Borrowed(cell),
    }
}

fn cells<'r>(event: &EventView<'r>, proof_columns: bool) -> serde_json::Result<Vec<Cow<'r, str>>> {
    let mut cells = Vec::with_capacity(COLUMNS.len() + PROOF_COLUMNS.len());
    cells.extend([
        event.id.to_string().into(),
        event.id.time().to_rfc3339_opts(SecondsFormat::Millis, true).into(),
        micros(event.sealed.record_time).into(),
        event.tenant.into(),
        event.project.into(),
        event.action.as_str().into(),
        event.resource_type.into(),
    ]);
    match &event.body {
        Ok(body) => cells.extend(body_cells(body)?),
        Err(_) => cells.extend([const { Cow::Borrowed("") }; 13]),
    }
    cells.push(notes_json(event.notes, proof_columns));
    cells.push(event.sealed.leaf_index.to_string().into());
    if proof_columns {
        cells.extend(proof_cells(event));
    }
    Ok(cells)
}

fn body_cells<'r>(body: &BodyView<'r>) -> serde_json::Result<[Cow<'r, str>; 13]> {
    let ContextView { source_ip, user_agent, request_id, trace_id } = body.context()?.unwrap_or_default();
    Ok([
        body.resource_id.into(),
        body.resource_name.into(),
        body.actor.kind.as_str().into(),
        body.actor.id.into(),
        body.actor.name.into(),
        body.recorder.id.into(),
        body.message.into(),
        rewritten(body.changes, &body.changes()?),
        source_ip.into(),
        user_agent.into(),
        request_id.into(),
        trace_id.into(),
        rewritten(body.attributes, &body.attributes()?),
    ])
}

/// JSON as this service writes it, whatever `stored` has beside what was read from it. Mostly there is nothing in it.
fn rewritten<'r>(stored: &'r str, read: &impl Serialize) -> Cow<'r, str> {
    match stored {
        "[]" | "{}" => stored.into(),
        _ => json(read).into(),
    }
}

/// An erased event has its commitment instead of a salt.
fn proof_cells<'r>(event: &EventView<'r>) -> [Cow<'r, str>; 4] {
    match &event.body {
        Ok(BodyView { recorder, salt, .. }) => {
            [recorder.kind.as_str().into(), recorder.name.into(), hex::encode(salt).into(), "".into()]
        }
        Err(_) => ["".into(), "".into(), "".into(), hex::encode(event.sealed.body_commitment).into()],
    }
}

fn notes_json(notes: &[UpdateNote], proof_columns: bool) -> Cow<'static, str> {
    if notes.is_empty() {
        return "[]".into();
    }
    let note = |note: &UpdateNote| {
        let body = note.body.as_ref();
        let shown = NoteJson {
            note_id: note.id.to_string(),
            author: body.map(|body| &body.author),
            text: body.map(|body| body.text.as_str()),
            create_time: micros(note.sealed.record_time),
            leaf_index: note.sealed.leaf_index,
            salt: body.filter(|_| proof_columns).map(|body| hex::encode(body.salt)),
            body_commitment: body.is_none().then(|| hex::encode(note.sealed.body_commitment)),
        };
        json(&shown)
    };
    format!("[{}]", notes.iter().map(note).collect::<Vec<_>>().join(",")).into()
}

fn micros(time: Timestamp) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_guarded_cell_is_no_formula_and_dropping_one_quote_undoes_it(cell in "[=+@'\t\r\n\"a,-]{0,6}|.*") {
            let guarded = guarded(&cell);
            prop_assert!(!guarded.starts_with(['=', '+', '-', '@', '\t', '\r']));
            prop_assert_eq!(guarded.strip_prefix('\'').unwrap_or(&guarded), &cell);
        }
    }
}
