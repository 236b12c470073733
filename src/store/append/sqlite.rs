//! Writing on SQLite: row by row, since there is no server to wait for.

use diesel::{SqliteConnection, prelude::*};

use crate::store::{
    schema::{events, tree_heads, tree_tiles, update_notes},
    tree::TileRow,
};

use super::{Rows, plan::Move, transaction::Failed};

/// Moves the heads, and stores the tiles and the rows, inside a transaction.
pub(super) fn write(connection: &mut SqliteConnection, moves: &[Move<'_>], rows: Rows<'_>) -> Result<(), Failed> {
    for step in moves {
        advance_head(connection, step)?;
        for tile in step.tiles {
            let row = TileRow::new(step.tenant, tile);
            diesel::insert_into(tree_tiles::table).values(row).execute(connection)?;
        }
    }
    for row in rows.events {
        diesel::insert_into(events::table).values(row).execute(connection)?;
    }
    for row in rows.notes {
        diesel::insert_into(update_notes::table).values(row).execute(connection)?;
    }
    Ok(())
}

fn advance_head(connection: &mut SqliteConnection, step: &Move<'_>) -> Result<(), Failed> {
    let moved = match step.from {
        0 => diesel::insert_into(tree_heads::table)
            .values((
                tree_heads::tenant_id.eq(step.tenant),
                tree_heads::tree_size.eq(step.to),
                tree_heads::frontier.eq(&step.to_frontier),
            ))
            .execute(connection)?,
        from => diesel::update(tree_heads::table.find(step.tenant))
            .filter(tree_heads::tree_size.eq(from).and(tree_heads::frontier.eq(step.from_frontier)))
            .set((tree_heads::tree_size.eq(step.to), tree_heads::frontier.eq(&step.to_frontier)))
            .execute(connection)?,
    };
    (moved == 1).then_some(()).ok_or_else(|| Failed::Conflict(format!("the head of {} has moved", step.tenant)))
}
