use proptest::prelude::*;

use super::{
    naive::{self, Naive},
    stored::{Missing, Stored, leaves},
};
use crate::merkle::{
    EMPTY_ROOT, Hash, ProofError, prove_consistency, prove_inclusion, root_at, verify_consistency, verify_inclusion,
};

/// Proves leaf `index` at `size`, and holds the proof against the definition and the verifier.
fn check_inclusion(log: &mut Stored, naive: &Naive<'_>, index: usize, size: usize) {
    let proof = prove_inclusion(log, log.head.0, index as u64, size as u64).unwrap();
    assert_eq!(proof, naive.path(index, size), "{index} in {size}");
    verify_inclusion(&log.rows[index], index as u64, size as u64, &naive.root(size), &proof).unwrap();
}

fn check_consistency(log: &mut Stored, naive: &Naive<'_>, old: usize, new: usize) {
    let proof = prove_consistency(log, log.head.0, old as u64, new as u64).unwrap();
    let defined = if old > 0 { naive.consistency(old, new) } else { Vec::new() };
    assert_eq!(proof, defined, "{old} to {new}");
    verify_consistency(old as u64, &naive.root(old), new as u64, &naive.root(new), &proof).unwrap();
    assert_eq!(root_at(log, log.head.0, new as u64).unwrap(), naive.root(new));
}

#[test]
fn proves_every_leaf_of_small_logs() {
    let leaves = leaves(40);
    let naive = Naive::of(&leaves);
    for size in 1..=40 {
        let mut log = Stored::of(&leaves[..size], 7, true);
        (0..size).for_each(|index| check_inclusion(&mut log, &naive, index, size));
        (0..=size).for_each(|old| check_consistency(&mut log, &naive, old, size));
    }
}

#[test]
fn proves_at_every_size_up_to_600_of_a_log_of_600() {
    let leaves = leaves(600);
    let (mut log, naive) = (Stored::of(&leaves, 100, true), Naive::of(&leaves));
    for size in 1..=600 {
        for index in [0, size / 3, size / 2, size - 1] {
            check_inclusion(&mut log, &naive, index, size);
        }
        for old in [0, 1, size / 3, size / 2, size - 1, size] {
            check_consistency(&mut log, &naive, old, size);
        }
    }
}

/// There are three levels of tiles, and of each two are read: one on the way to the leaf, and one at the right edge.
#[test]
fn proves_around_65536_in_a_bounded_number_of_reads() {
    let leaves = leaves(66_100);
    let (mut log, naive) = (Stored::of(&leaves, 1000, true), Naive::of(&leaves));
    for size in [65_535, 65_536, 65_537, 65_792, 66_100] {
        for index in [0, 255, 256, 32_767, 65_279, 65_534, size - 1] {
            (log.reads, log.rows_read) = (0, 0);
            check_inclusion(&mut log, &naive, index, size);
            assert!(log.reads <= 6 && log.rows_read <= 6 * 255, "{} reads, {} rows", log.reads, log.rows_read);
            (log.reads, log.rows_read) = (0, 0);
            let proof = prove_consistency(&mut log, 66_100, index as u64 + 1, size as u64).unwrap();
            assert_eq!(proof, naive.consistency(index + 1, size));
            assert!(log.reads <= 6 && log.rows_read <= 6 * 255, "{} reads, {} rows", log.reads, log.rows_read);
        }
    }
}

#[test]
fn refuses_what_cannot_be_proved() {
    let mut log = Stored::of(&leaves(10), 10, true);
    let text = |result: Result<Vec<Hash>, ProofError<Missing>>| result.unwrap_err().to_string();
    assert_eq!(text(prove_inclusion(&mut log, 10, 3, 11)), "the log has 10 leaves, fewer than 11");
    assert_eq!(text(prove_inclusion(&mut log, 10, 5, 5)), "leaf 5 is not among the first 5");
    assert_eq!(text(prove_inclusion(&mut log, 10, 0, 0)), "leaf 0 is not among the first 0");
    assert_eq!(text(prove_consistency(&mut log, 10, 6, 5)), "the old size, 6, is above the new one, 5");
    assert_eq!(text(prove_consistency(&mut log, 10, 5, 11)), "the log has 10 leaves, fewer than 11");
    assert_eq!(log.reads, 0);
    assert_eq!(root_at(&mut log, 10, 0).unwrap(), EMPTY_ROOT);
}

#[test]
fn a_log_with_holes_gives_an_error_and_no_proof() {
    let whole = Stored::of(&leaves(1000), 1000, true);
    let mut log = whole.clone();
    log.tiles.remove(&(0, 1));
    assert!(matches!(prove_inclusion(&mut log, 1000, 300, 1000), Err(ProofError::Reader(Missing(0, 1)))));
    let lacks = |level, found| {
        move |error: ProofError<Missing>| match error {
            ProofError::Incomplete { level: l, found: f, .. } => (l, f) == (level, found),
            _ => false,
        }
    };
    assert!(prove_inclusion(&mut log, 1000, 0, 1000).is_err_and(lacks(1, 2)));
    let mut log = whole.clone();
    log.tiles.get_mut(&(0, 0)).unwrap().hashes.truncate(8000);
    assert!(prove_inclusion(&mut log, 1000, 0, 1000).is_err_and(lacks(0, 250)));
    let mut log = Stored { rows: whole.rows[..900].to_vec(), ..whole };
    assert!(matches!(prove_inclusion(&mut log, 1000, 0, 1000), Err(ProofError::Reader(Missing(0, 768)))));
}

proptest! {
    #[test]
    fn every_flipped_bit_and_every_other_place_is_refused(
        size in 2_usize..600, index: prop::sample::Index, old: prop::sample::Index, bit: prop::sample::Index,
    ) {
        let mut log = Stored::of(&leaves(size), size, true);
        let (index, old, root) = (index.index(size), 1 + old.index(size - 1), naive::root(&log.rows));
        let (index64, size64) = (index as u64, size as u64);
        let leaf = log.rows[index];

        let proof = prove_inclusion(&mut log, size64, index64, size64).unwrap();
        let verify = |proof: &[Hash]| verify_inclusion(&leaf, index64, size64, &root, proof).is_ok();
        prop_assert!(verify(&proof));
        prop_assert!(!verify(&flipped(&proof, bit)));
        prop_assert!(!verify(&proof[1..]));
        prop_assert!(!verify(&[&proof[..], &[root]].concat()));
        prop_assert!(verify_inclusion(&flipped(&[leaf], bit)[0], index64, size64, &root, &proof).is_err());
        prop_assert!(verify_inclusion(&leaf, index64 ^ 1, size64, &root, &proof).is_err());

        let proof = prove_consistency(&mut log, size64, old as u64, size64).unwrap();
        let old_root = naive::root(&log.rows[..old]);
        let verify = |proof: &[Hash]| verify_consistency(old as u64, &old_root, size64, &root, proof).is_ok();
        prop_assert!(verify(&proof));
        prop_assert!(!verify(&flipped(&proof, bit)));
        prop_assert!(!verify(&proof[1..]));
        prop_assert!(!verify(&[&proof[..], &[root]].concat()));
        prop_assert!(verify_consistency(old as u64, &flipped(&[old_root], bit)[0], size64, &root, &proof).is_err());
        prop_assert!(verify_consistency(0, &old_root, size64, &root, &proof).is_err());
    }

    #[test]
    fn no_argument_makes_a_verifier_panic(
        a: u64, b: u64, near in 0_u64..3, x: Hash, y: Hash, proof in prop::collection::vec(any::<Hash>(), 0..70),
    ) {
        for (a, b) in [(a, b), (u64::MAX - near, u64::MAX), (near, u64::MAX), (a, a.saturating_add(near)), (near, near)] {
            let _ = verify_inclusion(&x, a, b, &y, &proof);
            let _ = verify_consistency(a, &x, b, &y, &proof);
        }
    }
}

fn flipped(hashes: &[Hash], bit: prop::sample::Index) -> Vec<Hash> {
    let mut hashes = hashes.to_vec();
    let bit = bit.index(hashes.len() * 256);
    hashes[bit / 256][bit % 256 / 8] ^= 1 << (bit % 8);
    hashes
}

#[test]
fn the_empty_tree_is_the_beginning_of_every_tree() {
    let (empty, root) = (EMPTY_ROOT, naive::root(&leaves(3)));
    assert!(verify_consistency(0, &empty, 0, &empty, &[]).is_ok());
    assert!(verify_consistency(0, &empty, 3, &root, &[]).is_ok());
    assert!(verify_consistency(0, &root, 3, &root, &[]).is_err());
    assert!(verify_consistency(0, &empty, 0, &root, &[]).is_err());
    assert!(verify_consistency(0, &empty, 3, &root, &[root]).is_err());
}
