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
        conn::AnyConnection,
        error::StoreError,
        heads::{self, HeadRow, SeenHeads},
        rows::{EventRow, NoteRow},
        schema::{events, tree_heads, update_notes},
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
    let mut heads = locked_heads(connection, ids.keys().copied())?;
    metrics.head_lock(begun.elapsed());
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
    let tenants: Vec<&str> = tenants.collect();
    let query = tree_heads::table
        .filter(tree_heads::tenant_id.eq_any(tenants))
        .order(tree_heads::tenant_id)
        .select(heads::HEAD_COLUMNS);
    let heads: Vec<HeadRow> = match connection {
        AnyConnection::Sqlite(connection) => query.load(connection)?,
        AnyConnection::Postgres(connection) => query.for_update().load(connection)?,
    };
    Ok(heads.into_iter().map(|head| (head.tenant_id.clone(), head)).collect())
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
    let (Some(&first), Some(&last)) = (ids.iter().min(), ids.iter().max()) else { return Ok(()) };
    let stored: Vec<EventRow> = events::table
        .filter(events::tenant_id.eq(tenant.to_owned()).and(events::event_id.eq_any(ids.to_vec())))
        // What PostgreSQL can tell the months by; a list of ids is looked for in all of them.
        .filter(events::event_id.between(first, last))
        .select(EventRow::as_select())
        .load(connection)?;
    for row in stored {
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
    if ids.notes.is_empty() {
        return Ok(());
    }
    let of_tenant = || update_notes::table.filter(update_notes::tenant_id.eq(tenant.to_owned()));
    let stored: Vec<NoteRow> = of_tenant()
        .filter(update_notes::note_id.eq_any(ids.notes.clone()))
        .select(NoteRow::as_select())
        .load(connection)?;
    for row in stored {
        let (event_id, note) = row.into_note()?;
        log.notes.insert(note.id, (event_id, note));
    }
    let counts: Vec<(Id, i64)> = of_tenant()
        .filter(update_notes::event_id.eq_any(ids.noted.clone()))
        .group_by(update_notes::event_id)
        .select((update_notes::event_id, count_star()))
        .load(connection)?;
    for (event_id, count) in counts {
        log.note_counts.insert(event_id.time_id()?, usize::try_from(count).unwrap_or(usize::MAX));
    }
    Ok(())
}
