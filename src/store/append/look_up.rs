//! What the log has of the ids that a batch names, read inside the transaction that holds the heads.

use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use diesel::{dsl::count_star, prelude::*};

use crate::{
    metrics::AppendMetrics,
    model::{Draft, Entry},
    store::{
        by_ids::{self, IDS_AT_ONCE},
        conn::AnyConnection,
        error::StoreError,
        heads::{self, HeadRow, SeenHeads},
        rows::NoteRow,
        schema::{tree_heads, update_notes},
        types::Id,
    },
};

use super::{
    plan::{Known, KnownLog},
    trees,
};

/// The ids that a batch names in one tenant.
#[derive(Default)]
struct Ids {
    /// Events to be recorded, and events that notes are for.
    events: Vec<Id>,
    notes: Vec<Id>,
    noted: Vec<Id>,
}

/// Locks the heads of the batch's tenants and looks up all ids that it names.
///
/// # Errors
/// [`StoreError::RolledBack`] if one of the logs went back behind what was `seen` of it.
pub(super) fn look_up(
    connection: &mut AnyConnection,
    batch: &[&[Entry]],
    seen: &SeenHeads,
    metrics: &AppendMetrics,
) -> Result<Known, StoreError> {
    let ids = ids_by_tenant(batch);
    let before: Vec<_> = ids.keys().map(|tenant| seen.get(tenant)).collect();
    let begun = Instant::now();
    let heads = locked_heads(connection, ids.keys().copied());
    // Also where it was in vain.
    metrics.head_lock(begun.elapsed());
    let mut heads = heads?;
    let mut known = Known::new();
    for ((tenant, ids), before) in ids.into_iter().zip(before) {
        let mut log = heads.remove(tenant).map_or(Ok(KnownLog::default()), |head| known_log(connection, &head))?;
        let found = (log.size() > 0).then(|| (log.epoch, log.tree.frontier()));
        heads::require_grown(connection, tenant, before, found)?;
        // The log of a tenant without a head has nothing in it.
        if log.size() > 0 {
            look_up_events(connection, tenant, &ids.events, &mut log)?;
            look_up_notes(connection, tenant, &ids, &mut log)?;
        }
        known.insert(tenant.to_owned(), log);
    }
    Ok(known)
}

fn known_log(connection: &mut AnyConnection, head: &HeadRow) -> Result<KnownLog, StoreError> {
    let tree = trees::tree(connection, head)?;
    Ok(KnownLog { frontier: head.frontier.clone(), ..KnownLog::new(tree, head.epoch) })
}

/// In the order of the tenants, which is the order in which everybody takes these locks. On SQLite the transaction
/// already keeps all other writers out.
fn locked_heads<'a>(
    connection: &mut AnyConnection,
    tenants: impl Iterator<Item = &'a str>,
) -> Result<HashMap<String, HeadRow>, StoreError> {
    let mut tenants: Vec<&str> = tenants.collect();
    tenants.sort_unstable();
    let mut found = HashMap::new();
    for tenants in tenants.chunks(IDS_AT_ONCE) {
        let query = tree_heads::table
            .filter(tree_heads::tenant_id.eq_any(tenants))
            .order(tree_heads::tenant_id)
            .select(heads::HEAD_COLUMNS);
        let heads: Vec<HeadRow> = match connection {
            AnyConnection::Sqlite(connection) => query.load(connection)?,
            AnyConnection::Postgres(connection) => query.for_update().load(connection)?,
        };
        found.extend(heads.into_iter().map(|head| (head.tenant_id.clone(), head)));
    }
    Ok(found)
}

fn ids_by_tenant<'a>(batch: &[&'a [Entry]]) -> BTreeMap<&'a str, Ids> {
    let mut tenants = BTreeMap::<&str, Ids>::new();
    for entry in batch.iter().copied().flatten() {
        let ids = tenants.entry(entry.scope.tenant()).or_default();
        match &entry.draft {
            Draft::Event(draft) => ids.events.push(draft.id.into()),
            Draft::Note(draft) => {
                ids.events.push(draft.event_id.into());
                ids.noted.push(draft.event_id.into());
                ids.notes.push(draft.id.into());
            }
        }
    }
    tenants
}

fn look_up_events(
    connection: &mut AnyConnection,
    tenant: &str,
    ids: &[Id],
    log: &mut KnownLog,
) -> Result<(), StoreError> {
    for row in by_ids::events(connection, tenant, ids)? {
        let event = row.to_event()?;
        log.events.insert(event.name.id, event);
    }
    Ok(())
}

fn look_up_notes(
    connection: &mut AnyConnection,
    tenant: &str,
    ids: &Ids,
    log: &mut KnownLog,
) -> Result<(), StoreError> {
    let of_tenant = || update_notes::table.filter(update_notes::tenant_id.eq(tenant.to_owned()));
    for ids in ids.notes.chunks(IDS_AT_ONCE) {
        let stored = of_tenant().filter(update_notes::note_id.eq_any(ids.to_vec())).select(NoteRow::as_select());
        for row in stored.load(connection)? {
            let (event_id, note) = row.into_note()?;
            log.notes.insert(note.id, (event_id, note));
        }
    }
    for ids in ids.noted.chunks(IDS_AT_ONCE) {
        let counts = of_tenant().filter(update_notes::event_id.eq_any(ids.to_vec())).group_by(update_notes::event_id);
        for (event_id, count) in counts.select((update_notes::event_id, count_star())).load::<(Id, i64)>(connection)? {
            log.note_counts.insert(event_id.time_id()?, usize::try_from(count).unwrap_or(usize::MAX));
        }
    }
    Ok(())
}
