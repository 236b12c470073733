//! The tree over a log's rows, and the tiles and the head that are stored of it.

use std::mem;

use crate::{
    merkle::{HASH_BYTES, Hash, TILE_BYTES, TILE_WIDTH},
    store::{StoreError, StoredHead, StoredTile},
    verify::tree::root_of,
};

use super::DatabaseCheck;

impl DatabaseCheck<'_> {
    /// Adds the leaves of the window to the tree, and holds what they finish against the tiles.
    pub(super) fn close_window(&mut self) -> Result<(), StoreError> {
        let window = mem::take(&mut self.window);
        let hashes = match window.len() as u64 == TILE_WIDTH {
            true => self.settle(&window)?,
            false => window.iter().map(|(_, hash)| hash.unwrap_or_default()).collect(),
        };
        for tile in self.tree.push(&hashes).into_iter().filter(|tile| tile.level > 0) {
            let stored = self.reader.tile(tile.level, tile.index)?;
            self.compare_tile(tile.level, tile.index, &tile.hashes, &tile.root, stored);
        }
        Ok(())
    }

    /// The hashes of a finished window of leaves: those of the rows or, where the tile holds in itself and they do not fit
    /// it, those of the tile. So a changed row is told from a changed tile.
    fn settle(&mut self, window: &[(String, Option<Hash>)]) -> Result<Vec<Hash>, StoreError> {
        let index = self.tree.size() / TILE_WIDTH;
        let stored = self.reader.tile(0, index)?;
        let sealed = stored.as_ref().and_then(hashes_of).map(<[Hash]>::to_vec);
        let own = |place: usize, hash: Option<Hash>| hash.or_else(|| Some(sealed.as_ref()?[place])).unwrap_or_default();
        let own: Vec<Hash> = window.iter().enumerate().map(|(place, (_, hash))| own(place, *hash)).collect();
        let holds = |sealed: &Vec<Hash>| stored.as_ref().is_some_and(|tile| tile.root == root_of(sealed));
        let Some(sealed) = sealed.filter(|sealed| *sealed != own && holds(sealed)) else {
            self.compare_tile(0, index, &own.concat(), &root_of(&own), stored);
            return Ok(own);
        };
        for (place, (name, _)) in window.iter().enumerate().filter(|(place, _)| own[*place] != sealed[*place]) {
            let position = index * TILE_WIDTH + place as u64;
            let problem =
                format!("leaf_hash is not what was sealed at position {position}: tile 0/{index} has another hash");
            self.report.findings.add(name, problem);
        }
        Ok(sealed)
    }

    fn compare_tile(&mut self, level: u8, index: u64, hashes: &[u8], root: &Hash, stored: Option<StoredTile>) {
        let (findings, name) = (&mut self.report.findings, format!("tile {level}/{index}"));
        let Some(stored) = stored else { return findings.add(name, "is not in tree_tiles") };
        if stored.hashes.len() != TILE_BYTES {
            findings.add(&name, format!("hashes has {} bytes instead of {TILE_BYTES}", stored.hashes.len()));
        } else if stored.hashes != hashes {
            let pairs = hashes.chunks(HASH_BYTES).zip(stored.hashes.chunks(HASH_BYTES));
            let places: Vec<_> = pairs.enumerate().filter(|(_, (own, stored))| own != stored).map(|(n, _)| n).collect();
            let below =
                if level == 0 { "the leaf_hash of the rows".to_owned() } else { format!("level {}", level - 1) };
            let first = places.first().copied().unwrap_or_default() as u64 + index * TILE_WIDTH;
            let count = places.len();
            findings.add(&name, format!("hashes differs from {below} in {count} of 256, the first for {first}"));
        }
        if stored.root != root {
            findings.add(name, "root is not that of its hashes");
        }
    }

    pub(super) fn compare_frontier(&mut self, head: &StoredHead) {
        let (name, findings) = (format!("the head of {}", self.log), &mut self.report.findings);
        let subtrees = self.tree.subtrees();
        let expected = subtrees.len() * HASH_BYTES;
        if head.frontier.len() != expected {
            let found = head.frontier.len();
            let hint = if found == 0 { "; one that is older than sealing is sealed by the next append" } else { "" };
            return findings.add(name, format!("frontier has {found} bytes instead of {expected}{hint}"));
        }
        let pairs = subtrees.iter().zip(head.frontier.chunks(HASH_BYTES));
        for ((range, _), _) in pairs.filter(|((_, own), stored)| own != stored) {
            let problem = format!(
                "frontier does not fit the leaves {} to {}: it, or the leaf_hash of one of them, was changed",
                range.start,
                range.end - 1
            );
            findings.add(&name, problem);
        }
    }
}

fn hashes_of(tile: &StoredTile) -> Option<&[Hash]> {
    let (hashes, rest) = tile.hashes.as_chunks::<HASH_BYTES>();
    (hashes.len() as u64 == TILE_WIDTH && rest.is_empty()).then_some(hashes)
}
