//! The tree of a tenant's log, as the rows hold it.

use std::ops::Range;

use diesel::prelude::*;

use crate::merkle::{Hash, Tile, TreeReader};

use super::{
    conn::AnyConnection,
    error::StoreError,
    schema::{events, tree_tiles, update_notes},
};

/// A row of `tree_tiles`, as written.
#[derive(Insertable)]
#[diesel(table_name = tree_tiles)]
pub(super) struct TileRow<'a> {
    pub(super) tenant_id: &'a str,
    pub(super) level: i16,
    pub(super) tile_index: i64,
    pub(super) root: &'a [u8],
    pub(super) hashes: &'a [u8],
}

impl<'a> TileRow<'a> {
    pub(super) fn new(tenant: &'a str, tile: &'a Tile) -> Self {
        Self {
            tenant_id: tenant,
            level: tile.level.into(),
            tile_index: place(tile.index),
            root: &tile.root,
            hashes: &tile.hashes,
        }
    }
}

/// Reads the tree of one tenant.
pub(super) struct TreeRows<'c> {
    pub(super) connection: &'c mut AnyConnection,
    pub(super) tenant: &'c str,
}

impl TreeReader for TreeRows<'_> {
    type Error = StoreError;

    /// Empty if the tile is not there.
    fn tile(&mut self, level: u8, index: u64) -> Result<Vec<u8>, StoreError> {
        let tile = tree_tiles::table.find((self.tenant, i16::from(level), place(index))).select(tree_tiles::hashes);
        Ok(tile.first(self.connection).optional()?.unwrap_or_default())
    }

    /// Up to the first one that is not there.
    fn edge(&mut self, level: u8, range: Range<u64>) -> Result<Vec<Hash>, StoreError> {
        let found = match level.checked_sub(1) {
            None => self.leaf_hashes(&range)?,
            Some(below) => self.tile_roots(below, &range)?,
        };
        let in_place = (range.start..).zip(found).take_while(|(expected, (place, _))| self::place(*expected) == *place);
        in_place.map(|(_, (place, bytes))| hash(place, bytes)).collect()
    }
}

impl TreeRows<'_> {
    /// Sorted by their places.
    fn leaf_hashes(&mut self, range: &Range<u64>) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
        let (first, end) = (place(range.start), place(range.end));
        let mut leaves: Vec<(i64, Vec<u8>)> = events::table
            .filter(events::tenant_id.eq(self.tenant))
            .filter(events::leaf_index.ge(first).and(events::leaf_index.lt(end)))
            .order(events::leaf_index.asc())
            .limit(end - first)
            .select((events::leaf_index, events::leaf_hash))
            .load(self.connection)?;
        let notes: Vec<(i64, Vec<u8>)> = update_notes::table
            .filter(update_notes::tenant_id.eq(self.tenant))
            .filter(update_notes::leaf_index.ge(first).and(update_notes::leaf_index.lt(end)))
            .select((update_notes::leaf_index, update_notes::leaf_hash))
            .load(self.connection)?;
        leaves.extend(notes);
        leaves.sort_unstable_by_key(|(place, _)| *place);
        Ok(leaves)
    }

    fn tile_roots(&mut self, level: u8, range: &Range<u64>) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
        let of_level = tree_tiles::table.filter(tree_tiles::tenant_id.eq(self.tenant));
        Ok(of_level
            .filter(tree_tiles::level.eq(i16::from(level)))
            .filter(tree_tiles::tile_index.ge(place(range.start)).and(tree_tiles::tile_index.lt(place(range.end))))
            .order(tree_tiles::tile_index.asc())
            .select((tree_tiles::tile_index, tree_tiles::root))
            .load(self.connection)?)
    }
}

fn hash(place: i64, bytes: Vec<u8>) -> Result<Hash, StoreError> {
    Hash::try_from(bytes).map_err(|_| StoreError::Corrupt(format!("the hash at place {place} has not 32 bytes")))
}

/// A place as the rows hold it. No log has as many leaves as would not fit.
pub(super) fn place(index: u64) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}
