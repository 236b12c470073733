//! The use cases over a log in memory; what they prove is checked by `merkle`'s own verifiers.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use super::*;
use crate::{
    auth::{Authorizer, Grant, Policy, Principal},
    merkle::{Checkpoint, CheckpointKey, EMPTY_ROOT, Tile, Tree, VerifierKey, checkpoint_name, verify_consistency},
    model::{Actor, ActorType, TimeId},
};

/// A log whose leaves are the events 0, 1, 2, …, every tenth of which is in the project `p`.
#[derive(Clone, Default)]
struct Memory {
    rows: Vec<Vec<u8>>,
    tree: Tree,
    tiles: BTreeMap<(u8, u64), Tile>,
    /// What is committed just before an event is looked for.
    late: Vec<Vec<u8>>,
}

impl Memory {
    fn of(size: usize) -> Self {
        let mut log = Self::default();
        log.commit((0..size).map(|i| format!("leaf {i}").into_bytes()).collect());
        log
    }

    fn commit(&mut self, leaves: Vec<Vec<u8>>) {
        let hashes: Vec<Hash> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
        let mut tree = self.tree.clone();
        let finished = tree.append(&hashes, self).unwrap();
        self.tiles.extend(finished.into_iter().map(|tile| ((tile.level, tile.index), tile)));
        self.tree = tree;
        self.rows.extend(leaves);
    }
}

impl TreeReader for Memory {
    type Error = StoreError;

    fn tile(&mut self, level: u8, index: u64) -> Result<Vec<u8>, StoreError> {
        let missing = || StoreError::Corrupt(format!("no tile {level}/{index}"));
        Ok(self.tiles.get(&(level, index)).ok_or_else(missing)?.hashes.clone())
    }

    fn edge(&mut self, level: u8, range: Range<u64>) -> Result<Vec<Hash>, StoreError> {
        match level {
            0 => Ok(Log::leaves(self, range)?.iter().map(|leaf| leaf_hash(leaf)).collect()),
            _ => Ok(self.tiles.range((level - 1, range.start)..(level - 1, range.end)).map(|(_, t)| t.root).collect()),
        }
    }
}

impl Log for Memory {
    fn head(&mut self) -> Result<LogHead, StoreError> {
        Ok(LogHead { frontier: self.tree.frontier().clone(), ..LogHead::default() })
    }

    fn find(&mut self, scope: &Scope, event: EventId, note: Option<NoteId>) -> Result<Option<u64>, StoreError> {
        let late = std::mem::take(&mut self.late);
        self.commit(late);
        let index = (0..self.rows.len()).find(|&index| id(index) == event);
        let is_inside = |index: &usize| scope.project().is_none() || index.is_multiple_of(10);
        Ok(index.filter(is_inside).filter(|_| note.is_none()).map(|index| index as u64))
    }

    fn leaves(&mut self, range: Range<u64>) -> Result<Vec<Vec<u8>>, StoreError> {
        let count = (range.end - range.start) as usize;
        Ok(self.rows.iter().skip(range.start as usize).take(count).cloned().collect())
    }
}

#[derive(Clone, Default)]
struct Memories(Arc<Mutex<HashMap<String, Memory>>>);

impl Logs for Memories {
    async fn read<T: Send + 'static>(
        &self,
        tenant: &str,
        work: impl Fn(&mut dyn Log) -> Result<T, ProveError> + Send + 'static,
    ) -> Result<T, ProveError> {
        work(self.0.lock().unwrap().entry(tenant.to_owned()).or_default())
    }
}

fn id(index: usize) -> TimeId {
    TimeId::parse(&format!("01900000-0000-7000-8000-{index:012x}")).unwrap()
}

fn key() -> CheckpointKey {
    CheckpointKey::from_seed(&[1; 32])
}

/// A prover of a log of that size, and a permit for it.
fn prover(log: Memory) -> (Prover<Memories>, Permit<Prove>) {
    let logs = Memories::default();
    logs.0.lock().unwrap().insert("acme".to_owned(), log);
    (Prover::new(logs, Ok(Arc::new(HeadSigner::new(key(), "log.test".to_owned())))), permit("tenants/acme").unwrap())
}

fn permit(scope: &str) -> Result<Permit<Prove>, crate::auth::Denied> {
    let actor = Actor { kind: ActorType::User, id: "ann".to_owned(), name: String::new() };
    let roles = ["tenant_viewer@tenants/acme", "project_viewer@tenants/other/projects/p"];
    let roles = roles.iter().map(|grant| Grant::parse(grant).unwrap()).collect();
    let principal = Principal { actor, roles, permissions: Vec::new() };
    let authorizer = Authorizer::new(Policy::new(&Default::default()).unwrap());
    authorizer.prove(&principal, &Scope::parse(scope).unwrap())
}

fn request(scope: &str, index: usize, tree_size: Option<u64>) -> InclusionRequest {
    InclusionRequest { scope: Scope::parse(scope).unwrap(), event: id(index), note: None, tree_size }
}

fn verified(checkpoint: &str) -> Checkpoint {
    let key = VerifierKey::parse(&key().verifier_key(&checkpoint_name("log.test", "acme"))).unwrap();
    Checkpoint::verify(checkpoint, &key).unwrap()
}

#[test]
fn it_takes_the_right_to_read_the_tenant_and_the_permit_is_for_the_tenant() {
    assert_eq!(permit("tenants/acme/projects/p").unwrap().scope().to_string(), "tenants/acme");
    assert!(permit("tenants/other/projects/p").is_err());
}

#[tokio::test]
async fn signs_the_head_that_is_committed() {
    let (prover, permit) = prover(Memory::of(300));
    let head = prover.checkpoint(&permit).await.unwrap();
    let checkpoint = verified(&head.checkpoint);
    assert_eq!((checkpoint.size, checkpoint.root), (300, head.root));
    assert_eq!(prover.checkpoint(&permit).await.unwrap(), head);
    let (prover, permit) = self::prover(Memory::default());
    let head = prover.checkpoint(&permit).await.unwrap();
    assert_eq!((head.size, head.root), (0, EMPTY_ROOT));
    assert_eq!(verified(&head.checkpoint).root, EMPTY_ROOT);
}

#[tokio::test]
async fn proves_events_now_and_at_earlier_sizes() {
    let (prover, permit) = prover(Memory::of(600));
    let now = prover.inclusion(&permit, request("tenants/acme", 259, None)).await.unwrap().unwrap();
    assert_eq!((now.leaf_index, now.tree_size, &now.leaf[..]), (259, 600, &b"leaf 259"[..]));
    let root = verified(now.checkpoint.as_ref().unwrap()).root;
    verify_inclusion(&leaf_hash(&now.leaf), 259, 600, &root, &now.hashes).unwrap();

    let (earlier, root) = (Memory::of(260), Memory::of(260).tree.root());
    let then = prover.inclusion(&permit, request("tenants/acme", 259, Some(260))).await.unwrap().unwrap();
    assert_eq!((then.tree_size, then.checkpoint), (earlier.tree.size(), None));
    verify_inclusion(&leaf_hash(&then.leaf), 259, 260, &root, &then.hashes).unwrap();
}

#[tokio::test]
async fn looks_in_the_scope_named_only() {
    let (prover, permit) = prover(Memory::of(20));
    let find = async |scope, index| prover.inclusion(&permit, request(scope, index, None)).await.unwrap().is_some();
    assert!(find("tenants/acme/projects/p", 10).await);
    assert!(!find("tenants/acme/projects/p", 11).await);
    assert!(find("tenants/acme", 11).await);
    assert!(!find("tenants/acme", 20).await);
}

#[tokio::test]
async fn proves_that_the_log_has_grown() {
    let (prover, permit) = prover(Memory::of(600));
    let proof = prover.consistency(&permit, 100, None).await.unwrap();
    let head = verified(proof.checkpoint.as_ref().unwrap());
    verify_consistency(100, &Memory::of(100).tree.root(), 600, &head.root, &proof.hashes).unwrap();
    let proof = prover.consistency(&permit, 100, Some(257)).await.unwrap();
    assert_eq!(proof.checkpoint, None);
    let (old, new) = (Memory::of(100).tree.root(), Memory::of(257).tree.root());
    verify_consistency(100, &old, 257, &new, &proof.hashes).unwrap();
    assert_eq!(prover.consistency(&permit, 0, None).await.unwrap().hashes, Vec::<Hash>::new());
    assert_eq!(prover.consistency(&permit, 600, None).await.unwrap().hashes, Vec::<Hash>::new());
}

#[tokio::test]
async fn refuses_sizes_that_are_not() {
    let (prover, permit) = prover(Memory::of(20));
    let text = |error: ProveError| error.to_string();
    let include = async |index, size| {
        prover.inclusion(&permit, request("tenants/acme", index, Some(size))).await.map_err(text).unwrap_err()
    };
    assert_eq!(include(1, 21).await, "must be at most the log's size, which is 20; it is 21");
    assert_eq!(include(5, 5).await, "must be above the leaf's index, which is 5; it is 5");
    let grow = async |old, new| prover.consistency(&permit, old, new).await.map_err(text).unwrap_err();
    assert_eq!(grow(6, Some(5)).await, "must be at most new_size, which is 5; it is 6");
    assert_eq!(grow(21, None).await, "must be at most new_size, which is 20; it is 21");
    assert_eq!(grow(1, Some(21)).await, "must be at most the log's size, which is 20; it is 21");
    let list = prover.leaves(&permit, 21, 1).await.map_err(text).unwrap_err();
    assert_eq!(list, "must be at most the log's size, which is 20; it is 21");
}

#[tokio::test]
async fn lists_leaves_to_the_end_and_waits_there() {
    let (prover, permit) = prover(Memory::of(20));
    let page = prover.leaves(&permit, 15, 3).await.unwrap();
    assert_eq!((page.leaves.concat(), page.tree_size), (b"leaf 15leaf 16leaf 17".to_vec(), 20));
    assert_eq!(prover.leaves(&permit, 18, u64::MAX).await.unwrap().leaves.len(), 2);
    assert_eq!(prover.leaves(&permit, 20, 10).await.unwrap().leaves.len(), 0);
}

#[tokio::test]
async fn a_page_of_leaves_fits_into_a_message_and_is_never_stuck() {
    let mut log = Memory::default();
    log.commit([PAGE_BYTES / 2, PAGE_BYTES / 2, 1, PAGE_BYTES + 1, 1].map(|bytes| vec![0; bytes]).to_vec());
    let (prover, permit) = prover(log);
    let counts = async |start| prover.leaves(&permit, start, 10).await.unwrap().leaves.len();
    assert_eq!((counts(0).await, counts(2).await, counts(3).await, counts(4).await), (2, 1, 1, 1));
}

#[tokio::test]
async fn the_head_of_a_proof_is_never_older_than_its_leaf() {
    let mut log = Memory::of(20);
    log.late = vec![b"leaf 20".to_vec()];
    let (prover, permit) = prover(log);
    let proof = prover.inclusion(&permit, request("tenants/acme", 20, None)).await.unwrap().unwrap();
    assert_eq!((proof.leaf_index, proof.tree_size), (20, 21));
    assert_eq!(verified(proof.checkpoint.as_ref().unwrap()).size, 21);
}

#[tokio::test]
async fn a_log_that_was_tampered_with_gives_no_proof() {
    let mut changed = Memory::of(600);
    changed.rows[3] = b"leaf X".to_vec();
    let mut short = Memory::of(600);
    short.rows.truncate(590);
    let mut torn = Memory::of(600);
    torn.tiles.get_mut(&(0, 0)).unwrap().hashes[40] ^= 1;
    for (log, expected) in [
        (changed, "the log of tenants/acme contradicts itself (leaf 3 is not the one that was sealed): "),
        (
            short,
            "the log of tenants/acme contradicts itself (the log lacks hashes 512..600 of level 0: 78 were found): ",
        ),
        (torn, "the log of tenants/acme contradicts itself (leaf 3 is not the one that was sealed): "),
    ] {
        let (prover, permit) = prover(log);
        let error = prover.inclusion(&permit, request("tenants/acme", 3, None)).await.unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    let mut behind = Memory::of(20);
    behind.tree = Memory::of(10).tree;
    let (prover, permit) = self::prover(behind);
    let error = prover.inclusion(&permit, request("tenants/acme", 15, None)).await.unwrap_err().to_string();
    assert!(error.contains("leaf 15 is beyond the head, 10"), "{error}");
    let mut log = Memory::of(20);
    log.rows.pop();
    let (prover, permit) = self::prover(log);
    let error = prover.leaves(&permit, 0, 100).await.unwrap_err().to_string();
    assert!(error.contains("of the leaves 0..20 there are 19"), "{error}");
}
