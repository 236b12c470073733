//! The composition root: opens the store, starts the append path, binds, serves, and shuts down in order.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    sync::oneshot,
    task::JoinHandle,
    time::{self, MissedTickBehavior},
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    auth::{Authorizer, Policy, PolicyError},
    config::{Config, DatabaseConfig, ShutdownConfig},
    export::Exporter,
    ingest::{Ingest, IngestSettings, Workers},
    model::{Clock, NoteRules, Timestamp},
    query::Query,
    rpc,
    store::{Store, StoreError, StoreSettings, migrate_database},
};

/// How often the store is asked for a sign of life.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// Under which names the health is asked for: that of the whole server, and the service's own.
const HEALTH_NAMES: [&str; 2] = ["", rpc::SERVICE_NAME];

/// How often the store is made ready for what comes.
const PREPARE_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// Why the service did not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The roles of the configuration file.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The store could not be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The address could not be bound.
    #[error("cannot listen on {address}: {error}")]
    Bind {
        /// The setting `listen`.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// A thread or a task could not be started, or ended in a panic.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The transport failed.
    #[error(transparent)]
    Transport(#[from] tonic::transport::Error),
}

/// A service that is bound and not yet serving.
pub struct App {
    api: rpc::Api,
    store: Store,
    workers: Workers,
    listener: TcpListener,
    local_addr: SocketAddr,
    shutdown: ShutdownConfig,
}

impl App {
    /// Opens the store, starts the append worker and binds the listener.
    pub async fn start(config: Config, clock: Arc<dyn Clock>) -> Result<Self, AppError> {
        let authorizer = Arc::new(Authorizer::new(Policy::new(&config.roles)?));
        let notes =
            Arc::new(NoteRules { resource_types: config.notes.resource_types.clone(), max_notes: config.limits.notes });
        let store = open(&config, clock.now()).await?;
        let (ingest, workers) = start_ingest(&config, store.clone(), &clock, &notes).await?;
        let inspected = config.limits.inspected_events;
        let query = Query::new(store.clone(), inspected);
        let exporter = Exporter::new(store.clone(), ingest.clone(), Arc::clone(&clock), inspected);
        let api = rpc::Api { authorizer, ingest, query, exporter, limits: config.limits, notes, clock };
        let bind_error = |error| AppError::Bind { address: config.listen, error };
        let listener = TcpListener::bind(config.listen).await.map_err(bind_error)?;
        let local_addr = listener.local_addr()?;
        Ok(Self { api, store, workers, listener, local_addr, shutdown: config.shutdown })
    }

    /// The address that is listened on, with the port that the system chose if none was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The store's statement counter, for tests that prove that a denied call makes no query.
    pub fn statement_counter(&self) -> impl Fn() -> u64 + Send + Sync + 'static {
        let store = self.store.clone();
        move || store.statements()
    }

    /// Serves until `signal` resolves. Then, in this order: health says `NOT_SERVING`, the delay passes for load
    /// balancers to notice, no more connections or calls are taken, calls under way get the grace to end, what was
    /// accepted is committed and answered, and the store is closed.
    pub async fn run(self, signal: impl Future<Output = ()>) -> Result<(), AppError> {
        let (reporter, health_service) = tonic_health::server::health_reporter();
        let ingest = self.api.ingest.clone();
        // The store has just been opened. Whoever asks before the first probe shall find the service.
        report(&reporter, ServingStatus::Serving).await;
        let probe = tokio::spawn(probe(self.store.clone(), ingest.clone(), reporter.clone()));
        let prepare = tokio::spawn(prepare_daily(self.store.clone(), Arc::clone(&self.api.clock)));
        let (stop, stopped) = oneshot::channel::<()>();
        let until_stopped = async { drop(stopped.await) };
        let incoming = TcpListenerStream::new(self.listener);
        let mut serving = tokio::spawn(rpc::serve(self.api, health_service, incoming, until_stopped));
        let early = tokio::select! {
            ended = &mut serving => Some(ended),
            () = signal => None,
        };
        probe.abort();
        prepare.abort();
        report(&reporter, ServingStatus::NotServing).await;
        let result = match early {
            Some(ended) => flatten(ended),
            None => drain(serving, stop, reporter, self.shutdown).await,
        };
        ingest.close();
        self.workers.join().await;
        tracing::info!("stopped");
        result
    }
}

/// Brings the database's schema up to date and tells the names of the migrations that this took.
pub fn migrate(database: &DatabaseConfig, clock: &dyn Clock) -> Result<Vec<String>, AppError> {
    Ok(migrate_database(&store_settings(database), clock.now())?)
}

fn store_settings(database: &DatabaseConfig) -> StoreSettings {
    StoreSettings {
        url: database.url.clone(),
        pool_size: database.pool_size,
        timeout: database.statement_timeout,
        migrate: database.migrate,
    }
}

async fn open(config: &Config, now: Timestamp) -> Result<Store, AppError> {
    let settings = store_settings(&config.database);
    let opened = tokio::task::spawn_blocking(move || Store::open(&settings, now)).await;
    Ok(opened.map_err(io::Error::other)??)
}

async fn start_ingest(
    config: &Config,
    store: Store,
    clock: &Arc<dyn Clock>,
    notes: &Arc<NoteRules>,
) -> Result<(Ingest, Workers), AppError> {
    let (wanted, clock, notes) = (config.append.workers, Arc::clone(clock), Arc::clone(notes));
    let opened = tokio::task::spawn_blocking(move || store.writers(wanted, &clock, &notes)).await;
    let writers = opened.map_err(io::Error::other)??;
    Ok(Ingest::start(writers, ingest_settings(config))?)
}

fn ingest_settings(config: &Config) -> IngestSettings {
    IngestSettings {
        queue_events: config.append.queue_events,
        batch_events: config.limits.batch_events,
        batch_bytes: config.limits.batch_bytes,
    }
}

async fn drain(
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
    stop: oneshot::Sender<()>,
    mut reporter: HealthReporter,
    shutdown: ShutdownConfig,
) -> Result<(), AppError> {
    tracing::info!(delay = ?shutdown.delay, grace = ?shutdown.grace, "shutting down");
    time::sleep(shutdown.delay).await;
    drop(stop);
    // Ends the streams of those who watch the health, which would otherwise last until the grace has passed.
    for service in HEALTH_NAMES {
        reporter.clear_service_status(service).await;
    }
    let abort = serving.abort_handle();
    match time::timeout(shutdown.grace, serving).await {
        Ok(ended) => flatten(ended),
        Err(_) => {
            tracing::warn!("the grace has passed; what is still open is cut off");
            abort.abort();
            Ok(())
        }
    }
}

fn flatten(ended: Result<Result<(), tonic::transport::Error>, tokio::task::JoinError>) -> Result<(), AppError> {
    Ok(ended.map_err(io::Error::other)??)
}

/// Has the store made ready for the months to come. The start has done it once; failing for a day or two does no harm.
async fn prepare_daily(store: Store, clock: Arc<dyn Clock>) {
    let mut days = time::interval_at(time::Instant::now() + PREPARE_EVERY, PREPARE_EVERY);
    loop {
        days.tick().await;
        if let Err(error) = store.prepare(clock.now()).await {
            tracing::error!(%error, "the store could not be made ready for the coming months");
        }
    }
}

/// Keeps the health service informed whether the store answers and the append worker is there.
async fn probe(store: Store, ingest: Ingest, reporter: HealthReporter) {
    let mut ticks = time::interval(PROBE_EVERY);
    // A store that is away lets each question wait; to ask all those that were missed at once helps nobody.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = None;
    loop {
        ticks.tick().await;
        let alive = store.ping().await;
        let status = match alive.is_ok() && ingest.is_running() {
            true => ServingStatus::Serving,
            false => ServingStatus::NotServing,
        };
        if last.replace(status).is_none_or(|last| last != status) {
            tracing::info!(?status, error = alive.err().map(tracing::field::display), "health");
            report(&reporter, status).await;
        }
    }
}

async fn report(reporter: &HealthReporter, status: ServingStatus) {
    for service in HEALTH_NAMES {
        reporter.set_service_status(service, status).await;
    }
}
