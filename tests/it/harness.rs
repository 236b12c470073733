//! A running service, callers with claims, and short ways to say what a test is about.

mod database;
mod export;
mod metrics;
mod proofs;
mod rewriting;

pub use export::*;
pub use metrics::*;
pub use proofs::*;
pub use rewriting::*;

use std::{
    fmt::Debug,
    fs::OpenOptions,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Instant,
};

use crate::postgres::Cluster;
use auditlog::{
    Clock, Timestamp,
    app::{self, App, AppError},
    config::{Config, DatabaseConfig},
    merkle::CheckpointKey,
    proto::auditlog::v1::{
        ActionType, Actor, ActorType, AddUpdateNoteRequest, AddUpdateNoteResponse, BatchRecordEventsRequest, Event,
        EventFilter, EventReceipt, ListEventsRequest, ListEventsResponse, Order, RecordEventRequest, Resource,
        audit_log_service_client::AuditLogServiceClient,
    },
};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};
use tonic::{Code, Request, Status, metadata::AsciiMetadataKey, transport::Channel};
use tonic_types::StatusExt as _;

/// The generated client.
pub type Client = AuditLogServiceClient<Channel>;

/// 2026-01-01T00:00:00Z, where the test clock starts.
pub const START_MILLIS: i64 = 1_767_225_600_000;

/// A clock that goes on by one microsecond each time it is read, and otherwise stands where it is put.
#[derive(Debug)]
pub struct TestClock(AtomicI64);

impl TestClock {
    fn at(millis: i64) -> Self {
        Self(AtomicI64::new(millis * 1000))
    }

    pub fn set_millis(&self, millis: i64) {
        self.0.store(millis * 1000, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_timestamp_micros(self.0.fetch_add(1, Ordering::SeqCst)).unwrap()
    }
}

/// Which store a test runs on. Every test of behaviour takes one as a parameter, and runs on each, unless no store has a part in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Sqlite,
    Postgres,
}

/// A database of its own, which goes when the last holder goes.
#[derive(Debug)]
pub struct Database {
    pub backend: Backend,
    pub url: String,
    /// Holds the files of a SQLite database, and is there for whatever else a test wants to put in a file.
    pub folder: TempDir,
}

impl Database {
    pub fn create(backend: Backend) -> Arc<Self> {
        match backend {
            Backend::Sqlite => {
                let folder = tempfile::tempdir().unwrap();
                let url = format!("sqlite://{}", folder.path().join("auditlog.db").display());
                Arc::new(Self { backend, url, folder })
            }
            Backend::Postgres => Self::on(Cluster::shared()),
        }
    }

    /// For a service that shall start at once: on PostgreSQL a copy of a database with its schema, which takes a third of the time. What
    /// the first start makes of an empty one is tested on those of [`Self::create`].
    pub fn for_service(backend: Backend) -> Arc<Self> {
        match backend {
            Backend::Sqlite => Self::create(backend),
            Backend::Postgres => Self::at(Cluster::shared().copy_database(migrate)),
        }
    }

    /// The key that signs checkpoints. On SQLite the service makes it itself.
    pub fn key_file(&self) -> PathBuf {
        self.folder.path().join("checkpoint.key")
    }

    /// On a PostgreSQL cluster of the test's own.
    pub fn on(cluster: &Cluster) -> Arc<Self> {
        Self::at(cluster.create_database())
    }

    fn at(url: String) -> Arc<Self> {
        let database = Self { backend: Backend::Postgres, url, folder: tempfile::tempdir().unwrap() };
        write_key(&database.key_file(), 9);
        Arc::new(database)
    }
}

fn migrate(url: &str) {
    let database = DatabaseConfig { url: url.to_owned(), ..Config::default().database };
    app::migrate(&database, &TestClock::at(START_MILLIS)).unwrap();
}

/// Writes a key made from `seed`, as `auditlog key new` would.
pub fn write_key(path: &Path, seed: u8) {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(CheckpointKey::from_seed(&[seed; 32]).to_text().as_bytes()).unwrap();
}

/// How often the store had been asked, and when that was.
pub struct Asked {
    pub statements: u64,
    at: Instant,
}

impl Asked {
    /// The most statements that the probe of the store's health has made since.
    pub fn probes(&self) -> u64 {
        1 + self.at.elapsed().as_secs()
    }
}

/// A service of its own, on a store of its own.
pub struct TestApp {
    pub client: Client,
    pub channel: Channel,
    pub address: std::net::SocketAddr,
    /// Where probes and metrics are, if the settings ask for it.
    pub admin: Option<std::net::SocketAddr>,
    pub clock: Arc<TestClock>,
    pub database: Arc<Database>,
    statements: Box<dyn Fn() -> u64 + Send + Sync>,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<Result<(), AppError>>,
}

impl TestApp {
    pub async fn start(backend: Backend) -> Self {
        Self::start_with(backend, |_| {}).await
    }

    /// With other settings than the default ones.
    pub async fn start_with(backend: Backend, change: impl FnOnce(&mut Config)) -> Self {
        Self::start_on(Database::for_service(backend), change).await
    }

    /// On a database which may have been another service's, or still is.
    pub async fn start_on(database: Arc<Database>, change: impl FnOnce(&mut Config)) -> Self {
        Self::start_at(database, START_MILLIS, change).await
    }

    /// At another time than the usual one.
    pub async fn start_at(database: Arc<Database>, millis: i64, change: impl FnOnce(&mut Config)) -> Self {
        Self::try_start(database, millis, change).await.unwrap()
    }

    pub async fn try_start(
        database: Arc<Database>,
        millis: i64,
        change: impl FnOnce(&mut Config),
    ) -> Result<Self, AppError> {
        let mut config = Config { listen: "127.0.0.1:0".parse().unwrap(), ..Config::default() };
        config.database.url.clone_from(&database.url);
        config.checkpoint.key_file = database.key_file();
        change(&mut config);
        let clock = Arc::new(TestClock::at(millis));
        let app = App::start(config, Arc::clone(&clock) as Arc<dyn Clock>).await?;
        let (address, admin) = (app.local_addr(), app.admin_addr());
        let statements = Box::new(app.statement_counter());
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(app.run(async { drop(stopped.await) }));
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        let client = AuditLogServiceClient::new(channel.clone());
        Ok(Self { client, channel, address, admin, clock, database, statements, stop: Some(stop), running })
    }

    /// How many statements the store has run.
    pub fn statements(&self) -> u64 {
        (self.statements)()
    }

    /// The same with the time, for [`Self::assert_not_asked_since`].
    pub fn asked(&self) -> Asked {
        Asked { statements: self.statements(), at: Instant::now() }
    }

    /// Asserts that nobody has asked the store since, but for the probe of its health, once a second.
    #[track_caller]
    pub fn assert_not_asked_since(&self, before: &Asked) {
        let statements = self.statements() - before.statements;
        assert!(statements <= before.probes(), "a denied call made a query: {statements} statements");
    }

    /// Begins the shutdown, and lets the caller await its end.
    pub fn stop(mut self) -> JoinHandle<Result<(), AppError>> {
        drop(self.stop.take());
        self.running
    }

    pub async fn record(&self, caller: &Caller, parent: &str, event: Event) -> Result<EventReceipt, Status> {
        self.record_as(caller, parent, event, "").await
    }

    pub async fn record_as(
        &self,
        caller: &Caller,
        parent: &str,
        event: Event,
        id: &str,
    ) -> Result<EventReceipt, Status> {
        let request = item(parent, event, id);
        let reply = self.client.clone().record_event(caller.call(request)).await?;
        Ok(reply.into_inner().receipt.unwrap())
    }

    pub async fn batch(
        &self,
        caller: &Caller,
        parent: &str,
        requests: Vec<RecordEventRequest>,
    ) -> Result<Vec<EventReceipt>, Status> {
        let request = BatchRecordEventsRequest { requests, parent: parent.to_owned() };
        Ok(self.client.clone().batch_record_events(caller.call(request)).await?.into_inner().receipts)
    }

    pub async fn get(&self, caller: &Caller, name: &str) -> Result<Event, Status> {
        let request = auditlog::proto::auditlog::v1::GetEventRequest { name: name.to_owned() };
        Ok(self.client.clone().get_event(caller.call(request)).await?.into_inner().event.unwrap())
    }

    pub async fn list(&self, caller: &Caller, request: ListEventsRequest) -> Result<ListEventsResponse, Status> {
        Ok(self.client.clone().list_events(caller.call(request)).await?.into_inner())
    }

    /// All pages of a walk.
    pub async fn walk(&self, caller: &Caller, mut request: ListEventsRequest) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let page = self.list(caller, request.clone()).await.unwrap();
            events.extend(page.events);
            if page.next_page_token.is_empty() {
                return events;
            }
            assert_ne!(page.next_page_token, request.page_token, "the walk stands still");
            request.page_token = page.next_page_token;
        }
    }

    pub async fn note(
        &self,
        caller: &Caller,
        name: &str,
        text: &str,
        id: &str,
    ) -> Result<AddUpdateNoteResponse, Status> {
        let request = AddUpdateNoteRequest { name: name.to_owned(), text: text.to_owned(), note_id: id.to_owned() };
        Ok(self.client.clone().add_update_note(caller.call(request)).await?.into_inner())
    }
}

/// What comes between two looks at something that others bring about: it leaves them the processor, which they need for that.
pub async fn between_looks() {
    tokio::task::yield_now().await;
    std::thread::yield_now();
}

/// Somebody who calls, with the claims that they send.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    pairs: Vec<(String, String)>,
}

impl Caller {
    pub fn nobody() -> Self {
        Self::default()
    }

    pub fn new(subject: &str) -> Self {
        Self::nobody().with("x-audit-subject", subject)
    }

    /// May do everything everywhere: records, reads, exports, annotates.
    pub fn root() -> Self {
        Self::new("root")
            .permission("audit.get@*")
            .permission("audit.list@*")
            .permission("audit.export@*")
            .permission("audit.update@*")
            .permission("audit.create@*")
    }

    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.pairs.push((key.to_owned(), value.to_owned()));
        self
    }

    pub fn role(self, grant: &str) -> Self {
        self.with("x-audit-roles", grant)
    }

    pub fn permission(self, grant: &str) -> Self {
        self.with("x-audit-permissions", grant)
    }

    /// What is sent under `key`, in order.
    pub fn values(&self, key: &str) -> Vec<&str> {
        self.pairs.iter().filter(|(own, _)| own == key).map(|(_, value)| value.as_str()).collect()
    }

    /// A request with these claims.
    pub fn call<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        for (key, value) in &self.pairs {
            let key: AsciiMetadataKey = key.parse().unwrap();
            request.metadata_mut().append(key, value.parse().unwrap());
        }
        request
    }
}

pub fn actor(id: &str) -> Actor {
    Actor { r#type: ActorType::User.into(), id: id.to_owned(), name: String::new() }
}

pub fn resource(kind: &str, id: &str) -> Resource {
    Resource { r#type: kind.to_owned(), id: id.to_owned(), name: String::new() }
}

/// An event with nothing more than it must have.
pub fn event(kind: &str, id: &str) -> Event {
    Event {
        action_type: ActionType::Create.into(),
        resource: Some(resource(kind, id)),
        actor: Some(actor("ann")),
        ..Event::default()
    }
}

pub fn at(mut event: Event, millis: i64) -> Event {
    event.event_time = Some(timestamp(millis));
    event
}

pub fn timestamp(millis: i64) -> prost_types::Timestamp {
    let nanos = i32::try_from(millis.rem_euclid(1000) * 1_000_000).unwrap();
    prost_types::Timestamp { seconds: millis.div_euclid(1000), nanos }
}

pub fn item(parent: &str, event: Event, id: &str) -> RecordEventRequest {
    RecordEventRequest { parent: parent.to_owned(), event: Some(event), event_id: id.to_owned() }
}

/// A UUIDv7 at `millis` that ends in `n`.
pub fn id_at(millis: i64, n: u64) -> String {
    let hex = format!("{millis:012x}");
    format!("{}-{}-7000-8000-{n:012x}", &hex[..8], &hex[8..])
}

pub fn list(parent: &str) -> ListEventsRequest {
    ListEventsRequest { parent: parent.to_owned(), page_size: 1000, ..Default::default() }
}

pub fn filtered(parent: &str, filter: EventFilter) -> ListEventsRequest {
    ListEventsRequest { filter: Some(filter), ..list(parent) }
}

pub fn ordered(parent: &str, order: Order, page_size: i32) -> ListEventsRequest {
    ListEventsRequest { order: order.into(), page_size, ..list(parent) }
}

/// Asserts what an error is: its code and its reason.
#[track_caller]
pub fn assert_error<T: Debug>(result: Result<T, Status>, code: Code, reason: &str) -> Status {
    let status = result.expect_err("an error was due");
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!((status.code(), info.reason.as_str(), info.domain.as_str()), (code, reason, "auditlog"), "{status:?}");
    status
}

/// Asserts that a request breaks exactly these fields.
#[track_caller]
pub fn assert_fields<T: Debug>(result: Result<T, Status>, fields: &[&str]) -> Status {
    let status = assert_error(result, Code::InvalidArgument, "FIELD_INVALID");
    let bad = status.get_details_bad_request().expect("a BadRequest");
    let named: Vec<&str> = bad.field_violations.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(named, fields, "{bad:?}");
    status
}
