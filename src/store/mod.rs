//! The store: the only room with SQL in it.
//!
//! Reads go through a pool of connections that cannot write, on threads that may block; writes go through the one
//! [`Writer`], which owns its connection.

use std::{sync::Arc, time::Duration};

use diesel::{prelude::*, r2d2::Pool};

use crate::model::{Clock, Event, EventId, NoteRules, PageQuery, Scope};

mod append;
mod conn;
mod error;
mod events;
mod migrate;
mod plan;
mod rows;
mod schema;

pub use append::{Outcome, Writer};
pub use error::StoreError;
pub use events::{EventPage, PageBounds};

use conn::{Access, Connection, Readers, Target};

/// What opening a store takes.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// `sqlite://FILE`.
    pub url: String,
    /// The most read connections.
    pub pool_size: u32,
    /// How long a statement waits for a lock, and a read for a connection.
    pub wait: Duration,
    /// Whether to bring the schema up to date; if not, an old one is refused.
    pub migrate: bool,
}

/// The reading side of an open store. Clones share the pool.
#[derive(Clone)]
pub struct Store {
    pool: Pool<Readers>,
    target: Target,
}

impl Store {
    /// Opens the database, makes it if it is not there, and brings its schema up to date.
    pub fn open(settings: &StoreSettings) -> Result<Self, StoreError> {
        let mut target = Target::parse(&settings.url, settings.wait)?;
        let mut connection = target.connect(Access::Create)?;
        match settings.migrate {
            true => drop(migrate::run(&mut connection)?),
            false => migrate::require_current(&mut connection)?,
        }
        target.pin()?;
        let pool = Pool::builder()
            .max_size(settings.pool_size)
            .min_idle(Some(1))
            .connection_timeout(settings.wait)
            .build(Readers(target.clone()))?;
        Ok(Self { pool, target })
    }

    /// The one writer. A second one would be safe, and wait for the first.
    pub fn writer(&self, clock: Arc<dyn Clock>, rules: Arc<NoteRules>) -> Result<Writer, StoreError> {
        Writer::open(self.target.clone(), clock, rules)
    }

    /// The event `id` within `scope`, with its notes.
    pub async fn event(&self, scope: &Scope, id: EventId) -> Result<Option<Event>, StoreError> {
        let scope = scope.clone();
        self.read(move |connection| events::event(connection, &scope, id)).await
    }

    /// One page of a walk.
    pub async fn page(&self, query: PageQuery, bounds: PageBounds) -> Result<EventPage, StoreError> {
        self.read(move |connection| events::page(connection, &query, bounds)).await
    }

    /// How many leaves the tenant's log has; 0 where there is none.
    pub async fn log_size(&self, tenant: &str) -> Result<i64, StoreError> {
        use schema::tree_heads::dsl::{tree_heads, tree_size};
        let tenant = tenant.to_owned();
        let size =
            self.read(move |connection| Ok(tree_heads.find(tenant).select(tree_size).first(connection).optional()?));
        Ok(size.await?.unwrap_or(0))
    }

    /// Whether the store answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.read(conn::ping).await
    }

    /// How many statements the store has run since it was opened.
    pub fn statements(&self) -> u64 {
        self.target.statements()
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let pool = self.pool.clone();
        let work = tokio::task::spawn_blocking(move || read(&mut *pool.get()?));
        work.await.map_err(|error| StoreError::Unavailable(error.to_string()))?
    }
}

/// Brings the database's schema up to date and tells the names of the migrations that this took.
pub fn migrate_database(settings: &StoreSettings) -> Result<Vec<String>, StoreError> {
    let target = Target::parse(&settings.url, settings.wait)?;
    migrate::run(&mut target.connect(Access::Create)?)
}
