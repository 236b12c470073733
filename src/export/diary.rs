//! An export's own events: that it began, and how it ended if it did not end well.

use std::collections::BTreeMap;

use crate::{
    auth::{Export, Permit, Record},
    ingest::{Ingest, IngestError},
    model::{
        ActionType, Actor, Clock, Content, EventDraft, IdOrigin, Resource, Scope, TimeId, Timestamp, TraceIdOrigin,
    },
};

use super::{ExportError, ExportRequest, json};

/// The resource type of an export's own events.
const RESOURCE_TYPE: &str = "audit_export";

/// How an export ended before its end.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ending {
    /// Something failed here; what it was stands in the service's own log.
    Failed,
    /// The client left.
    Cancelled,
}

/// Keeps the log informed about one export.
pub(super) struct Diary {
    ingest: Ingest,
    clock: std::sync::Arc<dyn Clock>,
    permit: Permit<Record>,
    exporter: Actor,
    id: TimeId,
    ended: bool,
}

impl Diary {
    /// Records that the export begins. It must not start if this fails.
    pub(super) async fn open(
        ingest: Ingest,
        clock: std::sync::Arc<dyn Clock>,
        permit: Permit<Export>,
        request: &ExportRequest,
        log_size: i64,
    ) -> Result<Self, ExportError> {
        let (permit, exporter) = (permit.to_record_itself(), permit.principal().clone());
        let id = new_id(clock.now())?;
        // What has not begun has no end either.
        let mut diary = Self { ingest, clock, permit, exporter, id, ended: true };
        let mut attributes = request_attributes(request);
        attributes.insert("scope".to_owned(), diary.scope().to_string());
        attributes.insert("log_size".to_owned(), log_size.to_string());
        let message = format!("exported {} as CSV", diary.scope());
        diary.record(id, ActionType::Create, message, attributes).await?;
        diary.ended = false;
        Ok(diary)
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

    /// Records that the export ended early. Where that fails too, the service's own log has to tell.
    pub(super) async fn close(&mut self, ending: Ending, rows: u64) {
        if !std::mem::replace(&mut self.ended, true) {
            self.tell(ending, rows).await;
        }
    }

    /// Records that the client left, if the export had not ended.
    pub(super) fn abandon(&mut self, rows: u64) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.ended {
            return;
        }
        self.ended = true;
        let diary = Self {
            ingest: self.ingest.clone(),
            clock: self.clock.clone(),
            permit: self.permit.clone(),
            exporter: self.exporter.clone(),
            id: self.id,
            // A runtime that shuts down drops the task at once, and that must not begin another one.
            ended: true,
        };
        runtime.spawn(async move { diary.tell(Ending::Cancelled, rows).await });
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
