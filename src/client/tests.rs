//! The emitter against a service that fails as told.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::proto::{
    auditlog::v1::{
        self as proto,
        audit_log_service_server::{AuditLogService, AuditLogServiceServer},
    },
    encoded,
    google::api::HttpBody,
};

use super::*;

/// Fails with what it was given, in that order, and then succeeds. `None` never answers.
#[derive(Clone, Default)]
struct Fake {
    failures: Arc<Mutex<VecDeque<Option<Status>>>>,
    seen: Arc<Mutex<Vec<Vec<proto::RecordEventRequest>>>>,
    subjects: Arc<Mutex<BTreeSet<String>>>,
}

type Reply<T> = Result<Response<T>, Status>;

impl Fake {
    fn failing(failures: impl IntoIterator<Item = Option<Status>>) -> Self {
        let fake = Self::default();
        fake.failures.lock().unwrap().extend(failures);
        fake
    }

    /// Serves on a port of its own. The first `broken` connections end before a word is said.
    async fn serve(&self, broken: usize) -> Emitter {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let connections = TcpListenerStream::new(listener).skip(broken);
        let service = AuditLogServiceServer::new(self.clone()).max_decoding_message_size(MAX_BATCH_BYTES * 2);
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(connections));
        let credentials = Credentials::service("svc").role("event_recorder", "*");
        let retry = RetryPolicy { first_wait: Duration::from_millis(1), ..RetryPolicy::default() };
        Emitter::connect_lazy(&address, credentials).unwrap().with_retry(retry)
    }

    async fn answer(&self, request: Vec<proto::RecordEventRequest>) -> Result<Vec<proto::EventReceipt>, Status> {
        let receipts = request.iter().map(receipt).collect();
        self.seen.lock().unwrap().push(request);
        let failure = self.failures.lock().unwrap().pop_front();
        match failure {
            None => Ok(receipts),
            Some(Some(status)) => Err(status),
            Some(None) => std::future::pending().await,
        }
    }

    fn see<T>(&self, request: Request<T>) -> T {
        let subject = request.metadata().get("x-audit-subject").unwrap().to_str().unwrap();
        self.subjects.lock().unwrap().insert(subject.to_owned());
        request.into_inner()
    }

    fn ids(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().flatten().map(|request| request.event_id.clone()).collect()
    }
}

fn receipt(request: &proto::RecordEventRequest) -> proto::EventReceipt {
    let time = request.event.as_ref().unwrap().event_time;
    let name = format!("{}/events/{}", request.parent, request.event_id);
    proto::EventReceipt { name, event_time: time, record_time: time, leaf_index: Some(0) }
}

#[tonic::async_trait]
impl AuditLogService for Fake {
    async fn record_event(&self, request: Request<proto::RecordEventRequest>) -> Reply<proto::RecordEventResponse> {
        let receipt = self.answer(vec![self.see(request)]).await?.pop();
        Ok(Response::new(proto::RecordEventResponse { receipt }))
    }

    async fn batch_record_events(
        &self,
        request: Request<encoded::BatchRecordEventsRequest>,
    ) -> Reply<proto::BatchRecordEventsResponse> {
        let receipts = self.answer(self.see(request).message.requests).await?;
        Ok(Response::new(proto::BatchRecordEventsResponse { receipts }))
    }

    async fn get_event(&self, _: Request<proto::GetEventRequest>) -> Reply<encoded::GetEventResponse> {
        Err(Status::unimplemented(""))
    }

    async fn list_events(&self, _: Request<proto::ListEventsRequest>) -> Reply<encoded::ListEventsResponse> {
        Err(Status::unimplemented(""))
    }

    type ExportCsvStream = stream::Empty<Result<HttpBody, Status>>;

    async fn export_csv(&self, _: Request<proto::ExportCsvRequest>) -> Reply<Self::ExportCsvStream> {
        Err(Status::unimplemented(""))
    }

    async fn add_update_note(&self, _: Request<proto::AddUpdateNoteRequest>) -> Reply<proto::AddUpdateNoteResponse> {
        Err(Status::unimplemented(""))
    }
}

fn event() -> NewEvent {
    NewEvent::create("cluster", "c-1").actor_user("ann")
}

#[tokio::test]
async fn repeats_what_may_pass_with_the_same_id() {
    let passing = [Code::Unavailable, Code::ResourceExhausted, Code::DeadlineExceeded, Code::Cancelled];
    let fake = Fake::failing(passing.map(|code| Some(Status::new(code, ""))));
    let event = event();
    let receipt = fake.serve(0).await.record("tenants/a", &event).await.unwrap();
    assert_eq!(receipt.name, format!("tenants/a/events/{}", event.id()));
    assert_eq!((receipt.event_time, receipt.leaf_index), (event.time(), 0));
    assert_eq!(fake.ids(), vec![event.id(); 5]);
    assert!(fake.subjects.lock().unwrap().contains("svc"));
}

#[tokio::test]
async fn outlives_broken_connections() {
    let fake = Fake::default();
    fake.serve(3).await.record("tenants/a", &event()).await.unwrap();
    assert_eq!(fake.ids().len(), 1);
}

#[tokio::test]
async fn does_not_repeat_what_will_not_pass() {
    let lasting = [
        Code::InvalidArgument,
        Code::PermissionDenied,
        Code::Unauthenticated,
        Code::AlreadyExists,
        Code::NotFound,
        Code::FailedPrecondition,
        Code::OutOfRange,
        Code::Internal,
        Code::Unknown,
        Code::Unimplemented,
    ];
    let fake = Fake::failing(lasting.map(|code| Some(Status::new(code, "no"))));
    let emitter = fake.serve(0).await;
    for code in lasting {
        let error = emitter.record("tenants/a", &event()).await.unwrap_err();
        assert_eq!(error.call().map(|failed| (failed.code(), failed.attempts())), Some((code, 1)));
        assert!(!error.is_temporary());
    }
}

#[tokio::test]
async fn the_services_reason_and_violations_are_readable() {
    let mut details = ErrorDetails::new();
    let metadata = HashMap::from([("index".to_owned(), "3".to_owned())]);
    details.set_error_info("FIELD_INVALID", "auditlog", metadata);
    details.add_bad_request_violation("event.actor", "is required");
    details.add_bad_request_violation("", "and 8 more");
    let status = Status::with_error_details(Code::InvalidArgument, "event.actor is required; and 8 more", details);
    let error = Fake::failing([Some(status)]).serve(0).await.record("tenants/a", &event()).await.unwrap_err();
    assert_eq!(error.reason(), Some("FIELD_INVALID"));
    let violation = |field: &str, description: &str| Violation { field: field.into(), description: description.into() };
    assert_eq!(error.violations(), [violation("event.actor", "is required"), violation("", "and 8 more")]);
    assert_eq!(error.call().unwrap().detail("index"), Some("3"));
    let text = "InvalidArgument, FIELD_INVALID (attempt 1): event.actor is required; and 8 more";
    assert_eq!(error.to_string(), text);
}

#[tokio::test]
async fn a_log_that_went_back_is_not_asked_again() {
    let details = ErrorDetails::with_error_info("LOG_ROLLED_BACK", "auditlog", HashMap::new());
    let status = Status::with_error_details(Code::Unavailable, "an operator has to look into it", details);
    let error = Fake::failing([Some(status)]).serve(0).await.record("tenants/a", &event()).await.unwrap_err();
    assert_eq!((error.call().unwrap().attempts(), error.reason()), (1, Some("LOG_ROLLED_BACK")));
}

/// Whether it is recorded is said only where it is known.
#[tokio::test]
async fn an_outcome_that_nobody_knows_is_told_as_such() {
    let service = |code, reason: &str| {
        Some(Status::with_error_details(code, "no", ErrorDetails::with_error_info(reason, "auditlog", HashMap::new())))
    };
    let full = || service(Code::ResourceExhausted, "QUEUE_FULL");
    let denied = || service(Code::PermissionDenied, "PERMISSION_MISSING");
    let unknown = [
        service(Code::Unavailable, "OUTCOME_UNKNOWN"),
        service(Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
        service(Code::Internal, "INTERNAL"),
        Some(Status::unavailable("a proxy lost its upstream")),
        Some(Status::permission_denied("of a proxy")),
    ];
    let told = async |failures: Vec<Option<Status>>| {
        let emitter = Fake::failing(failures).serve(0).await;
        let batches = emitter.record_all("tenants/a", stream::iter([event()])).collect::<Vec<_>>().await;
        let failed = batches[0].as_ref().unwrap_err();
        assert_eq!(
            failed.error.may_be_recorded(),
            failed.to_string().starts_with("a batch of 1 events may be recorded: ")
        );
        assert_ne!(
            failed.error.may_be_recorded(),
            failed.to_string().starts_with("a batch of 1 events is not recorded: ")
        );
        failed.error.may_be_recorded()
    };
    assert!(!told(vec![denied()]).await && !told(vec![full(), full(), denied()]).await);
    for failure in unknown {
        let is_last =
            failure.as_ref().is_some_and(|status| status.code() == Code::Internal || status.message() == "of a proxy");
        assert!(told(if is_last { vec![failure] } else { vec![failure, full(), denied()] }).await);
    }
    let failed = NotRecorded { events: vec![event()], error: ClientError::Reply("a receipt is not complete") };
    assert!(!failed.error.is_temporary() && failed.error.may_be_recorded());
    assert_eq!(
        failed.to_string(),
        "a batch of 1 events: very likely recorded, and sending it again with the same ids is safe, but the service answered \
         something else than a receipt for each event: a receipt is not complete"
    );
}

#[tokio::test]
async fn waits_as_long_as_the_service_asks_and_not_beyond_the_deadline() {
    let asking = |delay| {
        let details = ErrorDetails::with_retry_info(Some(delay));
        Some(Status::with_error_details(Code::ResourceExhausted, "full", details))
    };
    let start = Instant::now();
    let fake = Fake::failing([asking(Duration::from_millis(60)), asking(Duration::from_secs(3600))]);
    let error = fake.serve(0).await.record("tenants/a", &event()).await.unwrap_err();
    assert!((Duration::from_millis(60)..Duration::from_secs(30)).contains(&start.elapsed()));
    assert_eq!((error.call().unwrap().attempts(), error.is_temporary()), (2, true));
}

#[tokio::test]
async fn gives_up_on_a_silent_service_at_the_deadline() {
    let fake = Fake::failing(vec![None; 100]);
    let retry = RetryPolicy {
        deadline: Duration::from_millis(200),
        call_timeout: Duration::from_millis(40),
        first_wait: Duration::from_millis(1),
        max_wait: Duration::from_millis(1),
    };
    let error = fake.serve(0).await.with_retry(retry).record("tenants/a", &event()).await.unwrap_err();
    assert!(error.is_temporary());
    assert!(fake.ids().len() > 1);
}

#[tokio::test]
async fn nobody_there_is_temporary_and_no_address_is_told() {
    let credentials = || Credentials::user("ann");
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = Emitter::connect(&format!("http://{port}"), credentials()).await.unwrap_err();
    assert!(error.is_temporary() && error.to_string().contains("refused"), "{error}");
    assert!(Emitter::connect_lazy("not an address", credentials()).is_err());
    let invalid = Emitter::connect_lazy("http://127.0.0.1:1", Credentials::user("")).unwrap_err();
    assert!(matches!(invalid, ClientError::Credentials(_)));
}

/// Who names an authority expects that it is asked for.
#[tokio::test]
async fn nobody_is_called_in_the_clear_who_should_be_called_over_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let tls = ClientTls::new;
    for tls in [tls().authority("x"), tls().identity("x", "y"), tls().server_name("audit.example.com")] {
        let error = Emitter::connect_with(&address, Credentials::user("ann"), tls).await.unwrap_err();
        assert!(!error.is_temporary() && error.to_string().contains("https://"), "{error}");
    }
    assert!(futures_util::FutureExt::now_or_never(listener.accept()).is_none());
}

#[tokio::test]
async fn a_batch_names_projects_only_where_they_differ() {
    let fake = Fake::default();
    let emitter = fake.serve(0).await;
    let events = [event(), event().in_project("p")];
    let receipts = emitter.record_batch("tenants/a", &events).await.unwrap();
    assert_eq!(receipts.iter().map(|r| r.name.ends_with(&events[0].id())).collect::<Vec<_>>(), [true, false]);
    let parents: Vec<String> = fake.seen.lock().unwrap()[0].iter().map(|request| request.parent.clone()).collect();
    assert_eq!(parents, ["", "tenants/a/projects/p"]);
    assert!(emitter.record_batch("tenants/a", &[]).await.unwrap().is_empty());
    let large = emitter.record_batch("tenants/a", &vec![event(); 1001]).await.unwrap_err();
    assert!(matches!(large, ClientError::BatchTooLarge { events: 1001, .. }));
}

#[tokio::test]
async fn all_are_recorded_in_order_and_a_failed_batch_comes_back() {
    let fake = Fake::failing([Some(Status::invalid_argument("no"))]);
    let emitter = fake.serve(0).await;
    let events: Vec<NewEvent> = (0..2500).map(|_| event()).collect();
    let batches = emitter.record_all("tenants/a", stream::iter(events.clone())).collect::<Vec<_>>().await;
    let failed = batches[0].as_ref().unwrap_err();
    assert_eq!(failed.events, events[..1000]);
    let sizes: Vec<usize> = batches[1..].iter().map(|batch| batch.as_ref().unwrap().len()).collect();
    assert_eq!(sizes, [1000, 500]);
    assert_eq!(fake.ids(), events.iter().map(NewEvent::id).collect::<Vec<_>>());
}

/// Whoever stops keeps what no item has told of: what is under way, what was taken from the source, and the source.
#[tokio::test]
async fn who_stops_early_gets_the_events_back() {
    let fake = Fake::failing([Some(Status::invalid_argument("no")), None]);
    let limits = BatchLimits { events: 2, bytes: 5000 };
    let emitter = fake.serve(0).await.with_batch_limits(limits);
    let events: Vec<NewEvent> = (0..6).map(|n| event().message("m".repeat(n / 4 * 3000))).collect();
    let mut source = stream::iter(events.clone());
    let mut batches = emitter.record_all("tenants/a", &mut source);
    assert_eq!(batches.next().await.unwrap().unwrap_err().events, events[..2]);
    let is_asked = async {
        while fake.ids().len() < 4 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = batches.next() => panic!("the service does not answer"),
        () = is_asked => (),
    }
    assert_eq!(batches.into_pending(), events[2..4]);

    // The next two are too large for one batch.
    let mut batches = emitter.record_all("tenants/a", &mut source);
    let receipts = batches.next().await.unwrap().unwrap();
    assert!(receipts.len() == 1 && receipts[0].name.ends_with(&events[4].id()));
    assert_eq!(batches.into_pending(), events[5..]);
    assert!(source.next().await.is_none());
    assert!(emitter.record_all("tenants/a", source).into_pending().is_empty());
    let large = emitter.record_batch("tenants/a", &events[..3]).await.unwrap_err();
    assert!(large.to_string().ends_with("than a batch may hold (2 events, 5000 bytes)"), "{large}");
}

#[tokio::test]
async fn can_be_used_from_any_task() {
    let emitter = Fake::default().serve(0).await;
    let task = tokio::spawn(async move {
        let one = emitter.record("tenants/a", &event()).await.map(|_| ());
        let all = emitter.record_all("tenants/a", stream::iter([event()])).collect::<Vec<_>>().await;
        (one, all.len())
    });
    assert!(matches!(task.await.unwrap(), (Ok(()), 1)));
}
