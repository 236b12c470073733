//! Reading: one event, or a page of a walk.

mod turns;

use tokio::time;
use tracing::Instrument as _;

use self::turns::{Turn, Turns};
use crate::{
    auth::{Permit, Read},
    model::{Actor, Callers, EventFilter, EventId, Order, PageQuery, Position, limits::PAGE_BYTES},
    store::{EventPage, PageBounds, Store, StoreError, StoredEvent},
};

/// Answers questions about what was recorded. Clones share the store.
#[derive(Clone)]
pub struct Query {
    store: Store,
    inspected: usize,
    turns: Turns,
    recorders: Callers,
}

/// A list's question; the scope comes from the permit.
#[derive(Clone, Debug)]
pub struct ListRequest {
    /// Which events.
    pub filter: EventFilter,
    /// In which order.
    pub order: Order,
    /// Behind which place; `None` at the beginning.
    pub after: Option<Position>,
    /// The most events of the page.
    pub rows: usize,
}

impl Query {
    /// Asks `store`; a page inspects at most `inspected` events. Reading leaves room to `recorders`.
    pub fn new(store: Store, inspected: usize, recorders: Callers) -> Self {
        let turns = Turns::new(store.connections(), recorders.clone());
        Self { store, inspected, turns, recorders }
    }

    /// The event `id` within the permit's scope, with its notes, in the shape that is asked for.
    pub async fn get<T: Send + 'static>(
        &self,
        permit: &Permit<Read>,
        id: EventId,
        shape: impl Fn(StoredEvent) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<Option<T>, StoreError> {
        let turn = self.turn(permit.principal()).await?;
        self.store.event(permit.scope(), id, move |event| turn.during(|| shape(event))).await
    }

    /// One page, in the shape that is asked for. It ends early where it would outgrow a message or has inspected enough;
    /// then it may even be empty and still have a next one.
    pub async fn list<T: Send + 'static>(
        &self,
        permit: &Permit<Read>,
        request: ListRequest,
        shape: impl Fn(EventPage) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let ListRequest { filter, order, after, rows } = request;
        let query = PageQuery { scope: permit.scope().clone(), filter, order, after, log_size: None };
        let bounds = PageBounds { rows, bytes: PAGE_BYTES, inspected: self.inspected };
        let turn = self.turn(permit.principal()).await?;
        self.store.page(query, bounds, move |page| turn.during(|| shape(page))).await
    }

    /// Reads several things when it is `caller`'s turn, which lasts until all are read, also where the caller has gone away.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the turn did not come.
    pub async fn in_turn<T: Send + 'static>(
        &self,
        caller: &Actor,
        read: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let turn = self.turn(caller).await?;
        let reading = async move {
            let _turn = turn;
            read.await
        };
        tokio::spawn(reading.in_current_span()).await.map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    /// Waits for `caller`'s turn, and for nobody longer than a read itself may take. Whoever has one keeps it until the
    /// connection is free again: it goes into what the read does last.
    async fn turn(&self, caller: &Actor) -> Result<Turn, StoreError> {
        let turn = self.turns.take(self.recorders.key(caller));
        let busy = |_| StoreError::Unavailable("all read connections are busy".to_owned());
        time::timeout(self.store.timeout(), turn).await.map_err(busy)
    }
}
