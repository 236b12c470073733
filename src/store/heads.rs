//! The heads of logs, and the rule that none goes back behind what this process has seen of it.
//!
//! A database that was restored from an older backup, or a standby that took over without the last commits, would else
//! get a second history for places that are acknowledged and perhaps signed already. Nothing is recorded or signed for
//! such a log until an operator acknowledges it, which begins the log's next epoch.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use diesel::prelude::*;

use crate::merkle::{Frontier, Hash, ProofError, root_at};

use super::{
    conn::AnyConnection,
    error::StoreError,
    schema::{log_epochs, tree_heads},
    tree::TreeRows,
};

/// The most logs whose heads are remembered; each takes about 150 bytes.
const MAX_SEEN: usize = 100_000;

/// A row of `tree_heads`.
#[derive(Clone, Debug, Queryable)]
pub(super) struct HeadRow {
    pub(super) tenant_id: String,
    pub(super) tree_size: i64,
    pub(super) frontier: Vec<u8>,
    pub(super) epoch: i32,
}

/// The columns of a [`HeadRow`].
pub(super) const HEAD_COLUMNS: (tree_heads::tenant_id, tree_heads::tree_size, tree_heads::frontier, tree_heads::epoch) =
    (tree_heads::tenant_id, tree_heads::tree_size, tree_heads::frontier, tree_heads::epoch);

/// What was seen committed of a log last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) epoch: i32,
    pub(super) size: u64,
    pub(super) root: Hash,
}

/// The heads that were seen committed, by tenant.
#[derive(Debug, Default)]
pub(super) struct SeenHeads(Mutex<HashMap<String, Seen>>);

impl SeenHeads {
    /// What was seen of a log. To be asked *before* the head is read that is to be compared with it.
    pub(super) fn get(&self, tenant: &str) -> Option<Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(tenant).copied()
    }

    /// Remembers a committed head, unless a later one was seen already.
    pub(super) fn saw(&self, tenant: &str, epoch: i32, frontier: &Frontier) {
        let head = Seen { epoch, size: frontier.size(), root: frontier.root() };
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.get_mut(tenant) {
            Some(seen) if (seen.epoch, seen.size) >= (head.epoch, head.size) => (),
            Some(seen) => *seen = head,
            None => {
                make_room(&mut seen);
                seen.insert(tenant.to_owned(), head);
            }
        }
    }
}

fn make_room(seen: &mut HashMap<String, Seen>) {
    if seen.len() >= MAX_SEEN {
        let any = seen.keys().next().cloned();
        any.and_then(|tenant| seen.remove(&tenant));
    }
}

impl HeadRow {
    /// Reads the frontier.
    pub(super) fn frontier(&self) -> Result<Frontier, StoreError> {
        let corrupt = |error: &dyn std::fmt::Display| {
            StoreError::Corrupt(format!("the head of tenants/{}: {error}", self.tenant_id))
        };
        let size = u64::try_from(self.tree_size).map_err(|error| corrupt(&error))?;
        Frontier::decode(size, &self.frontier).map_err(|error| corrupt(&error))
    }
}

/// Reads the committed head of a log; `None` where nothing was recorded.
///
/// # Errors
/// [`StoreError::RolledBack`] if it went back behind what was seen before.
pub(super) fn committed(
    connection: &mut AnyConnection,
    seen: &SeenHeads,
    tenant: &str,
) -> Result<Option<(HeadRow, Frontier)>, StoreError> {
    let before = seen.get(tenant);
    let row: Option<HeadRow> = tree_heads::table.find(tenant).select(HEAD_COLUMNS).first(connection).optional()?;
    let head = row.map(|row| row.frontier().map(|frontier| (row, frontier))).transpose()?;
    let found = head.as_ref().map(|(row, frontier)| (row.epoch, frontier));
    require_grown(connection, tenant, before, found)?;
    if let Some((row, frontier)) = &head {
        seen.saw(tenant, row.epoch, frontier);
    }
    Ok(head)
}

/// Refuses a head that does not extend what was seen before it was read. It is compared by size, by root, and where it
/// has grown by the root that it had at the size that was seen.
pub(super) fn require_grown(
    connection: &mut AnyConnection,
    tenant: &str,
    before: Option<Seen>,
    found: Option<(i32, &Frontier)>,
) -> Result<(), StoreError> {
    let Some(before) = before else { return Ok(()) };
    let rolled_back = |now: String| StoreError::RolledBack {
        tenant: tenant.to_owned(),
        what: format!("it had {} leaves and {now}", before.size),
    };
    match found {
        None => Err(rolled_back("is gone".to_owned())),
        Some((epoch, _)) if epoch > before.epoch => match are_acknowledged(connection, tenant, before.epoch, epoch)? {
            true => Ok(()),
            false => Err(rolled_back(format!("is in epoch {epoch}, which nobody has acknowledged"))),
        },
        Some((epoch, _)) if epoch < before.epoch => Err(rolled_back(format!("is back in epoch {epoch}"))),
        Some((_, head)) if head.size() < before.size => Err(rolled_back(format!("now has {}", head.size()))),
        Some((_, head)) => match root_of(connection, tenant, head, before.size)? == before.root {
            true => Ok(()),
            false => Err(rolled_back("those are others now".to_owned())),
        },
    }
}

/// Whether all epochs behind `before` and up to `now` were begun by an acknowledgement.
fn are_acknowledged(connection: &mut AnyConnection, tenant: &str, before: i32, now: i32) -> Result<bool, StoreError> {
    let begun = log_epochs::table.filter(log_epochs::tenant_id.eq(tenant));
    let begun = begun.filter(log_epochs::epoch.gt(before).and(log_epochs::epoch.le(now)));
    let count: i64 = begun.count().get_result(connection)?;
    Ok(count == i64::from(now) - i64::from(before))
}

/// The root of the first `size` leaves below a head.
fn root_of(connection: &mut AnyConnection, tenant: &str, head: &Frontier, size: u64) -> Result<Hash, StoreError> {
    if size == head.size() {
        return Ok(head.root());
    }
    root_at(&mut TreeRows { connection, tenant }, head.size(), size).map_err(|error| match error {
        ProofError::Reader(error) => error,
        incomplete => StoreError::Corrupt(format!("the tree of tenants/{tenant}: {incomplete}")),
    })
}
