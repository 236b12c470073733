//! What holds of rows of an export, whatever stands in them.

use super::csv::CsvEncoder;
use crate::model::{Event, EventView, FieldChange};

/// An event's row, made from its `view`, reads back, in a reader of CSV that knows nothing of ours, as what the event holds;
/// and no cell of it is a formula to a spreadsheet.
pub fn row(view: &EventView<'_>, event: &Event) {
    let mut encoder = CsvEncoder::with_capacity(0, true);
    encoder.header().and_then(|()| encoder.event(view)).expect("memory takes what is written");
    let text = encoder.into_bytes().expect("memory takes what is written");
    assert!(text.ends_with(b"\r\n"));
    let mut rows = ::csv::Reader::from_reader(&*text);
    let columns = rows.headers().expect("the header is UTF-8").clone();
    let row = rows.records().next().expect("there is one row").expect("it has as many cells as the header");
    assert!(rows.records().next().is_none(), "it became more than one row");
    assert!(!row.iter().any(|cell| cell.starts_with(['=', '+', '-', '@', '\t', '\r'])), "{row:?}");
    let cell = |name: &str| {
        let at = columns.iter().position(|column| column == name).expect("a column of ours");
        row[at].strip_prefix('\'').unwrap_or(&row[at]).to_owned()
    };
    let Ok(body) = &event.body else { return };
    let content = &body.content;
    assert_eq!(cell("event_id"), event.name.id.to_string());
    assert_eq!(cell("message"), content.message);
    assert_eq!(cell("resource_name"), content.resource.name);
    assert_eq!(cell("actor_id"), content.actor.id);
    assert_eq!(cell("user_agent"), content.context.as_ref().map_or("", |context| &context.user_agent));
    let changes: Vec<FieldChange> = serde_json::from_str(&cell("changes")).expect("the cell is JSON");
    assert_eq!(changes, content.changes);
    let attributes: std::collections::BTreeMap<String, String> =
        serde_json::from_str(&cell("attributes")).expect("the cell is JSON");
    assert_eq!(attributes, content.attributes);
}
