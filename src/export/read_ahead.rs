//! Reading a log page by page, ahead of who writes it out.

use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    model::PageQuery,
    store::{EventPage, PageBounds, Store, StoreError},
};

/// About the most bytes of events in one chunk; as CSV they may take three times that.
const CHUNK_BYTES: usize = 256 * 1024;
/// The most events of one chunk.
const CHUNK_ROWS: usize = 1000;
/// The events of the first chunk, of which nobody knows yet how large they are.
const FIRST_ROWS: usize = 64;
/// One page is ready while the next one is read: so neither who reads nor who writes out waits for the other's slower moments.
const PAGES_AHEAD: usize = 2;

/// While a page is written out and sent, the store reads on. It holds those few pages and no connection, however long the
/// reader takes.
pub(super) struct ReadAhead {
    pages: mpsc::Receiver<Result<EventPage, StoreError>>,
    /// Who reads; `None` once that has ended.
    reading: Option<JoinHandle<()>>,
}

impl ReadAhead {
    /// Begins to read.
    pub(super) fn begin(store: Store, query: PageQuery, inspected: usize) -> Self {
        let bounds = PageBounds { rows: FIRST_ROWS, bytes: CHUNK_BYTES, inspected };
        let (sender, pages) = mpsc::channel(PAGES_AHEAD);
        Self { pages, reading: Some(tokio::spawn(read(store, query, bounds, sender))) }
    }

    /// The next page, with one event at least; `None` at the end. After an error there are no more.
    pub(super) async fn page(&mut self) -> Result<Option<EventPage>, StoreError> {
        match (self.pages.recv().await, self.reading.take()) {
            (Some(page), reading) => {
                self.reading = reading;
                page.map(Some)
            }
            // Nothing more comes: all was read, or a panic has ended the reading, and then the file is not whole.
            (None, Some(reading)) => match reading.await {
                Ok(()) => Ok(None),
                Err(panic) => Err(StoreError::Unavailable(panic.to_string())),
            },
            (None, None) => Ok(None),
        }
    }
}

/// A page that nobody will take need not be read.
impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.reading.iter().for_each(JoinHandle::abort);
    }
}

/// Reads to the end of the walk, a page at a time, when there is room for it.
async fn read(
    store: Store,
    mut query: PageQuery,
    mut bounds: PageBounds,
    pages: mpsc::Sender<Result<EventPage, StoreError>>,
) {
    while let Ok(room) = pages.reserve().await {
        let page = match store.page(query.clone(), bounds, Ok).await {
            Ok(page) => page,
            Err(error) => return room.send(Err(error)),
        };
        let next = page.next;
        if !page.events.is_empty() {
            bounds.rows = fitting_rows(&page);
            room.send(Ok(page));
        }
        if next.is_none() {
            return;
        }
        query.after = next;
    }
}

/// How many events like these fit into a chunk. To ask the store for more would be to read them in vain, many times over
/// where they are large.
fn fitting_rows(page: &EventPage) -> usize {
    (CHUNK_BYTES * page.events.len()).div_ceil(page.bytes.max(1)).clamp(1, CHUNK_ROWS)
}
