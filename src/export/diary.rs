//! An export's own events: that it began, and how it ended if it did not end well.

use std::{collections::BTreeMap, sync::Arc};

use tokio::task::JoinHandle;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::Instrument as _;

use crate::{
    auth::{Export, Permit, Record},
    ingest::{Ingest, IngestError},
    model::{
        ActionType, Actor, Clock, Content, EventDraft, IdOrigin, Resource, Scope, TimeId, Timestamp, TraceIdOrigin,
    },
};

use super::{
    ExportError, ExportRequest, json,
    under_way::{Ending, Interruption, UnderWay},
};

/// The resource type of an export's own events.
const RESOURCE_TYPE: &str = "audit_export";

/// Keeps the log informed about one export.
pub(super) struct Diary {
    ingest: Ingest,
    clock: Arc<dyn Clock>,
    permit: Permit<Record>,
    exporter: Actor,
    id: TimeId,
    under_way: UnderWay,
    interruption: Interruption,
    ended: bool,
    /// Has the end of the service wait for this one's.
    _token: TaskTrackerToken,
}

impl Diary {
    /// Records that the export begins. It must not start if this fails. Where the call is cancelled meanwhile, the export has
    /// begun as far as the log tells, and so it is told that it was cancelled.
    pub(super) async fn open(
        ingest: Ingest,
        clock: Arc<dyn Clock>,
        under_way: UnderWay,
        permit: Permit<Export>,
        request: &ExportRequest,
        log_size: i64,
    ) -> Result<Self, ExportError> {
        let (permit, exporter) = (permit.to_record_itself(), permit.principal().clone());
        let id = new_id(clock.now())?;
        // What has not begun has no end either.
        let (interruption, token) = (under_way.interruption(), under_way.token());
        let diary = Self { ingest, clock, permit, exporter, id, under_way, interruption, ended: true, _token: token };
        let mut attributes = request_attributes(request);
        attributes.insert("scope".to_owned(), diary.scope().to_string());
        attributes.insert("log_size".to_owned(), log_size.to_string());
        let opened = tokio::spawn(diary.begin(attributes).in_current_span());
        opened.await.map_err(|error| ExportError::Internal(error.to_string()))?
    }

    async fn begin(mut self, attributes: BTreeMap<String, String>) -> Result<Self, ExportError> {
        let message = format!("exported {} as CSV", self.scope());
        self.record(self.id, ActionType::Create, message, attributes).await?;
        self.ended = false;
        Ok(self)
    }

    /// Where to say why it is dropped.
    pub(super) fn interruption(&self) -> &Interruption {
        &self.interruption
    }

    pub(super) fn scope(&self) -> &Scope {
        self.permit.scope()
    }

    pub(super) fn file_name(&self) -> String {
        let project = self.scope().project().map(|project| format!("-{project}")).unwrap_or_default();
        format!("audit-{}{project}-{}.csv", self.scope().tenant(), self.id.time().format("%Y%m%dT%H%M%SZ"))
    }

    /// All was sent: the first event says enough.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// Records that the export failed, whether or not anybody still waits for it. Where that fails too, the service's own log
    /// has to tell.
    pub(super) async fn fail(&mut self, rows: u64) {
        if let Some(telling) = self.close(Ending::Failed, rows) {
            // Fails only with the runtime.
            let _ = telling.await;
        }
    }

    /// Records that the client left, or what else [`Self::interruption`] says, if the export had not ended.
    pub(super) fn abandon(&mut self, rows: u64) {
        self.close(self.interruption.ending(), rows);
    }

    fn close(&mut self, ending: Ending, rows: u64) -> Option<JoinHandle<()>> {
        let runtime = tokio::runtime::Handle::try_current().ok()?;
        if std::mem::replace(&mut self.ended, true) {
            return None;
        }
        let diary = Self {
            ingest: self.ingest.clone(),
            clock: self.clock.clone(),
            permit: self.permit.clone(),
            exporter: self.exporter.clone(),
            id: self.id,
            under_way: self.under_way.clone(),
            interruption: self.interruption.clone(),
            // A runtime that shuts down drops the task at once, and that must not begin another one.
            ended: true,
            _token: self.under_way.token(),
        };
        Some(runtime.spawn(async move { diary.tell(ending, rows).await }.in_current_span()))
    }

    async fn tell(&self, ending: Ending, rows: u64) {
        if let Err(error) = self.record_ending(ending, rows).await {
            tracing::error!(%error, export = %self.id, "the end of an export could not be recorded");
        }
    }

    async fn record_ending(&self, ending: Ending, rows: u64) -> Result<(), ExportError> {
        let outcome = match ending {
            Ending::Failed => "failed",
            Ending::Cancelled => "was cancelled by the client",
            Ending::Stalled => "was ended because its reader took nothing",
            Ending::CutOff => "was ended because the service ended",
        };
        let message = format!("the export of {} {outcome} after {rows} rows", self.scope());
        let attributes = [("rows".to_owned(), rows.to_string())];
        self.record(new_id(self.clock.now())?, ActionType::Update, message, attributes.into()).await?;
        Ok(())
    }

    async fn record(
        &self,
        id: TimeId,
        action: ActionType,
        message: String,
        attributes: BTreeMap<String, String>,
    ) -> Result<(), IngestError> {
        let resource = Resource { kind: RESOURCE_TYPE.to_owned(), id: self.id.to_string(), name: String::new() };
        let actor = self.exporter.clone();
        let content = Content { resource, actor, message, changes: Vec::new(), context: None, attributes };
        let draft =
            EventDraft { id, id_origin: IdOrigin::Server, action, content, trace_id_origin: TraceIdOrigin::Client };
        self.ingest.record(vec![(self.permit.clone(), draft)]).await.map(drop)
    }
}

fn request_attributes(request: &ExportRequest) -> BTreeMap<String, String> {
    let mut attributes = BTreeMap::from([
        ("filter".to_owned(), json(&request.filter)),
        ("order".to_owned(), json(&request.order).trim_matches('"').to_owned()),
        ("proof_columns".to_owned(), request.proof_columns.to_string()),
    ]);
    attributes.extend(request.resume.map(|resume| ("after_event_id".to_owned(), resume.after.to_string())));
    attributes
}

impl Drop for Diary {
    /// A call that was cancelled before its export began to be sent.
    fn drop(&mut self) {
        self.abandon(0);
    }
}

fn new_id(now: Timestamp) -> Result<TimeId, ExportError> {
    TimeId::random(now).map_err(|error| ExportError::Internal(error.to_string()))
}
