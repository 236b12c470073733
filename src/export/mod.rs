//! The CSV export: a walk over the log as it was when the export began.
//!
//! The log's size is read first and the export's own event recorded next, so the export is never in itself; then come
//! rows and notes below that size. Each chunk is one short read, and the next one is read while it is written out and sent:
//! no connection is held between chunks, and a slow reader holds nothing but its own stream and one page.

use sha2::{Digest as _, Sha256};

use crate::{
    auth::{Export, Permit},
    ingest::{Ingest, IngestError},
    model::{Clock, EventFilter, EventId, Order, PageQuery, Position},
    store::{Store, StoreError},
};

mod csv;
mod diary;
#[cfg(any(test, fuzzing))]
pub mod laws;
mod read_ahead;

use self::{
    csv::CsvEncoder,
    diary::{Diary, Ending},
    read_ahead::ReadAhead,
};

/// Starts exports. Clones share the store and the queue.
#[derive(Clone)]
pub struct Exporter {
    store: Store,
    ingest: Ingest,
    clock: std::sync::Arc<dyn Clock>,
    inspected: usize,
}

/// What to export; the scope comes from the permit.
#[derive(Clone, Debug)]
pub struct ExportRequest {
    /// Which events.
    pub filter: EventFilter,
    /// In which order.
    pub order: Order,
    /// Whether to add what a verifier needs.
    pub proof_columns: bool,
    /// Where an export that broke off goes on; `None` for a new one.
    pub resume: Option<Resume>,
}

/// Where an export goes on.
#[derive(Clone, Copy, Debug)]
pub struct Resume {
    /// The log size of the export that broke off.
    pub log_size: i64,
    /// The last event that arrived.
    pub after: EventId,
}

/// Why an export did not start, or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The export's own event could not be recorded, so it must not start.
    #[error("the export's own event could not be recorded: {0}")]
    Ingest(#[from] IngestError),
    /// The log was never that large.
    #[error("log_size is {asked}, and the log has {size}; send the x-audit-log-size of the export that broke off")]
    LogSize {
        /// What was asked for.
        asked: i64,
        /// How large the log is.
        size: i64,
    },
    /// There is no such event in the part of the log that is exported.
    #[error("after_event_id names no event of the scope below log_size")]
    ResumeNotFound,
    /// No random bytes, or what was read cannot be written as CSV.
    #[error("{0}")]
    Internal(String),
}

/// How much was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportSummary {
    /// Rows, without the header row.
    pub rows: u64,
    /// Over all bytes sent, the header row included.
    pub sha256: [u8; 32],
}

/// A running export. Dropping it before the end records that it was cancelled.
pub struct CsvExport {
    reader: ReadAhead,
    encoder: CsvEncoder,
    header_due: bool,
    log_size: i64,
    rows: u64,
    hash: Sha256,
    diary: Diary,
}

impl Exporter {
    /// Exports from `store` and records its own events through `ingest`.
    pub fn new(store: Store, ingest: Ingest, clock: std::sync::Arc<dyn Clock>, inspected: usize) -> Self {
        Self { store, ingest, clock, inspected }
    }

    /// Records that the export begins, and makes it ready to be read.
    pub async fn start(&self, permit: Permit<Export>, request: ExportRequest) -> Result<CsvExport, ExportError> {
        let size = self.store.log_size(permit.scope().tenant()).await?;
        let (log_size, after) = self.starting_point(&permit, &request, size).await?;
        let diary = Diary::open(self.ingest.clone(), self.clock.clone(), permit, &request, log_size).await?;
        let ExportRequest { filter, order, proof_columns, resume } = request;
        let scope = diary.scope().clone();
        let query = PageQuery { scope, filter, order, after, log_size: Some(log_size) };
        Ok(CsvExport {
            reader: ReadAhead::begin(self.store.clone(), query, self.inspected),
            encoder: CsvEncoder::new(proof_columns),
            header_due: resume.is_none(),
            log_size,
            rows: 0,
            hash: Sha256::new(),
            diary,
        })
    }

    async fn starting_point(
        &self,
        permit: &Permit<Export>,
        request: &ExportRequest,
        size: i64,
    ) -> Result<(i64, Option<Position>), ExportError> {
        let Some(Resume { log_size, after }) = request.resume else { return Ok((size, None)) };
        if log_size > size {
            return Err(ExportError::LogSize { asked: log_size, size });
        }
        let last = self.store.event(permit.scope(), after).await?;
        let last = last.filter(|event| event.sealed.leaf_index < log_size).ok_or(ExportError::ResumeNotFound)?;
        Ok((log_size, Some(Position::of(&last, request.order))))
    }
}

impl CsvExport {
    /// The log's size when the export began: rows and notes below it are in the export.
    pub fn log_size(&self) -> i64 {
        self.log_size
    }

    /// A name for the file, such as `audit-acme-web-20260131T235959Z.csv`.
    pub fn file_name(&self) -> String {
        self.diary.file_name()
    }

    /// The next bytes; `None` once all was sent. After an error there is no more, and the log tells that it failed.
    pub async fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, ExportError> {
        let chunk = self.read_chunk().await;
        match &chunk {
            Ok(None) => self.diary.end(),
            Ok(Some(bytes)) => self.hash.update(bytes),
            Err(_) => self.diary.close(Ending::Failed, self.rows).await,
        }
        chunk
    }

    /// How many rows were sent so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// How much was sent so far.
    pub fn summary(&self) -> ExportSummary {
        ExportSummary { rows: self.rows, sha256: self.hash.clone().finalize().into() }
    }

    async fn read_chunk(&mut self) -> Result<Option<Vec<u8>>, ExportError> {
        if std::mem::take(&mut self.header_due) {
            self.encoder.header().map_err(unwritable)?;
            return Ok(Some(self.encoder.take().map_err(unwritable)?));
        }
        let Some(events) = self.reader.events().await? else { return Ok(None) };
        for event in &events {
            self.encoder.event(event).map_err(unwritable)?;
            self.rows += 1;
        }
        Ok(Some(self.encoder.take().map_err(unwritable)?))
    }
}

impl Drop for CsvExport {
    fn drop(&mut self) {
        self.diary.abandon(self.rows);
    }
}

fn unwritable(error: ::csv::Error) -> ExportError {
    ExportError::Internal(error.to_string())
}
