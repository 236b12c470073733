//! A page of events as CSV.

use super::csv::CsvEncoder;
use crate::{
    model::{EventView, Order, Position},
    store::{EventPage, StoreError, StoredEvent},
};

/// How a page becomes a chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChunkFormat {
    /// Whether there are the columns that a verifier needs.
    pub(super) proof_columns: bool,
    /// The order of the export.
    pub(super) order: Order,
    /// What was sent before goes up to here, and is read once more for the manifest alone.
    pub(super) sent_up_to: Option<Position>,
}

/// A page as CSV.
#[derive(Debug)]
pub(super) struct Chunk {
    /// Rows that were sent before.
    pub(super) known: Rows,
    /// Rows to be sent.
    pub(super) new: Rows,
}

/// Rows of CSV.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) bytes: Vec<u8>,
    pub(super) count: usize,
}

impl ChunkFormat {
    /// Writes out a page.
    pub(super) fn chunk(&self, page: &EventPage) -> Result<Chunk, StoreError> {
        let views = page.events.iter().map(StoredEvent::view).collect::<Result<Vec<_>, _>>()?;
        let was_sent = |position: Position| self.sent_up_to.is_some_and(|last| !position.is_behind(last, self.order));
        let known = views.partition_point(|event| was_sent(event.position(self.order)));
        let (known, new) = views.split_at(known);
        // As CSV events mostly take less than what they are sure to fit in as messages.
        Ok(Chunk { known: self.rows(known, page.bytes)?, new: self.rows(new, page.bytes)? })
    }

    /// The header row.
    pub(super) fn header(&self) -> Result<Rows, StoreError> {
        let mut encoder = CsvEncoder::with_capacity(512, self.proof_columns);
        encoder.header()?;
        Ok(Rows { bytes: encoder.into_bytes()?, count: 0 })
    }

    fn rows(&self, events: &[EventView<'_>], room: usize) -> Result<Rows, StoreError> {
        if events.is_empty() {
            return Ok(Rows::default());
        }
        let mut encoder = CsvEncoder::with_capacity(room, self.proof_columns);
        events.iter().try_for_each(|event| encoder.event(event))?;
        Ok(Rows { bytes: encoder.into_bytes()?, count: events.len() })
    }
}
