use proptest::prelude::*;

use super::{
    naive::{self, Naive},
    stored::{Missing, Stored, leaves},
};
use crate::merkle::{EMPTY_ROOT, Frontier, FrontierError, Hash, MAX_TREE_SIZE, TILE_BYTES, Tree, TreeError};

/// The eight leaves that Certificate Transparency's own tests use, and the roots of the trees over the first of them.
const PUBLISHED_LEAVES: [&str; 8] =
    ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
const PUBLISHED_ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

fn frontier(leaves: &[Hash]) -> Frontier {
    let mut frontier = Frontier::default();
    leaves.iter().for_each(|&leaf| frontier.push(leaf));
    frontier
}

#[test]
fn has_the_published_roots() {
    let leaves: Vec<Hash> = PUBLISHED_LEAVES.iter().map(|leaf| naive::leaf(&hex::decode(leaf).unwrap())).collect();
    for (size, root) in PUBLISHED_ROOTS.iter().enumerate() {
        assert_eq!(hex::encode(frontier(&leaves[..size]).root()), *root, "{size}");
        assert_eq!(hex::encode(naive::root(&leaves[..size])), *root, "{size}");
    }
    assert_eq!(hex::encode(EMPTY_ROOT), PUBLISHED_ROOTS[0]);
}

#[test]
fn has_the_root_of_the_definition_at_every_size() {
    let leaves = leaves(600);
    let naive = Naive::of(&leaves);
    let mut growing = Frontier::default();
    for (size, &leaf) in leaves.iter().enumerate() {
        assert_eq!((growing.size(), growing.root()), (size as u64, naive.root(size)));
        let read = Frontier::decode(growing.size(), &growing.encode()).unwrap();
        assert_eq!(read, growing);
        growing.push(leaf);
    }
}

#[test]
fn a_frontier_has_the_hashes_that_its_size_says_and_no_more() {
    let encoded = frontier(&leaves(7)).encode();
    assert_eq!(encoded.len(), 3 * 32);
    let wrong = |size, found| Err(FrontierError::Length { size, expected: 96, found });
    assert_eq!(Frontier::decode(7, &encoded[..95]), wrong(7, 95));
    assert_eq!(Frontier::decode(11, &[]), wrong(11, 0));
    assert!(Frontier::decode(8, &encoded).is_err());
    assert_eq!(Frontier::decode(MAX_TREE_SIZE + 1, &encoded), Err(FrontierError::Size(MAX_TREE_SIZE + 1)));
    assert_eq!(Frontier::decode(0, &[]), Ok(Frontier::default()));
}

/// Every tile that a log of this size has, hash by hash from the leaves.
fn check_tiles(log: &Stored) {
    let mut hashes = log.rows.clone();
    let mut count = 0;
    for level in 0.. {
        let (finished, _) = hashes.as_chunks::<256>();
        if finished.is_empty() {
            break;
        }
        for (index, chunk) in finished.iter().enumerate() {
            let tile = &log.tiles[&(level, index as u64)];
            assert_eq!((tile.level, tile.index, tile.root), (level, index as u64, naive::root(chunk)));
            assert_eq!(tile.hashes, chunk.concat());
        }
        count += finished.len();
        hashes = finished.iter().map(|chunk| naive::root(chunk)).collect();
    }
    assert_eq!(log.tiles.len(), count);
}

#[test]
fn finishes_each_tile_once_with_the_hashes_below_it() {
    let leaves = leaves(65_800);
    for (size, batch, keep) in [
        (255, 255, true),
        (256, 1, true),
        (257, 256, false),
        (600, 1, false),
        (65_535, 1000, true),
        (65_536, 997, false),
        (65_537, 65_537, true),
        (65_800, 300, false),
    ] {
        let log = Stored::of(&leaves[..size], batch, keep);
        check_tiles(&log);
        assert_eq!(log.load().root(), naive::root(&leaves[..size]), "{size}");
    }
}

#[test]
fn reads_nothing_while_it_stays_in_memory() {
    let (mut log, mut tree) = (Stored::default(), Tree::default());
    leaves(1000).chunks(7).for_each(|leaves| log.append(&mut tree, leaves));
    assert_eq!(log.reads, 0);
}

#[test]
fn reads_the_earlier_part_of_a_tile_only_when_it_is_finished() {
    let leaves = leaves(65_536 + 10);
    let mut log = Stored::of(&leaves[..65_500], 1000, true);
    let mut tree = log.load();
    log.append(&mut tree, &leaves[65_500..65_535]);
    assert_eq!((log.reads, log.rows_read), (0, 0));
    log.append(&mut tree, &leaves[65_535..]);
    assert_eq!((log.reads, log.rows_read), (2, 220 + 255));
    assert_eq!(log.tiles[&(1, 0)].root, tree.frontier().clone().encode()[..32]);
}

#[test]
fn is_as_it_was_when_a_read_fails() {
    let all = leaves(300);
    let stored = Stored::of(&all[..200], 200, true);
    let mut tree = stored.load();
    let mut broken = Stored { rows: Vec::new(), ..stored.clone() };
    assert_eq!(tree.append(&all[200..], &mut broken), Err(TreeError::Reader(Missing(0, 0))));
    assert_eq!((tree.size(), tree.root()), (200, naive::root(&all[..200])));
    let mut stored = stored;
    stored.append(&mut tree, &all[200..]);
    check_tiles(&stored);
}

#[test]
fn says_what_the_log_lacks() {
    let all = leaves(65_536);
    let mut log = Stored::of(&all[..65_535], 65_535, true);
    log.tiles.remove(&(0, 7));
    let error = log.load().append(&all[65_535..], &mut log).unwrap_err();
    assert_eq!(error, TreeError::Incomplete { level: 1, range: 0..255, found: 254 });
    assert_eq!(error.to_string(), "the log lacks hashes 0..255 of level 1: 254 were found");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_way_of_adding_leaves_makes_a_difference(
        batches in proptest::collection::vec((0_usize..300, any::<bool>()), 0..12),
    ) {
        let all = leaves(batches.iter().map(|(n, _)| n).sum());
        let (mut log, mut tree, mut rest) = (Stored::default(), Tree::default(), &all[..]);
        for (n, reload) in batches {
            if reload {
                tree = log.load();
            }
            let (batch, behind) = rest.split_at(n);
            log.append(&mut tree, batch);
            rest = behind;
        }
        check_tiles(&log);
        prop_assert_eq!(tree.root(), naive::root(&all));
    }

    #[test]
    fn no_bytes_make_it_panic(size: u64, bytes: Vec<u8>) {
        if let Ok(frontier) = Frontier::decode(size, &bytes) {
            prop_assert_eq!(frontier.encode(), bytes);
            let _ = (frontier.root(), Tree::from(frontier));
        }
    }

    /// At any size, however large: the frontier alone tells which tile is finished next.
    #[test]
    fn grows_from_any_size(size in 0..MAX_TREE_SIZE, filler: u8) {
        let bytes = vec![filler; size.count_ones() as usize * 32];
        let mut tree = Tree::from(Frontier::decode(size, &bytes).unwrap());
        let before = tree.clone();
        let mut reader = Filler(filler);
        let tiles = tree.append(&leaves(257), &mut reader).unwrap();
        prop_assert_eq!(tree.size(), size + 257);
        prop_assert!(tiles.iter().all(|tile| tile.hashes.len() == TILE_BYTES));
        let finished = |level: u8| ((size + 257) >> (8 * (level + 1))) - (size >> (8 * (level + 1)));
        for level in 0..7 {
            prop_assert_eq!(tiles.iter().filter(|tile| tile.level == level).count() as u64, finished(level));
        }
        prop_assert_eq!(before.size(), size);
    }
}

/// Has the same hash everywhere.
struct Filler(u8);

impl crate::merkle::TreeReader for Filler {
    type Error = std::convert::Infallible;

    fn tile(&mut self, _: u8, _: u64) -> Result<Vec<u8>, Self::Error> {
        Ok(vec![self.0; TILE_BYTES])
    }

    fn edge(&mut self, _: u8, range: std::ops::Range<u64>) -> Result<Vec<Hash>, Self::Error> {
        Ok(vec![[self.0; 32]; (range.end - range.start) as usize])
    }
}
