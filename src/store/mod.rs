//! The store: the only room with SQL in it.
//!
//! Reads go through a pool of connections that cannot write, on threads that may block; writes go through [`Writer`]s,
//! each of which owns its connection. Two backends stand behind one set of queries: SQLite and PostgreSQL.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use diesel::{prelude::*, r2d2::Pool};
use tokio::sync::Semaphore;

use crate::{
    metrics::PoolState,
    model::{Clock, EventId, NoteRules, PageQuery, Scope, Timestamp},
};

mod append;
mod audit;
mod by_ids;
mod conditions;
mod conn;
mod driver;
mod error;
mod events;
mod heads;
mod lanes;
mod leaves;
mod merge;
mod migrate;
mod partitions;
mod reading;
mod rows;
mod schema;
mod signing_key;
mod tree;
mod types;
mod walk;

pub use append::{Appended, EpochState, Writer};
pub use audit::{AfterRow, AuditPage, AuditReader, AuditRow, NoteOnEvent, StoredHead, StoredTile};
pub use error::StoreError;
pub use events::{EventPage, PageBounds, StoredEvent};
pub use leaves::{LogHead, LogRows};

use conn::{Access, AnyConnection, Readers, Target};
use heads::SeenHeads;
use reading::read_once_more;

/// The pause between two attempts to reach it.
const SERVER_PAUSE: Duration = Duration::from_millis(500);

/// What opening a store takes.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// `sqlite://FILE` or `postgres://…`.
    pub url: String,
    /// The most read connections.
    pub pool_size: u32,
    /// How long a statement may take, or wait for a lock, and how long a read waits for a connection.
    pub timeout: Duration,
    /// How long to wait for a database server that is away, or for others to let it be migrated.
    pub start_wait: Duration,
    /// Whether to bring the schema up to date; if not, an old one is refused.
    pub migrate: bool,
}

/// The reading side of an open store. Clones share the pool.
#[derive(Clone)]
pub struct Store {
    pool: Pool<Readers>,
    /// As many as the pool has connections: who waits for one must not hold a thread.
    turns: Arc<Semaphore>,
    target: Target,
    timeout: Duration,
    seen: Arc<SeenHeads>,
}

impl Store {
    /// Opens the database. If it shall migrate, it makes what is not there, and brings the schema up to date. For a server that is away
    /// it waits for a while.
    pub fn open(settings: &StoreSettings, now: Timestamp) -> Result<Self, StoreError> {
        let mut target = Target::parse(&settings.url, settings.timeout)?;
        // Who shall make no tables makes no file either.
        let access = if settings.migrate { Access::Migrate } else { Access::Append };
        let mut connection = connect_patiently(&target, access, settings.start_wait)?;
        migrate::require_unicode(&mut connection)?;
        if settings.migrate {
            migrate::run(&mut connection, settings.start_wait)?;
        }
        migrate::require_usable(&mut connection)?;
        drop(connection);
        partitions::make(&target, now)?;
        target.pin()?;
        let pool = Pool::builder()
            .max_size(settings.pool_size)
            .min_idle(Some(1))
            .test_on_check_out(false)
            .connection_timeout(settings.timeout)
            .build(Readers(target.clone()))?;
        target.pin_beside()?;
        let turns = Arc::new(Semaphore::new(settings.pool_size as usize));
        Ok(Self { pool, turns, target, timeout: settings.timeout, seen: Arc::default() })
    }

    /// Writers for at most `wanted` threads. On SQLite there is one: a second one would only wait for the first.
    pub fn writers(
        &self,
        wanted: usize,
        clock: &Arc<dyn Clock>,
        rules: &Arc<NoteRules>,
    ) -> Result<Vec<Writer>, StoreError> {
        let count = if self.target.is_server() { wanted.max(1) } else { 1 };
        let open = |_| Writer::open(self.target.clone(), Arc::clone(&self.seen), Arc::clone(clock), Arc::clone(rules));
        (0..count).map(open).collect()
    }

    /// The event `id` within `scope`, with its notes, in the shape that is asked for.
    pub async fn event<T: Send + 'static>(
        &self,
        scope: &Scope,
        id: EventId,
        shape: impl Fn(StoredEvent) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<Option<T>, StoreError> {
        let scope = scope.clone();
        self.read(move |connection| events::event(connection, &scope, id)?.map(&shape).transpose()).await
    }

    /// One page of a walk, in the shape that is asked for. It gets that shape on the thread that reads it: a thousand events
    /// that go from thread to thread, to be taken apart and freed on another, cost more than their reading.
    pub async fn page<T: Send + 'static>(
        &self,
        query: PageQuery,
        bounds: PageBounds,
        shape: impl Fn(EventPage) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.read(move |connection| shape(events::page(connection, &query, bounds)?)).await
    }

    /// How many leaves the tenant's log has; 0 where there is none.
    pub async fn log_size(&self, tenant: &str) -> Result<i64, StoreError> {
        use schema::tree_heads::dsl::{tree_heads, tree_size};
        let tenant = tenant.to_owned();
        let size = self.read(move |connection| {
            Ok(tree_heads.find(tenant.clone()).select(tree_size).first(connection).optional()?)
        });
        Ok(size.await?.unwrap_or(0))
    }

    /// Reads in the log of `tenant` over one connection; where that breaks, once more from the beginning.
    pub async fn read_log<T: Send + 'static>(
        &self,
        tenant: &str,
        work: impl Fn(&mut LogRows<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (tenant, seen) = (tenant.to_owned(), Arc::clone(&self.seen));
        self.read(move |connection| work(&mut LogRows::new(connection, &seen, &tenant))).await
    }

    /// The public key that the checkpoints of this database are verified with; `None` before the first start with a key.
    pub fn signing_key(&self) -> Result<Option<[u8; 32]>, StoreError> {
        signing_key::stored(&mut self.target.connect(Access::Read)?)
    }

    /// Stores the public key of who will sign for this database, unless another one was first; that one comes back.
    pub fn claim_signing_key(&self, key: &[u8; 32]) -> Result<[u8; 32], StoreError> {
        signing_key::claim(&self.target, key)
    }

    /// Whether the database is on a server, and may have several replicas of the service.
    pub fn is_on_server(&self) -> bool {
        self.target.is_server()
    }

    /// Whether the store answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.read(conn::ping).await
    }

    /// Makes what the store will need in the coming months. To be called once a day.
    pub async fn prepare(&self, now: Timestamp) -> Result<(), StoreError> {
        let target = self.target.clone();
        let work = tokio::task::spawn_blocking(move || partitions::make(&target, now));
        work.await.map_err(|error| StoreError::Unavailable(error.to_string()))?
    }

    /// Ends sessions of replicas that are frozen and do not take what they have asked for. To be called more often than each [`Self::untaken_after`].
    pub async fn end_frozen(&self) -> Result<(), StoreError> {
        let target = self.target.clone();
        let work = tokio::task::spawn_blocking(move || match target.connect_uncounted(Access::Append)? {
            AnyConnection::Sqlite(_) => Ok(()),
            AnyConnection::Postgres(mut connection) => {
                conn::postgres::end_frozen(&mut connection, target.timeout()).map(drop).map_err(StoreError::from)
            }
        });
        work.await.map_err(|error| StoreError::Unavailable(error.to_string()))?
    }

    /// How long a replica may take to take what it has asked for.
    pub fn untaken_after(&self) -> Duration {
        conn::postgres::untaken_after(self.timeout)
    }

    /// How many statements the store has run since it was opened.
    pub fn statements(&self) -> u64 {
        self.target.statements()
    }

    /// How many may read at a time, at least 1.
    pub fn connections(&self) -> usize {
        self.pool.max_size() as usize
    }

    /// How long a statement may take, or a read may wait.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The read pool at this moment.
    pub fn pool_state(&self) -> PoolState {
        let state = self.pool.state();
        let in_use = state.connections.saturating_sub(state.idle_connections);
        PoolState { in_use, idle: state.idle_connections, size: self.pool.max_size() }
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl Fn(&mut AnyConnection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let busy = |_| StoreError::Unavailable("all read connections are busy".to_owned());
        let turn = tokio::time::timeout(self.timeout, Arc::clone(&self.turns).acquire_owned()).await.map_err(busy)?;
        let (pool, target) = (self.pool.clone(), self.target.clone());
        let work = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            read_once_more(&pool, &target, read)
        });
        work.await.map_err(|error| StoreError::Unavailable(error.to_string()))?
    }
}

/// Waits for a server that is away, but not for one that is there and refuses.
fn connect_patiently(target: &Target, access: Access, wait: Duration) -> Result<AnyConnection, StoreError> {
    let start = Instant::now();
    loop {
        match target.connect(access) {
            Err(error @ StoreError::Unavailable(_)) if target.is_server() && start.elapsed() < wait => {
                tracing::warn!(%error, "waiting for the database");
                thread::sleep(SERVER_PAUSE.min(wait.saturating_sub(start.elapsed())));
            }
            result => return result,
        }
    }
}

/// Brings the database's schema up to date and tells the names of the migrations that this took.
pub fn migrate_database(settings: &StoreSettings, now: Timestamp) -> Result<Vec<String>, StoreError> {
    let target = Target::parse(&settings.url, settings.timeout)?;
    let mut connection = connect_patiently(&target, Access::Migrate, settings.start_wait)?;
    migrate::require_unicode(&mut connection)?;
    let applied = migrate::run(&mut connection, settings.start_wait)?;
    drop(connection);
    partitions::make(&target, now)?;
    Ok(applied)
}
