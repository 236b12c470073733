//! The one write transaction: what it acknowledges is stored, searchable and in its place.

use std::{collections::BTreeMap, sync::Arc};

use diesel::{dsl::count_star, prelude::*};

use crate::model::{Clock, Draft, Entry, NoteRules, Receipt, Rejection, Salt, TimeId};

use super::{
    conn::{Access, Connection, Target},
    error::StoreError,
    plan::{Known, Placed, Plan},
    rows::{EventRow, NoteRow, Seal},
    schema::{events, tree_heads, update_notes},
};

/// What becomes of one caller's entries.
pub type Outcome = Result<Vec<Receipt>, Rejection>;

/// Appends to the log. It owns its connection: there is one writer a store, and it waits for nobody.
pub struct Writer {
    connection: Connection,
    target: Target,
    clock: Arc<dyn Clock>,
    rules: Arc<NoteRules>,
}

/// The ids that a batch names in one tenant.
#[derive(Default)]
struct Ids {
    /// Events to be recorded, and events that notes are for.
    events: Vec<String>,
    notes: Vec<String>,
    noted: Vec<String>,
}

impl Writer {
    pub(super) fn open(target: Target, clock: Arc<dyn Clock>, rules: Arc<NoteRules>) -> Result<Self, StoreError> {
        Ok(Self { connection: target.connect(Access::Write)?, target, clock, rules })
    }

    /// Takes a new connection in place of one that failed.
    pub fn reconnect(&mut self) -> Result<(), StoreError> {
        self.target.require_in_place()?;
        self.connection = self.target.connect(Access::Write)?;
        Ok(())
    }

    /// Appends a batch of submissions, each whole or not at all, in one transaction. Each submission is of one tenant.
    ///
    /// # Errors
    /// [`StoreError::OutcomeUnknown`] if the commit may have happened; after any other error it has not. Appending the
    /// same entries again is safe after either, and answers truly: their ids are looked up first.
    pub fn append(&mut self, batch: &[&[Entry]]) -> Result<Vec<Outcome>, StoreError> {
        self.target.require_in_place()?;
        let Self { connection, clock, rules, .. } = self;
        let mut at_commit = false;
        let result = connection.immediate_transaction(|connection| {
            let outcomes = append(connection, batch, clock.as_ref(), rules)?;
            at_commit = true;
            Ok(outcomes)
        });
        let unknown = |error: StoreError| StoreError::OutcomeUnknown(error.to_string());
        match result {
            Err(error) if at_commit => Err(unknown(error)),
            Err(error) => Err(error),
            // A file that is gone now may have been gone at the commit.
            Ok(outcomes) => self.target.require_in_place().map(|()| outcomes).map_err(unknown),
        }
    }
}

fn append(
    connection: &mut Connection,
    batch: &[&[Entry]],
    clock: &dyn Clock,
    rules: &NoteRules,
) -> Result<Vec<Outcome>, StoreError> {
    let known = look_up(connection, batch)?;
    let heads_before = known.heads.clone();
    let salts = salts(batch.iter().map(|entries| entries.len()).sum())?;
    let mut plan = Plan::new(known, rules, clock.now(), salts);
    let outcomes = batch.iter().map(|entries| plan.submit(entries)).collect();
    for (tenant, size) in plan.heads() {
        advance_head(connection, tenant, heads_before.get(tenant).copied(), *size)?;
    }
    insert(connection, &plan.placed)?;
    Ok(outcomes)
}

fn look_up(connection: &mut Connection, batch: &[&[Entry]]) -> Result<Known, StoreError> {
    let mut known = Known::default();
    for (tenant, ids) in ids_by_tenant(batch) {
        let head = tree_heads::table.find(tenant).select(tree_heads::tree_size).first(connection).optional()?;
        known.heads.extend(head.map(|size| (tenant.to_owned(), size)));
        look_up_events(connection, tenant, &ids.events, &mut known)?;
        if !ids.notes.is_empty() {
            look_up_notes(connection, tenant, &ids, &mut known)?;
        }
    }
    Ok(known)
}

fn ids_by_tenant<'a>(batch: &[&'a [Entry]]) -> BTreeMap<&'a str, Ids> {
    let mut tenants = BTreeMap::<&str, Ids>::new();
    for entry in batch.iter().copied().flatten() {
        let ids = tenants.entry(entry.scope.tenant()).or_default();
        match &entry.draft {
            Draft::Event(draft) => ids.events.push(draft.id.to_string()),
            Draft::Note(draft) => {
                ids.events.push(draft.event_id.to_string());
                ids.noted.push(draft.event_id.to_string());
                ids.notes.push(draft.id.to_string());
            }
        }
    }
    tenants
}

fn look_up_events(
    connection: &mut Connection,
    tenant: &str,
    ids: &[String],
    known: &mut Known,
) -> Result<(), StoreError> {
    let stored: Vec<EventRow> = events::table
        .filter(events::tenant_id.eq(tenant).and(events::event_id.eq_any(ids)))
        .select(EventRow::as_select())
        .load(connection)?;
    for row in stored {
        let event = row.into_event()?;
        known.events.insert((tenant.to_owned(), event.name.id), event);
    }
    Ok(())
}

fn look_up_notes(connection: &mut Connection, tenant: &str, ids: &Ids, known: &mut Known) -> Result<(), StoreError> {
    let of_tenant = update_notes::table.filter(update_notes::tenant_id.eq(tenant));
    let stored: Vec<NoteRow> =
        of_tenant.filter(update_notes::note_id.eq_any(&ids.notes)).select(NoteRow::as_select()).load(connection)?;
    for row in stored {
        let (event_id, note) = row.into_note()?;
        known.notes.insert((tenant.to_owned(), note.id), (event_id, note));
    }
    let counts: Vec<(String, i64)> = of_tenant
        .filter(update_notes::event_id.eq_any(&ids.noted))
        .group_by(update_notes::event_id)
        .select((update_notes::event_id, count_star()))
        .load(connection)?;
    for (event_id, count) in counts {
        let id = TimeId::parse(&event_id).map_err(|error| StoreError::Corrupt(error.to_string()))?;
        known.note_counts.insert((tenant.to_owned(), id), usize::try_from(count).unwrap_or(usize::MAX));
    }
    Ok(())
}

/// Moves a tenant's head from the size it was read at. A head that has moved since means another writer, and a rollback.
fn advance_head(connection: &mut Connection, tenant: &str, from: Option<i64>, to: i64) -> Result<(), StoreError> {
    let moved = match from {
        Some(from) if from == to => return Ok(()),
        None if to == 0 => return Ok(()),
        Some(from) => diesel::update(tree_heads::table.find(tenant).filter(tree_heads::tree_size.eq(from)))
            .set(tree_heads::tree_size.eq(to))
            .execute(connection)?,
        None => diesel::insert_into(tree_heads::table)
            .values((tree_heads::tenant_id.eq(tenant), tree_heads::tree_size.eq(to)))
            .execute(connection)?,
    };
    (moved == 1).then_some(()).ok_or_else(|| StoreError::Unavailable(format!("the head of {tenant} has moved")))
}

fn insert(connection: &mut Connection, placed: &[Placed<'_>]) -> Result<(), StoreError> {
    let (mut event_rows, mut note_rows) = (Vec::new(), Vec::new());
    for Placed { entry, salt, sealed, leaf_hash } in placed {
        let seal = Seal { sealed, salt, leaf_hash };
        match &entry.draft {
            Draft::Event(draft) => event_rows.push(EventRow::new(&entry.scope, &entry.recorder, draft, &seal)?),
            Draft::Note(draft) => note_rows.push(NoteRow::new(entry.scope.tenant(), &entry.recorder, draft, &seal)),
        }
    }
    for row in &event_rows {
        diesel::insert_into(events::table).values(row).execute(connection)?;
    }
    for row in &note_rows {
        diesel::insert_into(update_notes::table).values(row).execute(connection)?;
    }
    Ok(())
}

fn salts(count: usize) -> Result<Vec<Salt>, StoreError> {
    let mut salts = vec![Salt::default(); count];
    let bytes = salts.as_flattened_mut();
    getrandom::fill(bytes).map_err(|error| StoreError::Unavailable(format!("no random bytes: {error}")))?;
    Ok(salts)
}
