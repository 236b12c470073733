//! Reading: one event, or a page of a walk.

mod turns;

use tokio::time;

use self::turns::{Turn, Turns};
use crate::{
    auth::{Permit, Read},
    model::{Callers, Event, EventFilter, EventId, Order, PageQuery, Position},
    store::{EventPage, PageBounds, Store, StoreError},
};

/// The most bytes of a page, encoded: gRPC clients accept 4 MiB a message unless told otherwise.
const PAGE_BYTES: usize = 7 * 512 * 1024;

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

    /// The event `id` within the permit's scope, with its notes.
    pub async fn get(&self, permit: &Permit<Read>, id: EventId) -> Result<Option<Event>, StoreError> {
        let _turn = self.turn(permit).await?;
        self.store.event(permit.scope(), id).await
    }

    /// One page. It ends early where it would outgrow a message or has inspected enough; then it may even be empty and
    /// still have a next one.
    pub async fn list(&self, permit: &Permit<Read>, request: ListRequest) -> Result<EventPage, StoreError> {
        let _turn = self.turn(permit).await?;
        let ListRequest { filter, order, after, rows } = request;
        let query = PageQuery { scope: permit.scope().clone(), filter, order, after, log_size: None };
        self.store.page(query, PageBounds { rows, bytes: PAGE_BYTES, inspected: self.inspected }).await
    }

    /// Waits no longer than a read itself may take.
    async fn turn(&self, permit: &Permit<Read>) -> Result<Turn, StoreError> {
        let turn = self.turns.take(self.recorders.key(permit.principal()));
        let busy = |_| StoreError::Unavailable("all read connections are busy".to_owned());
        time::timeout(self.store.timeout(), turn).await.map_err(busy)
    }
}
