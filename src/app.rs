//! The composition root: opens the store, starts the append path, binds, serves, and shuts down in order.

mod chores;
mod health;
mod shutdown;
mod signing;

use std::{io, net::SocketAddr, sync::Arc};

use tokio::{
    net::TcpListener,
    sync::{OnceCell, oneshot, watch},
};

use crate::{
    admin::{Admin, AdminServer, Sample},
    auth::{
        Authenticator, Authorizer, ClaimWords, Policy, PolicyError, Vouchers,
        jwt::{JwtError, TokenVerifier},
    },
    config::{AuditConfig, AuthMode, Config, DatabaseConfig, ShutdownConfig, TlsConfig},
    export::Exporter,
    ingest::{self, AcknowledgeError, Hung, Ingest, IngestSettings, Measured, Workers},
    metrics::Metrics,
    model::{Clock, NoteRules, Timestamp},
    proof::Prover,
    query::Query,
    rpc,
    self_audit::{SelfAudit, SelfAuditSettings},
    store::{Store, StoreError, StoreSettings, migrate_database},
    telemetry,
};

pub use self::signing::SigningError;
use self::{
    chores::Chores,
    health::Health,
    shutdown::{drain, finish, flatten},
};
pub use crate::ingest::{Acknowledged, Acknowledgement};

/// After how many times of what a statement may take an append counts as hung: it has several, and each may be waited for.
const HUNG_AFTER: u32 = 3;

/// Why the service did not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The roles of the configuration file.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The keys that tokens are checked with.
    #[error(transparent)]
    Jwt(#[from] JwtError),
    /// The files that TLS is made of.
    #[error(transparent)]
    Tls(#[from] rpc::TlsError),
    /// The store could not be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A log that went back could not be acknowledged.
    #[error(transparent)]
    Acknowledge(#[from] AcknowledgeError),
    /// The key that checkpoints are signed with.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// The address could not be bound.
    #[error("cannot listen on {address}: {error}")]
    Bind {
        /// The setting `listen` or `admin.listen`.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The database did not answer to the end.
    #[error(transparent)]
    Hung(#[from] Hung),
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
    transport: rpc::Transport,
    listener: TcpListener,
    local_addr: SocketAddr,
    shutdown: ShutdownConfig,
    ready: watch::Sender<bool>,
    admin: Option<AdminServer>,
}

impl App {
    /// Binds the address for probes first, because opening the store may take a while; then opens the store, starts the
    /// append worker and binds the listener.
    pub async fn start(config: Config, clock: Arc<dyn Clock>) -> Result<Self, AppError> {
        let authorizer = Arc::new(Authorizer::new(Policy::new(&config.roles)?).with_words(claim_words(&config)));
        let authenticator = authenticator(&config, &clock).await?;
        let tls = config.tls.as_ref().map(open_tls).transpose()?;
        let notes =
            Arc::new(NoteRules { resource_types: config.notes.resource_types.clone(), max_notes: config.limits.notes });
        let metrics = Metrics::new(rpc::method_paths(), rpc::error_reasons());
        let (ready, is_ready) = watch::channel(false);
        let sample = Arc::new(OnceCell::new());
        let admin = Admin { ready: is_ready, metrics: metrics.clone(), sample: Arc::clone(&sample) };
        let admin = serve_admin(admin, config.admin.listen).await?;
        let store = open(&config, clock.now()).await?;
        let signing = signing::open(&config.checkpoint, &store).await?;
        metrics.reads().signs(signing.is_ok());
        let prover = Prover::new(store.clone(), signing);
        let (ingest, workers) = start_ingest(&config, store.clone(), &clock, &notes, &metrics).await?;
        sample.get_or_init(async || sampler(&store, &ingest, &authenticator, config.append.queue_events)).await;
        let inspected = config.limits.inspected_events;
        let query = Query::new(store.clone(), inspected, ingest.callers().clone());
        let exporter = Exporter::new(store.clone(), ingest.clone(), prover.clone(), Arc::clone(&clock), inspected);
        let traffic = Arc::new(rpc::Traffic::new(config.traffic, rpc::largest_message(&config.limits)));
        let self_audit = self_audit(&config.audit, &store, &ingest, &clock, &metrics);
        let limits = config.limits;
        let api = rpc::Api { authorizer, ingest, query, exporter, prover, limits, notes, metrics, clock, traffic };
        let listener = TcpListener::bind(config.listen).await.map_err(bind_error(config.listen))?;
        let local_addr = listener.local_addr()?;
        let origins = rpc::Origins::new(config.cors.allowed_origins);
        let transport = rpc::Transport { origins, max_age: config.connection.max_age, authenticator, tls, self_audit };
        Ok(Self { api, store, workers, transport, listener, local_addr, shutdown: config.shutdown, ready, admin })
    }

    /// The address that is listened on, with the port that the system chose if none was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The address for probes and metrics, if there is one.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(AdminServer::local_addr)
    }

    /// The store's statement counter, for tests that prove that a denied call makes no query.
    pub fn statement_counter(&self) -> impl Fn() -> u64 + Send + Sync + 'static {
        let store = self.store.clone();
        move || store.statements()
    }

    /// Serves until `signal` resolves. Then, in this order: health says `NOT_SERVING`; the delay passes for load balancers to
    /// notice; no more connections or calls are taken; calls under way get the grace to end; denials and reads that were
    /// counted are told, while exports that are left are ended and told; what was accepted is committed and answered; the
    /// store is closed. The address for probes is there until the end. A database that does not answer is not waited for: then
    /// it ends in [`AppError::Hung`].
    pub async fn run(self, signal: impl Future<Output = ()>) -> Result<(), AppError> {
        let (reporter, health_service) = tonic_health::server::health_reporter();
        let (ingest, exporter) = (self.api.ingest.clone(), self.api.exporter.clone());
        let health = Health { reporter, ready: self.ready };
        // The store has just been opened, and the worker started.
        health.report(true).await;
        let (clock, authenticator) = (Arc::clone(&self.api.clock), self.transport.authenticator.clone());
        let chores = Chores::begin(&self.store, &ingest, clock, authenticator, &health);
        let (stop, stopped) = oneshot::channel::<()>();
        let until_stopped = async { drop(stopped.await) };
        let self_audit = self.transport.self_audit.clone();
        let telling = tokio::spawn(self_audit.clone().run());
        let serving = rpc::serve(self.api, self.transport, health_service, self.listener, until_stopped);
        let mut serving = tokio::spawn(serving);
        let early = tokio::select! {
            ended = &mut serving => Some(ended),
            () = signal => None,
        };
        // Before the report: the probe might say once more that all is well.
        chores.end().await;
        health.report(false).await;
        let result = match early {
            Some(ended) => flatten(ended),
            None => drain(serving, stop, health, self.shutdown).await,
        };
        telling.abort();
        // What is due is told by one at a time: the two would take each other's wake-ups.
        drop(telling.await);
        tokio::join!(self_audit.close(), exporter.close());
        let finished = finish(&ingest, self.workers).await;
        drop(self.admin);
        tracing::info!("stopped");
        result.and(finished)
    }
}

/// Brings the database's schema up to date and tells the names of the migrations that this took.
pub fn migrate(database: &DatabaseConfig, clock: &dyn Clock) -> Result<Vec<String>, AppError> {
    Ok(migrate_database(&store_settings(database), clock.now())?)
}

/// Acknowledges that a tenant's log went back, and tells the epoch that begins with it.
pub fn acknowledge_rollback(
    database: &DatabaseConfig,
    clock: &Arc<dyn Clock>,
    acknowledgement: &Acknowledgement,
) -> Result<Acknowledged, AppError> {
    let settings = StoreSettings { migrate: false, ..store_settings(database) };
    let store = Store::open(&settings, clock.now())?;
    let mut writers = store.writers(1, clock, &Arc::default())?;
    let writer = writers.first_mut().ok_or_else(|| io::Error::other("the store gave no writer"))?;
    Ok(ingest::acknowledge(writer, &**clock, acknowledgement)?)
}

fn store_settings(database: &DatabaseConfig) -> StoreSettings {
    StoreSettings {
        url: database.url.clone(),
        pool_size: database.pool_size,
        timeout: database.statement_timeout,
        start_wait: database.start_wait,
        migrate: database.migrate,
    }
}

fn claim_words(config: &Config) -> ClaimWords {
    match config.auth.mode {
        AuthMode::Metadata => ClaimWords::Metadata,
        AuthMode::Jwt => ClaimWords::Token(config.jwt.claims.clone()),
    }
}

async fn authenticator(config: &Config, clock: &Arc<dyn Clock>) -> Result<Authenticator, JwtError> {
    let vouchers = config.tls.as_ref().map(|tls| Vouchers::new(tls.client_subjects.clone())).unwrap_or_default();
    Ok(match config.auth.mode {
        AuthMode::Metadata => Authenticator::Metadata(vouchers),
        AuthMode::Jwt => Authenticator::Token(vouchers, TokenVerifier::open(&config.jwt, Arc::clone(clock)).await?),
    })
}

fn open_tls(config: &TlsConfig) -> Result<Arc<rpc::Tls>, rpc::TlsError> {
    let TlsConfig { cert_file, key_file, client_ca_file, .. } = config.clone();
    rpc::Tls::open(rpc::TlsFiles { cert: cert_file, key: key_file, client_ca: client_ca_file }).map(Arc::new)
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
    metrics: &Metrics,
) -> Result<(Ingest, Workers), AppError> {
    let (wanted, clock, notes) = (config.append.workers, Arc::clone(clock), Arc::clone(notes));
    let opened = tokio::task::spawn_blocking(move || store.writers(wanted, &clock, &notes)).await;
    let writers = opened.map_err(io::Error::other)??.into_iter();
    let measured = writers.map(|writer| Measured::new(writer.with_metrics(metrics.clone()), metrics.clone()));
    Ok(Ingest::start(measured, ingest_settings(config))?)
}

fn ingest_settings(config: &Config) -> IngestSettings {
    IngestSettings {
        queue_events: config.append.queue_events,
        batch_events: config.limits.batch_events,
        batch_bytes: config.limits.batch_bytes,
        patience: config.database.statement_timeout.saturating_mul(HUNG_AFTER),
    }
}

async fn serve_admin(admin: Admin, address: Option<SocketAddr>) -> Result<Option<AdminServer>, AppError> {
    match address {
        Some(address) => admin.serve(address).await.map(Some).map_err(bind_error(address)),
        None => Ok(None),
    }
}

fn bind_error(address: SocketAddr) -> impl Fn(io::Error) -> AppError {
    move |error| AppError::Bind { address, error }
}

fn self_audit(
    config: &AuditConfig,
    store: &Store,
    ingest: &Ingest,
    clock: &Arc<dyn Clock>,
    metrics: &Metrics,
) -> SelfAudit {
    let settings = SelfAuditSettings { denied: config.denied, reads: config.reads, interval: config.interval };
    SelfAudit::new(store.clone(), ingest.clone(), Arc::clone(clock), metrics.clone(), settings)
}

fn sampler(store: &Store, ingest: &Ingest, authenticator: &Authenticator, queue_events: usize) -> Sample {
    let (store, ingest, authenticator) = (store.clone(), ingest.clone(), authenticator.clone());
    Box::new(move |metrics| {
        metrics.append().queue(queue_events.saturating_sub(ingest.room()), queue_events);
        metrics.append().hung(ingest.hung());
        metrics.reads().pool(store.pool_state());
        metrics.calls().log_lines_lost(telemetry::lines_lost());
        if let Authenticator::Token(_, verifier) = &authenticator {
            metrics.calls().ignored_token_items(verifier.ignored_items());
        }
    })
}
