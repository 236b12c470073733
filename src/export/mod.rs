//! The CSV export: a walk over the log as it was when the export began.
//!
//! The log's size is read first and the export's own event recorded next, so the export is never in itself; then come
//! rows and notes below that size. Each chunk is one short read, and the next ones are read while it is written out and
//! sent: no connection is held between chunks, and a slow reader holds nothing but its own stream, two pages, and a piece or two
//! that were made of others.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::{
    auth::{Export, Permit},
    ingest::{Ingest, IngestError},
    model::{Clock, EventFilter, EventId, Order, PageQuery, Position},
    proof::{ProveError, Prover},
    store::{Store, StoreError, StoredEvent},
};

mod chunk;
mod csv;
mod diary;
#[cfg(any(test, fuzzing))]
pub mod laws;
mod manifest;
mod read_ahead;
mod under_way;

pub use self::under_way::Interruption;
use self::{
    chunk::{Chunk, ChunkFormat, Rows},
    diary::Diary,
    manifest::Manifest,
    read_ahead::ReadAhead,
    under_way::UnderWay,
};

/// Starts exports. Clones share the store and the queue.
#[derive(Clone)]
pub struct Exporter {
    store: Store,
    ingest: Ingest,
    prover: Prover<Store>,
    clock: std::sync::Arc<dyn Clock>,
    inspected: usize,
    under_way: UnderWay,
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
    /// The clock is out of range, or the manifest cannot be written.
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

/// A running export. Dropping it before the end records that it was cancelled, or what its [`Interruption`] says.
pub struct CsvExport {
    reader: ReadAhead,
    format: ChunkFormat,
    /// The header row, until it was sent.
    header: Option<Rows>,
    log_size: i64,
    sent: Tally,
    /// The whole file, where some of it was sent before and is read once more for the manifest; `None` where it was not.
    file: Option<Tally>,
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
    fn add(&mut self, Rows { bytes, count }: &Rows) {
        self.hash.update(bytes);
        self.rows += *count as u64;
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
        Self { store, ingest, prover, clock, inspected, under_way: UnderWay::default() }
    }

    /// Records that the export begins, and makes it ready to be read.
    pub async fn start(&self, permit: Permit<Export>, request: ExportRequest) -> Result<CsvExport, ExportError> {
        let size = self.store.log_size(permit.scope().tenant()).await?;
        let (log_size, after) = self.starting_point(&permit, &request, size).await?;
        let (ingest, clock, under_way) = (self.ingest.clone(), self.clock.clone(), self.under_way.clone());
        let mut diary = Diary::open(ingest, clock, under_way, permit.clone(), &request, log_size).await?;
        match Manifest::begin(&self.prover, permit, request.clone(), log_size).await {
            Ok(manifest) => self.begin(request, log_size, after, manifest, diary),
            Err(error) => {
                diary.fail(0).await;
                Err(error)
            }
        }
    }

    /// Has all exports that are left ended, and the log tell so, as far as the store answers in some seconds. To be called when
    /// no call comes any more.
    pub async fn close(&self) {
        self.under_way.end().await;
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
        // A manifest is about the whole file, so it takes the whole walk.
        let sent_up_to = after.filter(|_| manifest.is_some());
        let after = after.filter(|_| sent_up_to.is_none());
        let format = ChunkFormat { proof_columns, order, sent_up_to };
        let header = format.header()?;
        let mut file = sent_up_to.map(|_| Tally::default());
        file.iter_mut().for_each(|file| file.add(&header));
        let query = PageQuery { scope: diary.scope().clone(), filter, order, after, log_size: Some(log_size) };
        let reader = ReadAhead::begin(self.store.clone(), query, self.inspected);
        let header = resume.is_none().then_some(header);
        let sent = Tally::default();
        Ok(CsvExport { reader, format, header, log_size, sent, file, manifest, signed: None, diary })
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
        let leaf_index = |event: StoredEvent| Ok(event.view()?.sealed.leaf_index);
        let last = self.store.event(permit.scope(), after, leaf_index).await?;
        let last = last.filter(|leaf_index| *leaf_index < log_size).ok_or(ExportError::ResumeNotFound)?;
        Ok((log_size, Some(Position::of(after, last, request.order))))
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
            Err(_) => self.diary.fail(self.sent.rows).await,
        }
        chunk
    }

    /// Records that it broke off, for what [`Self::next_chunk`] could not notice itself.
    pub async fn fail(&mut self) {
        self.diary.fail(self.sent.rows).await;
    }

    /// Where to say why it is dropped before its end, and to learn that it must be.
    pub fn interruption(&self) -> Interruption {
        self.diary.interruption().clone()
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
        if let Some(header) = self.header.take() {
            return Ok(Some(self.send(header)));
        }
        if let Some(page) = self.reader.page().await? {
            let Chunk { known, new } = self.format.chunk(&page)?;
            self.file.iter_mut().for_each(|file| file.add(&known));
            // Perhaps nothing yet, but the client and whatever stands in between shall see that there is more to come.
            return Ok(Some(self.send(new)));
        }
        self.sign()?;
        Ok(None)
    }

    fn send(&mut self, rows: Rows) -> Vec<u8> {
        self.sent.add(&rows);
        self.file.iter_mut().for_each(|file| file.add(&rows));
        rows.bytes
    }

    fn sign(&mut self) -> Result<(), ExportError> {
        let file = self.file.as_ref().unwrap_or(&self.sent);
        self.signed = self.manifest.as_ref().map(|manifest| manifest.sign(file)).transpose()?;
        Ok(())
    }
}

/// What is written as JSON into rows, manifests and the log.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("structs, words, vectors and maps with string keys always serialize")
}

impl Drop for CsvExport {
    fn drop(&mut self) {
        self.diary.abandon(self.sent.rows);
    }
}
