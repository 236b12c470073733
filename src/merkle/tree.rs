//! The tree as it grows, and the tiles that are finished on the way.
//!
//! `tlog_tiles` computes the hashes that a new leaf completes by reading stored ones through its `HashReader`
//! (`stored_hashes_for_record_hash`), one by one and for each leaf anew. The append path has them in memory already: they
//! are the [`Frontier`]. So the few lines of [`Frontier::push`] are ours, on the crate's node hash.

use std::{fmt, mem, ops::Range};

use super::{EMPTY_ROOT, HASH_BYTES, Hash, MAX_TREE_SIZE, TILE_HEIGHT, TILE_WIDTH, TreeReader, node_hash};

/// The roots of the perfect subtrees that a tree is made of, from left to right: one for each bit of the size that is
/// set. They are all that it takes to add leaves and to know the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    roots: Vec<Hash>,
}

/// Why bytes are no frontier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrontierError {
    /// No tree has that size.
    #[error("a tree of {0} leaves is beyond {MAX_TREE_SIZE}")]
    Size(u64),
    /// The bytes belong to a tree of another size.
    #[error("the frontier of {size} leaves has {expected} bytes, not {found}")]
    Length {
        /// Of the tree.
        size: u64,
        /// 32 for each bit of the size that is set.
        expected: usize,
        /// How many there are.
        found: usize,
    },
}

impl Frontier {
    /// Reads what [`Self::encode`] wrote for a tree of `size` leaves.
    pub fn decode(size: u64, bytes: &[u8]) -> Result<Self, FrontierError> {
        if size > MAX_TREE_SIZE {
            return Err(FrontierError::Size(size));
        }
        let (roots, rest) = bytes.as_chunks::<HASH_BYTES>();
        let expected = size.count_ones() as usize * HASH_BYTES;
        if bytes.len() != expected || !rest.is_empty() {
            return Err(FrontierError::Length { size, expected, found: bytes.len() });
        }
        Ok(Self { size, roots: roots.to_vec() })
    }

    /// The subtrees' roots, joined from left to right; the largest is the first. The size is not in it.
    pub fn encode(&self) -> Vec<u8> {
        self.roots.concat()
    }

    /// How many leaves the tree has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root of the tree; of none, [`EMPTY_ROOT`].
    pub fn root(&self) -> Hash {
        let from_the_right = self.roots.iter().copied().rev();
        from_the_right.reduce(|right, left| node_hash(left, right)).unwrap_or(EMPTY_ROOT)
    }

    /// Adds a leaf.
    pub fn push(&mut self, leaf_hash: Hash) {
        self.push_with(leaf_hash, |_, _| ());
    }

    /// Adds a leaf and tells each perfect subtree that it completes: its height (0 for the leaf itself) and its root.
    fn push_with(&mut self, leaf_hash: Hash, mut completed: impl FnMut(u8, Hash)) {
        completed(0, leaf_hash);
        // Each trailing bit of the size that is set is a subtree on the right edge which this leaf doubles.
        let kept = self.roots.len() - self.size.trailing_ones() as usize;
        let doubled = (1..).zip(self.roots.drain(kept..).rev());
        let root = doubled.fold(leaf_hash, |right, (height, left)| {
            let root = node_hash(left, right);
            completed(height, root);
            root
        });
        self.roots.push(root);
        self.size += 1;
    }
}

/// A finished tile, to be stored once and never changed.
#[derive(Clone, PartialEq, Eq)]
pub struct Tile {
    /// 0 for hashes of leaves, `n` for roots of tiles of level `n - 1`.
    pub level: u8,
    /// Its place among the tiles of its level, from 0.
    pub index: u64,
    /// 256 hashes of 32 bytes.
    pub hashes: Vec<u8>,
    /// The root of the perfect tree over them, which is a hash of the tile above.
    pub root: Hash,
}

impl fmt::Debug for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tile {}/{}", self.level, self.index)
    }
}

/// Why leaves could not be added. The tree is then as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError<E> {
    /// The reader failed.
    #[error(transparent)]
    Reader(E),
    /// The reader gave another number of hashes than it was asked for.
    #[error("the log lacks hashes {range:?} of level {level}: {found} were found")]
    Incomplete {
        /// The level of the tile that they belong to.
        level: u8,
        /// Which of that level.
        range: Range<u64>,
        /// How many there were.
        found: usize,
    },
}

/// A tree to which leaves are being added: its frontier, and as much of its unfinished tiles as has passed through.
///
/// It takes at most 8 KiB for each level of tiles: below 256 leaves there is one level, below 65,536 two.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    frontier: Frontier,
    /// The unfinished tile of each level.
    edges: Vec<Edge>,
}

/// The hashes of an unfinished tile: `stored` ones that are not in memory, and behind them those that are.
#[derive(Clone, Debug, Default)]
struct Edge {
    stored: u64,
    hashes: Vec<u8>,
}

impl From<Frontier> for Tree {
    /// A tree as it was stored. What its unfinished tiles hold is read when it is needed, and not before.
    fn from(frontier: Frontier) -> Self {
        let counts = (0..u64::BITS).step_by(TILE_HEIGHT.into()).map(|height| frontier.size >> height);
        let stored = counts.take_while(|&count| count > 0).map(|count| count % TILE_WIDTH);
        let edges = stored.map(|stored| Edge { stored, hashes: Vec::new() }).collect();
        Self { frontier, edges }
    }
}

impl Tree {
    /// What is to be stored of it beside the tiles.
    pub fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// How many leaves it has.
    pub fn size(&self) -> u64 {
        self.frontier.size
    }

    /// Its root.
    pub fn root(&self) -> Hash {
        self.frontier.root()
    }

    /// Adds leaves and returns the tiles that they finish, those of a level in order.
    ///
    /// `reader` is asked only for the earlier part of a tile that is being finished and has not passed through this
    /// value: at most once for each level, and never for what these leaves add themselves.
    ///
    /// # Errors
    /// If that part cannot be read. The tree is then as it was; it is *not* when a later step of the caller's
    /// transaction fails, so keep a clone until the commit, or load the frontier again.
    pub fn append<R: TreeReader>(
        &mut self,
        leaf_hashes: &[Hash],
        reader: &mut R,
    ) -> Result<Vec<Tile>, TreeError<R::Error>> {
        self.complete_edges(leaf_hashes.len() as u64, reader)?;
        let mut tiles = Vec::new();
        leaf_hashes.iter().for_each(|&hash| self.push(hash, &mut tiles));
        Ok(tiles)
    }

    /// Reads the parts that are not in memory of the tiles that `more` leaves will finish.
    fn complete_edges<R: TreeReader>(&mut self, more: u64, reader: &mut R) -> Result<(), TreeError<R::Error>> {
        let size = self.frontier.size;
        for (level, edge) in (0..).zip(&mut self.edges) {
            let finished = |size: u64| finished_tiles(size, level);
            if edge.stored > 0 && finished(size + more) > finished(size) {
                edge.load(level, finished(size) * TILE_WIDTH, reader)?;
            }
        }
        Ok(())
    }

    fn push(&mut self, leaf_hash: Hash, tiles: &mut Vec<Tile>) {
        let Self { frontier, edges } = self;
        let size = frontier.size;
        frontier.push_with(leaf_hash, |height, hash| {
            if height % TILE_HEIGHT != 0 {
                return;
            }
            let level = height / TILE_HEIGHT;
            if let Some(below) = level.checked_sub(1) {
                // Whole, because `complete_edges` has read what was not in memory; no store takes another length.
                let hashes = mem::take(&mut edges[usize::from(below)].hashes);
                tiles.push(Tile { level: below, index: finished_tiles(size, below), hashes, root: hash });
            }
            edge(edges, level).hashes.extend_from_slice(&hash);
        });
    }
}

impl Edge {
    /// Reads the part that is stored; the tile's first hash is `first` of the level.
    fn load<R: TreeReader>(&mut self, level: u8, first: u64, reader: &mut R) -> Result<(), TreeError<R::Error>> {
        let range = first..first + self.stored;
        let mut hashes = reader.edge(level, range.clone()).map_err(TreeError::Reader)?;
        if hashes.len() as u64 != self.stored {
            return Err(TreeError::Incomplete { level, range, found: hashes.len() });
        }
        hashes.reserve_exact(TILE_WIDTH as usize - hashes.len());
        let known = mem::replace(&mut self.hashes, hashes.into_flattened());
        self.hashes.extend_from_slice(&known);
        self.stored = 0;
        Ok(())
    }
}

/// The edge of `level`, which is there or the next one: a level begins when the first tile below it is finished.
fn edge(edges: &mut Vec<Edge>, level: u8) -> &mut Edge {
    let level = usize::from(level);
    if edges.len() == level {
        edges.push(Edge::default());
    }
    &mut edges[level]
}

/// How many tiles of `level` are finished in a tree of `size` leaves.
pub fn finished_tiles(size: u64, level: u8) -> u64 {
    size.checked_shr(u32::from(TILE_HEIGHT) * (u32::from(level) + 1)).unwrap_or(0)
}
