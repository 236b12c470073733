//! Events as CSV: RFC 4180, UTF-8, times as RFC 3339 in UTC.

use std::borrow::Cow;

use chrono::SecondsFormat;
use csv::{Terminator, Writer, WriterBuilder};
use serde::Serialize;

use crate::model::{Actor, Event, EventBody, Timestamp, UpdateNote};

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

/// Writes CSV into memory, a chunk at a time.
pub(super) struct CsvEncoder {
    proof_columns: bool,
    chunk: Writer<Vec<u8>>,
}

impl CsvEncoder {
    pub(super) fn new(proof_columns: bool) -> Self {
        Self { proof_columns, chunk: new_chunk() }
    }

    /// Adds the header row.
    pub(super) fn header(&mut self) -> Result<(), csv::Error> {
        let proof_columns = self.proof_columns.then_some(PROOF_COLUMNS).into_iter().flatten();
        self.chunk.write_record(COLUMNS.into_iter().chain(proof_columns))
    }

    /// Adds one event.
    pub(super) fn event(&mut self, event: &Event) -> Result<(), csv::Error> {
        for cell in cells(event, self.proof_columns) {
            self.chunk.write_field(&*guarded(&cell))?;
        }
        self.chunk.write_record(None::<&[u8]>)
    }

    /// Takes out what was added since the last time.
    pub(super) fn take(&mut self) -> Result<Vec<u8>, csv::Error> {
        let chunk = std::mem::replace(&mut self.chunk, new_chunk());
        chunk.into_inner().map_err(|error| csv::Error::from(error.into_error()))
    }
}

fn new_chunk() -> Writer<Vec<u8>> {
    WriterBuilder::new().terminator(Terminator::CRLF).from_writer(Vec::new())
}

/// Puts one `'` before a cell that a spreadsheet would take for a formula (and before one that begins with `'`, so that
/// dropping one always undoes it).
fn guarded(cell: &str) -> Cow<'_, str> {
    match cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\'']) {
        true => Cow::Owned(format!("'{cell}")),
        false => Cow::Borrowed(cell),
    }
}

fn cells(event: &Event, proof_columns: bool) -> Vec<Cow<'_, str>> {
    let scope = &event.name.scope;
    let mut cells = vec![
        event.name.id.to_string().into(),
        event.name.id.time().to_rfc3339_opts(SecondsFormat::Millis, true).into(),
        micros(event.sealed.record_time).into(),
        scope.tenant().into(),
        scope.project().unwrap_or_default().into(),
        event.action.as_str().into(),
        event.resource_type.as_str().into(),
    ];
    match &event.body {
        Ok(body) => cells.extend(body_cells(body)),
        Err(_) => cells.extend([const { Cow::Borrowed("") }; 13]),
    }
    cells.push(notes_json(&event.notes, proof_columns).into());
    cells.push(event.sealed.leaf_index.to_string().into());
    if proof_columns {
        cells.extend(proof_cells(event));
    }
    cells
}

fn body_cells(body: &EventBody) -> [Cow<'_, str>; 13] {
    let content = &body.content;
    let context = |field: fn(&crate::model::RequestContext) -> &str| content.context.as_ref().map_or("", field).into();
    [
        content.resource.id.as_str().into(),
        content.resource.name.as_str().into(),
        content.actor.kind.as_str().into(),
        content.actor.id.as_str().into(),
        content.actor.name.as_str().into(),
        body.recorder.id.as_str().into(),
        content.message.as_str().into(),
        json(&content.changes).into(),
        context(|context| &context.source_ip),
        context(|context| &context.user_agent),
        context(|context| &context.request_id),
        context(|context| &context.trace_id),
        json(&content.attributes).into(),
    ]
}

/// An erased event has its commitment instead of a salt.
fn proof_cells(event: &Event) -> [Cow<'_, str>; 4] {
    match &event.body {
        Ok(EventBody { recorder, salt, .. }) => {
            [recorder.kind.as_str().into(), recorder.name.as_str().into(), hex::encode(salt).into(), "".into()]
        }
        Err(_) => ["".into(), "".into(), "".into(), hex::encode(event.sealed.body_commitment).into()],
    }
}

fn notes_json(notes: &[UpdateNote], proof_columns: bool) -> String {
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
    format!("[{}]", notes.iter().map(note).collect::<Vec<_>>().join(","))
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("structs, vectors and maps with string keys always serialize")
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
