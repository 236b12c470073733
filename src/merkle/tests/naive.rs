//! RFC 6962, sections 2.1, 2.1.1 and 2.1.2, word for word, on nothing of the code under test. The one thing beside the
//! definitions is that the root of a range is computed once.

use std::{cell::RefCell, collections::HashMap, ops::Range};

use sha2::{Digest as _, Sha256};

use crate::merkle::Hash;

fn sha256(parts: &[&[u8]]) -> Hash {
    parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part)).finalize().into()
}

/// The hash of a leaf.
pub fn leaf(data: &[u8]) -> Hash {
    sha256(&[&[0], data])
}

/// The root over these leaves.
pub fn root(leaves: &[Hash]) -> Hash {
    Naive::of(leaves).root(leaves.len())
}

/// The definitions over the list `D` of these leaves.
pub struct Naive<'a> {
    leaves: &'a [Hash],
    known: RefCell<HashMap<Range<usize>, Hash>>,
}

impl<'a> Naive<'a> {
    pub fn of(leaves: &'a [Hash]) -> Self {
        Self { leaves, known: RefCell::default() }
    }

    /// MTH(D[n])
    pub fn root(&self, n: usize) -> Hash {
        self.mth(0..n)
    }

    /// PATH(m, D[n])
    pub fn path(&self, m: usize, n: usize) -> Vec<Hash> {
        self.path_in(m, 0..n)
    }

    /// PROOF(m, D[n])
    pub fn consistency(&self, m: usize, n: usize) -> Vec<Hash> {
        self.subproof(m, 0..n, true)
    }

    fn mth(&self, range: Range<usize>) -> Hash {
        match range.len() {
            0 => return sha256(&[]),
            1 => return self.leaves[range.start],
            _ => (),
        }
        if let Some(known) = self.known.borrow().get(&range) {
            return *known;
        }
        let (left, right) = split(&range);
        let root = sha256(&[&[1], &self.mth(left), &self.mth(right)]);
        self.known.borrow_mut().insert(range, root);
        root
    }

    fn path_in(&self, m: usize, range: Range<usize>) -> Vec<Hash> {
        if range.len() == 1 {
            return Vec::new();
        }
        let (left, right) = split(&range);
        let (mut nodes, sibling) = match m < left.len() {
            true => (self.path_in(m, left), self.mth(right)),
            false => (self.path_in(m - left.len(), right), self.mth(left)),
        };
        nodes.push(sibling);
        nodes
    }

    fn subproof(&self, m: usize, range: Range<usize>, is_whole: bool) -> Vec<Hash> {
        if m == range.len() {
            return if is_whole { Vec::new() } else { vec![self.mth(range)] };
        }
        let (left, right) = split(&range);
        let (mut nodes, sibling) = match m <= left.len() {
            true => (self.subproof(m, left, is_whole), self.mth(right)),
            false => (self.subproof(m - left.len(), right, false), self.mth(left)),
        };
        nodes.push(sibling);
        nodes
    }
}

/// At k, the largest power of two below n.
fn split(range: &Range<usize>) -> (Range<usize>, Range<usize>) {
    let k = range.start + range.len().next_power_of_two() / 2;
    (range.start..k, k..range.end)
}
