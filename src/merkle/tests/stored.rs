//! A log as a database would keep it: leaf hashes in rows, finished tiles, and a head. It counts what is read.

use std::{collections::BTreeMap, ops::Range};

use super::naive;
use crate::merkle::{Frontier, Hash, Tile, Tree, TreeReader};

#[derive(Clone, Debug, Default)]
pub struct Stored {
    pub rows: Vec<Hash>,
    pub tiles: BTreeMap<(u8, u64), Tile>,
    pub head: (u64, Vec<u8>),
    /// How often something was read, and how many rows that were.
    pub reads: usize,
    pub rows_read: u64,
}

/// Nothing is there at that place.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("nothing at {0}/{1}")]
pub struct Missing(pub u8, pub u64);

impl TreeReader for Stored {
    type Error = Missing;

    fn tile(&mut self, level: u8, index: u64) -> Result<Vec<u8>, Missing> {
        self.reads += 1;
        self.rows_read += 1;
        Ok(self.tiles.get(&(level, index)).ok_or(Missing(level, index))?.hashes.clone())
    }

    fn edge(&mut self, level: u8, range: Range<u64>) -> Result<Vec<Hash>, Missing> {
        assert!((1..=255).contains(&(range.end - range.start)), "{range:?}");
        self.reads += 1;
        self.rows_read += range.end - range.start;
        match level {
            0 => Ok(self.rows.get(range.start as usize..range.end as usize).ok_or(Missing(0, range.start))?.to_vec()),
            _ => Ok(self.tiles.range((level - 1, range.start)..(level - 1, range.end)).map(|(_, t)| t.root).collect()),
        }
    }
}

impl Stored {
    /// A log of these leaves, added `batch` at a time; `keep` says whether the tree stays in memory meanwhile.
    pub fn of(leaves: &[Hash], batch: usize, keep: bool) -> Self {
        let mut stored = Self::default();
        let mut tree = Tree::default();
        for leaves in leaves.chunks(batch) {
            if !keep {
                tree = stored.load();
            }
            stored.append(&mut tree, leaves);
        }
        Self { reads: 0, rows_read: 0, ..stored }
    }

    pub fn load(&self) -> Tree {
        Frontier::decode(self.head.0, &self.head.1).unwrap().into()
    }

    /// What one transaction does.
    pub fn append(&mut self, tree: &mut Tree, leaves: &[Hash]) {
        for tile in tree.append(leaves, self).unwrap() {
            assert!(self.tiles.insert((tile.level, tile.index), tile).is_none(), "a tile is finished once");
        }
        self.rows.extend_from_slice(leaves);
        self.head = (tree.size(), tree.frontier().encode());
    }
}

/// The hashes of `n` different leaves.
pub fn leaves(n: usize) -> Vec<Hash> {
    (0..n).map(|i| naive::leaf(&i.to_be_bytes())).collect()
}
