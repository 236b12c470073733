//! Proofs: that a leaf is in a log, and that a log extends an earlier one (RFC 6962, sections 2.1.1 and 2.1.2).
//!
//! Which nodes make a proof is `tlog_tiles`' arithmetic. Its own reader over tiles, `TileHashReader`, does not serve: it
//! wants the unfinished tiles of the very size that is asked about, which nobody stores, and each time all those that the
//! root takes. [`Nodes`] reads the finished tiles of today's log for earlier sizes too, and for the right edge what the
//! rows hold.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    ops::Range,
};

use tlog_tiles::{self as tlog, HashReader};

use super::{EMPTY_ROOT, Hash, TILE_BYTES, TILE_HEIGHT, TILE_WIDTH, TreeReader, tree::finished_tiles};

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum ProofError<E> {
    /// The reader failed.
    #[error(transparent)]
    Reader(E),
    /// The size asked for is beyond the log's.
    #[error("the log has {head_size} leaves, fewer than {size}")]
    BeyondHead {
        /// Asked for.
        size: u64,
        /// The log's.
        head_size: u64,
    },
    /// The leaf is not in the tree asked about.
    #[error("leaf {leaf_index} is not among the first {size}")]
    LeafNotBelow {
        /// Asked for.
        leaf_index: u64,
        /// Asked for.
        size: u64,
    },
    /// The earlier size is above the later one.
    #[error("the old size, {old_size}, is above the new one, {new_size}")]
    OldAboveNew {
        /// Asked for.
        old_size: u64,
        /// Asked for.
        new_size: u64,
    },
    /// The log does not hold what its head says: another number of hashes was there.
    #[error("the log lacks hashes {range:?} of level {level}: {found} were found")]
    Incomplete {
        /// The level of the tile.
        level: u8,
        /// Which of that level.
        range: Range<u64>,
        /// How many there were.
        found: usize,
    },
    /// The arithmetic failed, which it does for no tree.
    #[error("the proof's arithmetic failed: {0}")]
    Arithmetic(tlog::Error),
}

/// A proof that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the proof does not hold")]
pub struct InvalidProof;

/// The audit path of leaf `leaf_index` in the tree of the first `tree_size` leaves, from the leaf's sibling upwards.
/// `head_size` is the size of the log as it is stored. Reads at most two tiles or parts of tiles for each level of tiles.
pub fn prove_inclusion<R: TreeReader>(
    reader: &mut R,
    head_size: u64,
    leaf_index: u64,
    tree_size: u64,
) -> Result<Vec<Hash>, ProofError<R::Error>> {
    within(tree_size, head_size)?;
    if leaf_index >= tree_size {
        return Err(ProofError::LeafNotBelow { leaf_index, size: tree_size });
    }
    let proof = Nodes::compute(reader, head_size, |nodes| tlog::prove_record(tree_size, leaf_index, nodes))?;
    Ok(proof.iter().map(|hash| hash.0).collect())
}

/// The proof that the tree of the first `old_size` leaves is the beginning of the one of the first `new_size`. Of nothing,
/// and of equal sizes, it is empty. Reads as little as [`prove_inclusion`].
pub fn prove_consistency<R: TreeReader>(
    reader: &mut R,
    head_size: u64,
    old_size: u64,
    new_size: u64,
) -> Result<Vec<Hash>, ProofError<R::Error>> {
    within(new_size, head_size)?;
    match old_size {
        _ if old_size > new_size => return Err(ProofError::OldAboveNew { old_size, new_size }),
        0 => return Ok(Vec::new()),
        _ => (),
    }
    let proof = Nodes::compute(reader, head_size, |nodes| tlog::prove_tree(new_size, old_size, nodes))?;
    Ok(proof.iter().map(|hash| hash.0).collect())
}

/// The root of the tree of the first `tree_size` leaves.
pub fn root_at<R: TreeReader>(reader: &mut R, head_size: u64, tree_size: u64) -> Result<Hash, ProofError<R::Error>> {
    within(tree_size, head_size)?;
    Ok(Nodes::compute(reader, head_size, |nodes| tlog::tree_hash(tree_size, nodes))?.0)
}

fn within<E>(size: u64, head_size: u64) -> Result<(), ProofError<E>> {
    if size <= head_size { Ok(()) } else { Err(ProofError::BeyondHead { size, head_size }) }
}

/// Whether `proof` shows that the leaf with that hash is leaf `leaf_index` of the tree with that size and root. All
/// arguments may come from anywhere.
pub fn verify_inclusion(
    leaf_hash: &Hash,
    leaf_index: u64,
    tree_size: u64,
    root: &Hash,
    proof: &[Hash],
) -> Result<(), InvalidProof> {
    let proof = to_nodes(proof)?;
    let held = tlog::check_record(&proof, tree_size, tlog::Hash(*root), leaf_index, tlog::Hash(*leaf_hash));
    held.map_err(|_| InvalidProof)
}

/// Whether `proof` shows that the tree with the old size and root is the beginning of the one with the new. All arguments
/// may come from anywhere.
pub fn verify_consistency(
    old_size: u64,
    old_root: &Hash,
    new_size: u64,
    new_root: &Hash,
    proof: &[Hash],
) -> Result<(), InvalidProof> {
    if old_size == 0 {
        // Every tree extends the empty one, and RFC 6962 has no proof for it.
        let is_empty = |size: u64, root: &Hash| size != 0 || *root == EMPTY_ROOT;
        let holds = proof.is_empty() && *old_root == EMPTY_ROOT && is_empty(new_size, new_root);
        return if holds { Ok(()) } else { Err(InvalidProof) };
    }
    let proof = to_nodes(proof)?;
    let held = tlog::check_tree(&proof, new_size, tlog::Hash(*new_root), old_size, tlog::Hash(*old_root));
    held.map_err(|_| InvalidProof)
}

/// A path has at most one node for each bit of the size, and a consistency proof one more; a hostile one may be longer.
fn to_nodes(proof: &[Hash]) -> Result<Vec<tlog::Hash>, InvalidProof> {
    let is_short = proof.len() <= u64::BITS as usize + 1;
    if is_short { Ok(proof.iter().copied().map(tlog::Hash).collect()) } else { Err(InvalidProof) }
}

/// Gives `tlog_tiles` the nodes that it asks for, from tiles and from the right edge.
struct Nodes<'a, R: TreeReader> {
    reader: RefCell<&'a mut R>,
    head_size: u64,
    /// The reader's error, which `tlog_tiles`' own error type has no room for.
    failure: Cell<Option<ProofError<R::Error>>>,
}

impl<'a, R: TreeReader> Nodes<'a, R> {
    fn compute<T>(
        reader: &'a mut R,
        head_size: u64,
        work: impl FnOnce(&Self) -> Result<T, tlog::Error>,
    ) -> Result<T, ProofError<R::Error>> {
        let nodes = Self { reader: RefCell::new(reader), head_size, failure: Cell::new(None) };
        let result = work(&nodes);
        result.map_err(|error| nodes.failure.take().unwrap_or(ProofError::Arithmetic(error)))
    }

    fn read(&self, indexes: &[u64]) -> Result<Vec<tlog::Hash>, ProofError<R::Error>> {
        let mut tiles = BTreeMap::new();
        for (place, width) in widths(indexes) {
            tiles.insert(place, self.read_tile(place, width)?);
        }
        let node = |&index: &u64| {
            let (tile, data) = &tiles[&place(&tlog::Tile::from_index(TILE_HEIGHT, index))];
            tile.hash_at_index(data, index).map_err(ProofError::Arithmetic)
        };
        indexes.iter().map(node).collect()
    }

    /// The tile at `place`, or its first `width` hashes while it is not finished.
    fn read_tile(&self, (level, index): Place, width: u32) -> Result<(tlog::Tile, Vec<u8>), ProofError<R::Error>> {
        let is_finished = index < finished_tiles(self.head_size, level);
        let width = if is_finished { TILE_WIDTH as u32 } else { width };
        let first = index * TILE_WIDTH;
        let range = first..first + u64::from(width);
        let mut reader = self.reader.borrow_mut();
        let data = match is_finished {
            true => reader.tile(level, index),
            false => reader.edge(level, range.clone()).map(Vec::into_flattened),
        };
        let data = data.map_err(ProofError::Reader)?;
        match data.len() * TILE_WIDTH as usize == TILE_BYTES * width as usize {
            true => Ok((tlog::Tile::new(TILE_HEIGHT, level, index, width, false), data)),
            false => Err(ProofError::Incomplete { level, range, found: data.len() / super::HASH_BYTES }),
        }
    }
}

impl<R: TreeReader> HashReader for Nodes<'_, R> {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog::Hash>, tlog::Error> {
        self.read(indexes).map_err(|error| {
            self.failure.set(Some(error));
            tlog::Error::InvalidTile
        })
    }
}

/// The level and the index of a tile.
type Place = (u8, u64);

fn place(tile: &tlog::Tile) -> Place {
    (tile.level(), tile.level_index())
}

/// The tiles that hold the nodes `indexes`, each with the number of its hashes that these take.
fn widths(indexes: &[u64]) -> BTreeMap<Place, u32> {
    let mut widths = BTreeMap::new();
    for tile in indexes.iter().map(|&index| tlog::Tile::from_index(TILE_HEIGHT, index)) {
        let width: &mut u32 = widths.entry(place(&tile)).or_default();
        *width = tile.width().max(*width);
    }
    widths
}
