//! Where a walk through the events stands.

use super::{
    filter::{EventFilter, Order},
    name::Scope,
    time_id::EventId,
};

/// The last place that a walk has inspected; the next page starts behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// In the two orders by time.
    Id(EventId),
    /// In the order of the log.
    Leaf(i64),
}

impl Position {
    /// The place of the event `id`, which the log has at `leaf_index`, in `order`.
    pub fn of(id: EventId, leaf_index: i64, order: Order) -> Self {
        match order {
            Order::NewestFirst | Order::OldestFirst => Self::Id(id),
            Order::Log => Self::Leaf(leaf_index),
        }
    }

    /// Whether a walk in `order` comes here only after `other`. Both are places of that order.
    pub fn is_behind(self, other: Self, order: Order) -> bool {
        match (self, other) {
            (Self::Id(here), Self::Id(there)) if order == Order::NewestFirst => here < there,
            (Self::Id(here), Self::Id(there)) => here > there,
            (Self::Leaf(here), Self::Leaf(there)) => here > there,
            _ => false,
        }
    }

    /// Whether a walk in `order` can stand here.
    pub fn fits(self, order: Order) -> bool {
        matches!((self, order), (Self::Leaf(_), Order::Log) | (Self::Id(_), Order::NewestFirst | Order::OldestFirst))
    }
}

/// One question to the store.
#[derive(Clone, Debug)]
pub struct PageQuery {
    /// Whose events.
    pub scope: Scope,
    /// Which of them.
    pub filter: EventFilter,
    /// In which order.
    pub order: Order,
    /// Behind which place; `None` at the beginning.
    pub after: Option<Position>,
    /// Only events and notes with a smaller leaf index; `None` for all there are.
    pub log_size: Option<i64>,
}
