//! Reading a log page by page, one page ahead of who writes it out.

use tokio::task::JoinHandle;

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

/// While one page is written out and sent, the store reads the next. It holds that one page and no connection, however long
/// the reader takes.
pub(super) struct ReadAhead {
    store: Store,
    query: PageQuery,
    bounds: PageBounds,
    next: Option<JoinHandle<Result<EventPage, StoreError>>>,
}

impl ReadAhead {
    /// Begins to read.
    pub(super) fn begin(store: Store, query: PageQuery, inspected: usize) -> Self {
        let bounds = PageBounds { rows: FIRST_ROWS, bytes: CHUNK_BYTES, inspected };
        let mut reader = Self { store, query, bounds, next: None };
        reader.read_next();
        reader
    }

    /// The next page, with one event at least; `None` at the end. After an error there are no more.
    pub(super) async fn page(&mut self) -> Result<Option<EventPage>, StoreError> {
        while let Some(next) = self.next.take() {
            let page = next.await.map_err(|error| StoreError::Unavailable(error.to_string()))??;
            self.query.after = page.next;
            if !page.events.is_empty() {
                self.bounds.rows = fitting_rows(&page);
            }
            if page.next.is_some() {
                self.read_next();
            }
            if !page.events.is_empty() {
                return Ok(Some(page));
            }
        }
        Ok(None)
    }

    fn read_next(&mut self) {
        let (store, query, bounds) = (self.store.clone(), self.query.clone(), self.bounds);
        self.next = Some(tokio::spawn(async move { store.page(query, bounds, Ok).await }));
    }
}

/// A page that nobody will take need not be read.
impl Drop for ReadAhead {
    fn drop(&mut self) {
        if let Some(next) = &self.next {
            next.abort();
        }
    }
}

/// How many events like these fit into a chunk. To ask the store for more would be to read them in vain, many times over
/// where they are large.
fn fitting_rows(page: &EventPage) -> usize {
    (CHUNK_BYTES * page.events.len()).div_ceil(page.bytes.max(1)).clamp(1, CHUNK_ROWS)
}
