//! The last links: from leaf hashes to the tree, its tiles and its root.

use std::{convert::Infallible, ops::Range};

use crate::merkle::{EMPTY_ROOT, Frontier, HASH_BYTES, Hash, Tile, Tree, TreeReader};

/// The leaves between two states of the tree that are kept, so that the first leaf that differs can be found.
const STRIDE: u64 = 1024;

/// A tree that is made anew, leaf by leaf.
#[derive(Debug, Default)]
pub struct Recomputed {
    tree: Tree,
    /// A size of which the root is asked for.
    at: Option<u64>,
    root_at: Option<Hash>,
    /// What the tree was at regular sizes, if that is kept.
    states: Option<Vec<Frontier>>,
}

/// A tree that was begun anew has all of its parts in memory.
struct NothingStored;

impl TreeReader for NothingStored {
    type Error = Infallible;

    fn tile(&mut self, _: u8, _: u64) -> Result<Vec<u8>, Infallible> {
        Ok(Vec::new())
    }

    fn edge(&mut self, _: u8, _: Range<u64>) -> Result<Vec<Hash>, Infallible> {
        Ok(Vec::new())
    }
}

impl Recomputed {
    /// A tree without leaves, that will remember its root at size `at`.
    pub fn new(at: Option<u64>) -> Self {
        Self { at, root_at: (at == Some(0)).then_some(EMPTY_ROOT), ..Self::default() }
    }

    /// The same, which also keeps what it was at regular sizes: about a kilobyte for each 1024 leaves.
    pub fn with_states(at: Option<u64>) -> Self {
        Self { states: Some(Vec::new()), ..Self::new(at) }
    }

    /// Adds leaves, and returns the tiles that they finish.
    pub fn push(&mut self, hashes: &[Hash]) -> Vec<Tile> {
        let mut tiles = Vec::new();
        for hash in hashes {
            if let Some(states) = self.states.as_mut().filter(|_| self.tree.size().is_multiple_of(STRIDE)) {
                states.push(self.tree.frontier().clone());
            }
            match self.tree.append(std::slice::from_ref(hash), &mut NothingStored) {
                Ok(finished) => tiles.extend(finished),
                Err(error) => unreachable!("no part of this tree is stored: {error:?}"),
            }
            if self.at == Some(self.size()) {
                self.root_at = Some(self.tree.root());
            }
        }
        tiles
    }

    /// How many leaves it has.
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// Its root.
    pub fn root(&self) -> Hash {
        self.tree.root()
    }

    /// Its root at the size that was asked for; `None` if it is smaller.
    pub fn root_at(&self) -> Option<Hash> {
        self.root_at
    }

    /// The roots of its perfect subtrees, joined, and the leaves below each.
    pub fn subtrees(&self) -> Vec<(Range<u64>, Hash)> {
        let (size, mut first) = (self.size(), 0);
        let widths = (0..u64::BITS).rev().map(|bit| 1 << bit).filter(|width| size & width != 0);
        let ranges = widths.map(|width: u64| {
            first += width;
            first - width..first
        });
        let roots = self.tree.frontier().encode();
        ranges.zip(roots.as_chunks::<HASH_BYTES>().0.to_vec()).collect()
    }

    /// What the tree was at regular sizes, the empty one first.
    pub fn states(&self) -> &[Frontier] {
        self.states.as_deref().unwrap_or_default()
    }
}

/// The root over hashes.
pub(super) fn root_of(hashes: &[Hash]) -> Hash {
    let mut frontier = Frontier::default();
    hashes.iter().for_each(|hash| frontier.push(*hash));
    frontier.root()
}
