//! The Merkle tree of a tenant's log: how it grows, how it proves, and how its head is signed. Bytes in, bytes out.
//!
//! One tree per tenant, hashed as RFC 6962, section 2.1, says. [`Tree`] grows in the append path and hands over *tiles*
//! (256 hashes of one level, as in C2SP tlog-tiles) as they are finished; [`prove_inclusion`] and [`prove_consistency`]
//! read them through a [`TreeReader`]; [`verify_inclusion`] and [`verify_consistency`] need no store at all. [`Checkpoint`]
//! is a head as a C2SP signed note, and [`CheckpointKey`] what signs it.
//!
//! The arithmetic is that of the crates `tlog_tiles` and `signed_note`, whose types stay inside of this room.

mod checkpoint;
mod key;
#[cfg(any(test, fuzzing))]
pub(crate) mod laws;
mod name;
mod note;
mod proof;
mod tree;

use std::ops::Range;

pub use checkpoint::{Checkpoint, CheckpointError, VerifierKey};
pub use key::{CheckpointKey, KeyError};
pub use name::{
    checkpoint_name, epoch_name, epoch_of, is_of_tenant, is_origin, log_name, manifest_name, manifest_name_of,
};
pub use note::note_text;
pub use proof::{
    InvalidProof, ProofError, prove_consistency, prove_inclusion, root_at, verify_consistency, verify_inclusion,
};
pub use tree::{Frontier, FrontierError, Tile, Tree, TreeError, finished_tiles};

/// A SHA-256 value.
pub type Hash = [u8; HASH_BYTES];

/// The bytes of a [`type@Hash`].
pub const HASH_BYTES: usize = 32;
/// The hashes of a finished tile.
pub const TILE_WIDTH: u64 = 256;
/// The bytes of a finished tile.
pub const TILE_BYTES: usize = TILE_WIDTH as usize * HASH_BYTES;
/// A tile spans this many levels of the tree: 2^8 is [`TILE_WIDTH`].
const TILE_HEIGHT: u8 = 8;
/// The largest tree. Indexes of inner nodes are about twice as large as those of leaves and must fit into 64 bits.
pub const MAX_TREE_SIZE: u64 = 1 << 62;
/// The levels of tiles that it has, unfinished ones included.
pub const TILE_LEVELS: u8 = MAX_TREE_SIZE.ilog2().div_ceil(TILE_HEIGHT as u32) as u8;
/// The root of the tree without leaves: SHA-256 of no bytes (RFC 6962, section 2.1).
pub const EMPTY_ROOT: Hash = tlog_tiles::EMPTY_HASH.0;

/// Reads what is stored of one tree. Level 0 of the tiles holds the hashes of the leaves, level `n` the roots of the
/// finished tiles of level `n - 1`.
///
/// Only what lies below a committed head is asked for, so a reader needs no snapshot: none of it ever changes.
pub trait TreeReader {
    /// Why something could not be read.
    type Error;

    /// The [`TILE_BYTES`] bytes of the finished tile `index` of `level`.
    fn tile(&mut self, level: u8, index: u64) -> Result<Vec<u8>, Self::Error>;

    /// A part of a tile that is not finished, in order: at level 0 the hashes of the leaves `range`, above it the roots
    /// of the finished tiles `range` of the level below. The range has 1 to 255 elements. The number of hashes is
    /// checked by the caller, who also says then what is missing.
    fn edge(&mut self, level: u8, range: Range<u64>) -> Result<Vec<Hash>, Self::Error>;
}

impl<R: TreeReader + ?Sized> TreeReader for &mut R {
    type Error = R::Error;

    fn tile(&mut self, level: u8, index: u64) -> Result<Vec<u8>, Self::Error> {
        (**self).tile(level, index)
    }

    fn edge(&mut self, level: u8, range: Range<u64>) -> Result<Vec<Hash>, Self::Error> {
        (**self).edge(level, range)
    }
}

fn node_hash(left: Hash, right: Hash) -> Hash {
    tlog_tiles::node_hash(tlog_tiles::Hash(left), tlog_tiles::Hash(right)).0
}

#[cfg(test)]
mod tests;
