//! The CSV export: a walk over the log as it was when the export began.
//!
//! The log's size is read first and the export's own event recorded next, so the export is never in itself; then come
//! rows and notes below that size. Each chunk is one short read, and the next one is read while it is written out and sent:
//! no connection is held between chunks, and a slow reader holds nothing but its own stream and one page.

use sha2::{Digest as _, Sha256};

use crate::{
    auth::{Export, Permit},
    ingest::{Ingest, IngestError},
    model::{Clock, Event, EventFilter, EventId, Order, PageQuery, Position},
    proof::{ProveError, Prover},
    store::{Store, StoreError},
};

mod csv;
mod diary;
#[cfg(any(test, fuzzing))]
pub mod laws;
mod manifest;
mod read_ahead;

use self::{
    csv::CsvEncoder,
    diary::{Diary, Ending},
    manifest::Manifest,
    read_ahead::ReadAhead,
};

/// Starts exports. Clones share the store and the queue.
#[derive(Clone)]
pub struct Exporter {
    store: Store,
    ingest: Ingest,
    prover: Prover<Store>,
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
    /// The checkpoint for its manifest could not be had.
    #[error(transparent)]
    Prove(#[from] ProveError),
    /// No random bytes, or what was read cannot be written as CSV.
    #[error("{0}")]
    Internal(String),
}

/// How much was sent, and what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportSummary {
    /// Rows, without the header row.
    pub rows: u64,
    /// Over all bytes sent, the header row included.
    pub sha256: [u8; 32],
    /// The signed manifest of the whole file; `None` before the end, and without a key.
    pub manifest: Option<String>,
}

/// A running export. Dropping it before the end records that it was cancelled.
pub struct CsvExport {
    reader: ReadAhead,
    encoder: CsvEncoder,
    header_due: bool,
    log_size: i64,
    sent: Tally,
    /// What was sent before and is read once more, for the manifest; `None` where there is nothing such.
    before: Option<Before>,
    manifest: Option<Manifest>,
    signed: Option<String>,
    diary: Diary,
}

/// So many rows, and the hash of their bytes and of the header's.
#[derive(Clone, Default)]
struct Tally {
    rows: u64,
    hash: Sha256,
}

impl Tally {
    fn add(&mut self, bytes: &[u8], rows: usize) {
        self.hash.update(bytes);
        self.rows += rows as u64;
    }
}

/// An export that goes on: the whole file so far, and the place up to which it was sent before.
struct Before {
    file: Tally,
    sent_up_to: Position,
    order: Order,
}

impl Before {
    /// The file begins with its header row.
    fn begin(encoder: &mut CsvEncoder, sent_up_to: Position, order: Order) -> Result<Self, ExportError> {
        encoder.header().map_err(unwritable)?;
        let mut file = Tally::default();
        file.add(&encoder.take().map_err(unwritable)?, 0);
        Ok(Self { file, sent_up_to, order })
    }

    /// How many of the next events of the walk were sent before.
    fn count(&self, events: &[Event]) -> usize {
        let was_sent = |event: &Event| !Position::of(event, self.order).is_behind(self.sent_up_to, self.order);
        events.partition_point(was_sent)
    }
}

impl Exporter {
    /// Exports from `store` and records its own events through `ingest`.
    pub fn new(
        store: Store,
        ingest: Ingest,
        prover: Prover<Store>,
        clock: std::sync::Arc<dyn Clock>,
        inspected: usize,
    ) -> Self {
        Self { store, ingest, prover, clock, inspected }
    }

    /// Records that the export begins, and makes it ready to be read.
    pub async fn start(&self, permit: Permit<Export>, request: ExportRequest) -> Result<CsvExport, ExportError> {
        let size = self.store.log_size(permit.scope().tenant()).await?;
        let (log_size, after) = self.starting_point(&permit, &request, size).await?;
        let (ingest, clock) = (self.ingest.clone(), self.clock.clone());
        let mut diary = Diary::open(ingest, clock, permit.clone(), &request, log_size).await?;
        match Manifest::begin(&self.prover, permit, request.clone(), log_size).await {
            Ok(manifest) => self.begin(request, log_size, after, manifest, diary),
            Err(error) => {
                diary.close(Ending::Failed, 0).await;
                Err(error)
            }
        }
    }

    fn begin(
        &self,
        request: ExportRequest,
        log_size: i64,
        after: Option<Position>,
        manifest: Option<Manifest>,
        diary: Diary,
    ) -> Result<CsvExport, ExportError> {
        let ExportRequest { filter, order, proof_columns, resume } = request;
        let mut encoder = CsvEncoder::new(proof_columns);
        // A manifest is about the whole file, so it takes the whole walk.
        let before = after.filter(|_| manifest.is_some()).map(|after| Before::begin(&mut encoder, after, order));
        let before = before.transpose()?;
        let after = after.filter(|_| before.is_none());
        let query = PageQuery { scope: diary.scope().clone(), filter, order, after, log_size: Some(log_size) };
        let reader = ReadAhead::begin(self.store.clone(), query, self.inspected);
        let (header_due, sent) = (resume.is_none(), Tally::default());
        Ok(CsvExport { reader, encoder, header_due, log_size, sent, before, manifest, signed: None, diary })
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
            Ok(Some(_)) => (),
            Err(_) => self.diary.close(Ending::Failed, self.sent.rows).await,
        }
        chunk
    }

    /// How many rows were sent so far.
    pub fn rows(&self) -> u64 {
        self.sent.rows
    }

    /// How much was sent so far, and at the end the manifest.
    pub fn summary(&self) -> ExportSummary {
        let sha256 = self.sent.hash.clone().finalize().into();
        ExportSummary { rows: self.sent.rows, sha256, manifest: self.signed.clone() }
    }

    async fn read_chunk(&mut self) -> Result<Option<Vec<u8>>, ExportError> {
        if std::mem::take(&mut self.header_due) {
            self.encoder.header().map_err(unwritable)?;
            return self.send(0).map(Some);
        }
        if let Some(events) = self.reader.events().await? {
            let (known, new) = events.split_at(self.before.as_ref().map_or(0, |before| before.count(&events)));
            self.pass_over(known)?;
            if new.is_empty() {
                // Nothing yet, but the client and whatever stands in between shall see that there is more to come.
                return Ok(Some(Vec::new()));
            }
            self.encode(new)?;
            return self.send(new.len()).map(Some);
        }
        self.sign()?;
        Ok(None)
    }

    /// Takes into the file what was sent before.
    fn pass_over(&mut self, events: &[Event]) -> Result<(), ExportError> {
        if events.is_empty() {
            return Ok(());
        }
        self.encode(events)?;
        let bytes = self.encoder.take().map_err(unwritable)?;
        self.before.iter_mut().for_each(|before| before.file.add(&bytes, events.len()));
        Ok(())
    }

    fn encode(&mut self, events: &[Event]) -> Result<(), ExportError> {
        events.iter().try_for_each(|event| self.encoder.event(event)).map_err(unwritable)
    }

    /// Takes out what was encoded, which has so many rows.
    fn send(&mut self, rows: usize) -> Result<Vec<u8>, ExportError> {
        let bytes = self.encoder.take().map_err(unwritable)?;
        self.sent.add(&bytes, rows);
        self.before.iter_mut().for_each(|before| before.file.add(&bytes, rows));
        Ok(bytes)
    }

    fn sign(&mut self) -> Result<(), ExportError> {
        let file = self.before.as_ref().map_or(&self.sent, |before| &before.file);
        self.signed = self.manifest.as_ref().map(|manifest| manifest.sign(file)).transpose()?;
        Ok(())
    }
}

impl Drop for CsvExport {
    fn drop(&mut self) {
        self.diary.abandon(self.sent.rows);
    }
}

fn unwritable(error: ::csv::Error) -> ExportError {
    ExportError::Internal(error.to_string())
}
