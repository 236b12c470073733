//! The service `auditlog.v1.AuditLogService`.
//!
//! Every method goes the same way: who calls; the scopes named; the caller's rights on them; the other fields; and only
//! then the store. So a stranger learns nothing of what is stored, and nothing of what would be valid elsewhere.

use std::{collections::BTreeMap, sync::Arc};

use prost::{Message, bytes::Bytes};
use tonic::{Request, Response, Status, async_trait};

use super::{
    Api,
    call::Call,
    decode::{self, BatchScopes, Decoder},
    encode,
    export_stream::{self, CsvStream, Hold},
    fresh_id::{fresh_id, fresh_ids},
    page_token::Binding,
    status::Failure,
    until_sent::keep_until_sent,
};
use crate::{
    auth::{Annotate, Authorizer, NoteDecision, Permit, Principal, Record},
    model::{Encoder, EventReceipt, NoteRules, Position, Scope, time_id::EventId},
    proto::{
        auditlog::v1::{
            AddUpdateNoteRequest, AddUpdateNoteResponse, BatchRecordEventsResponse, ExportCsvRequest, GetEventRequest,
            ListEventsRequest, RecordEventRequest, RecordEventResponse, audit_log_service_server::AuditLogService,
        },
        encoded::{BatchRecordEventsRequest, GetEventResponse, ListEventsResponse},
    },
    query::ListRequest,
    store::{EventPage, StoreError, StoredEvent},
};

#[async_trait]
impl AuditLogService for Api {
    type ExportCsvStream = CsvStream;

    async fn record_event(
        &self,
        request: Request<RecordEventRequest>,
    ) -> Result<Response<RecordEventResponse>, Status> {
        let (call, message) = Call::open(request);
        call.reply(self.record(&call, message).await)
    }

    async fn batch_record_events(
        &self,
        request: Request<BatchRecordEventsRequest>,
    ) -> Result<Response<BatchRecordEventsResponse>, Status> {
        let (call, message) = Call::open(request);
        call.reply(self.record_batch(&call, message).await)
    }

    async fn get_event(&self, request: Request<GetEventRequest>) -> Result<Response<GetEventResponse>, Status> {
        let (call, message) = Call::open(request);
        self.give(&call, self.get(&call, message).await)
    }

    async fn list_events(&self, request: Request<ListEventsRequest>) -> Result<Response<ListEventsResponse>, Status> {
        let (call, message) = Call::open(request);
        self.give(&call, self.list(&call, message).await)
    }

    async fn export_csv(&self, request: Request<ExportCsvRequest>) -> Result<Response<CsvStream>, Status> {
        let (call, message) = Call::open(request);
        self.export(&call, message).await.map_err(|failure| call.fail(failure))
    }

    async fn add_update_note(
        &self,
        request: Request<AddUpdateNoteRequest>,
    ) -> Result<Response<AddUpdateNoteResponse>, Status> {
        let (call, message) = Call::open(request);
        call.reply(self.add_note(&call, message).await)
    }
}

impl Api {
    async fn record(&self, call: &Call, message: RecordEventRequest) -> Result<RecordEventResponse, Failure> {
        let principal = call.principal()?;
        let scope = decode::parent(&message.parent)?;
        call.concerns(&scope);
        let permit = self.authorizer.record(principal, &scope)?;
        let draft = self.decoder().record(message, fresh_id(&*self.clock)?)?;
        let receipts = self.ingest.record(vec![(permit, draft.traced(call.trace_id()))]).await?;
        Ok(RecordEventResponse { receipt: Some(encode::event_receipt(only(&receipts)?)) })
    }

    async fn record_batch(
        &self,
        call: &Call,
        message: BatchRecordEventsRequest,
    ) -> Result<BatchRecordEventsResponse, Failure> {
        let principal = call.principal()?;
        let message = decode::counted_batch(message, &self.limits)?;
        let scopes = decode::batch_scopes(&message)?;
        scopes.outermost().iter().for_each(|scope| call.concerns(scope));
        let permits = self.record_permits(principal, &scopes)?;
        let fresh = fresh_ids(&*self.clock, message.requests.len())?;
        let drafts = self.decoder().batch(message, &scopes, fresh)?;
        let traced = drafts.into_iter().map(|draft| draft.traced(call.trace_id()));
        let receipts = self.ingest.record(permits.into_iter().zip(traced).collect()).await?;
        Ok(BatchRecordEventsResponse { receipts: receipts.iter().map(encode::event_receipt).collect() })
    }

    /// A permit for each event, with one decision for each scope. A batch without events stands for its parent.
    fn record_permits(&self, principal: &Principal, scopes: &BatchScopes) -> Result<Vec<Permit<Record>>, Failure> {
        let mut permits: BTreeMap<&Scope, Permit<Record>> = BTreeMap::new();
        let unasked = scopes.parent.iter().filter(|_| scopes.events.is_empty());
        for scope in scopes.events.iter().chain(unasked) {
            if !permits.contains_key(scope) {
                permits.insert(scope, self.authorizer.record(principal, scope)?);
            }
        }
        Ok(scopes.events.iter().filter_map(|scope| permits.get(scope).cloned()).collect())
    }

    async fn get(&self, call: &Call, message: GetEventRequest) -> Result<GetEventResponse, Failure> {
        let principal = call.principal()?;
        let (scope, id) = decode::scope_of_name(&message.name)?;
        call.concerns(&scope);
        let permit = self.authorizer.read(principal, &scope)?;
        let id = decode::id_in_name(id)?;
        let rules = Arc::clone(&self.notes);
        let event = self.query.get(&permit, id, move |event| Ok(encode::event(&event.view()?, &rules)?)).await?;
        call.reads(&permit).await?;
        Ok(GetEventResponse { event: event.ok_or(Failure::EventNotFound)?.into() })
    }

    async fn list(&self, call: &Call, message: ListEventsRequest) -> Result<ListEventsResponse, Failure> {
        let principal = call.principal()?;
        let scope = decode::parent(&message.parent)?;
        call.concerns(&scope);
        let permit = self.authorizer.read(principal, &scope)?;
        let (binding, request) = self.list_request(&message, &scope)?;
        let rules = Arc::clone(&self.notes);
        let (events, next) = self.query.list(&permit, request, move |page| encoded(&page, &rules)).await?;
        call.reads(&permit).await?;
        let next_page_token = next.map(|position| binding.seal(position)).unwrap_or_default();
        Ok(ListEventsResponse { events, next_page_token })
    }

    fn list_request(&self, message: &ListEventsRequest, scope: &Scope) -> Result<(Binding, ListRequest), Failure> {
        let asked = self.decoder().list(message, scope)?;
        let binding = Binding::of_list(scope, message.filter.as_ref(), asked.order);
        let after = match message.page_token.as_str() {
            "" => None,
            token => Some(binding.open(token, asked.order)?),
        };
        Ok((binding, ListRequest { filter: asked.filter, order: asked.order, after, rows: asked.rows }))
    }

    async fn export(&self, call: &Call, message: ExportCsvRequest) -> Result<Response<CsvStream>, Failure> {
        let principal = call.principal()?;
        let scope = decode::parent(&message.parent)?;
        call.concerns(&scope);
        let permit = self.authorizer.export(principal, &scope)?;
        let request = self.decoder().export(&message, &scope)?;
        let share = self.traffic.export(principal)?;
        let export = self.exporter.start(permit, request).await?;
        let (stall, interruption) = (self.traffic.limits().export_stall, export.interruption());
        let hold = Hold { share, on_connection: call.goes_on(), stall, interruption };
        export_stream::response(export, hold, call.request_id().clone(), self.metrics.clone())
    }

    async fn add_note(&self, call: &Call, message: AddUpdateNoteRequest) -> Result<AddUpdateNoteResponse, Failure> {
        let principal = call.principal()?;
        let (scope, id) = decode::scope_of_name(&message.name)?;
        call.concerns(&scope);
        let decision = self.authorizer.annotate(principal, &scope)?;
        let draft = self.decoder().note(&message, id, fresh_id(&*self.clock)?)?;
        let permit = self.note_permit(decision, draft.event_id).await?;
        Ok(encode::note_receipt(self.ingest.annotate(permit, draft).await?))
    }

    /// The one look-up before a decision: whether a reader is the event's actor.
    async fn note_permit(&self, decision: NoteDecision, id: EventId) -> Result<Permit<Annotate>, Failure> {
        let (permit, denied) = match decision {
            NoteDecision::Permitted(permit) => return Ok(permit),
            NoteDecision::IfActor(permit, denied) => (permit, denied),
        };
        let actor = |event: StoredEvent| Ok(event.view()?.body.ok().map(|body| body.actor.to_actor()));
        let actor = self.query.get(&permit, id, actor).await?.ok_or(Failure::EventNotFound)?;
        Ok(Authorizer::annotate_as_actor(permit, actor.as_ref(), denied)?)
    }

    /// A reply that may be large, once there is room for it: who reads none of them shall not fill the memory.
    pub(super) fn give<M: Message>(&self, call: &Call, result: Result<M, Failure>) -> Result<Response<M>, Status> {
        let room = |message: &M| self.traffic.room(call.principal()?, message.encoded_len());
        let (message, room) = result
            .and_then(|message| room(&message).map(|room| (message, room)))
            .map_err(|failure| call.fail(failure))?;
        let mut reply = Response::new(message);
        if let Some(room) = room {
            keep_until_sent(reply.extensions_mut(), Arc::new(room));
        }
        Ok(reply)
    }

    pub(super) fn decoder(&self) -> Decoder<'_> {
        Decoder::new(&self.limits)
    }
}

/// The events of a page as slices of one piece of memory.
fn encoded(page: &EventPage, rules: &NoteRules) -> Result<(Vec<Bytes>, Option<Position>), StoreError> {
    let mut out = Encoder::with_capacity(page.bytes);
    let mut ends = Vec::with_capacity(page.events.len());
    for event in &page.events {
        encode::put_event(&mut out, &event.view()?, rules)?;
        ends.push(out.len());
    }
    let mut rest = Bytes::from(out.into_bytes());
    let mut taken = 0;
    let event = |end| rest.split_to(end - std::mem::replace(&mut taken, end));
    Ok((ends.into_iter().map(event).collect(), page.next))
}

fn only(receipts: &[EventReceipt]) -> Result<&EventReceipt, Failure> {
    receipts.first().ok_or_else(|| Failure::internal("the append path gave no receipt"))
}
