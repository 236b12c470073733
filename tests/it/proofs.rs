//! The service that proves: logs of many sizes, checked by our own verifiers and by one in another language that shares
//! nothing with them; and what it refuses.

use std::{collections::BTreeMap, fs, process::Command};

use auditlog::{
    merkle::{Checkpoint, EMPTY_ROOT, Hash, verify_consistency, verify_inclusion},
    proto::auditlog::v1::{EventLeaf, GetInclusionProofResponse, Leaf, NoteLeaf, leaf::Kind},
};
use prost::Message as _;
use rstest::rstest;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tonic::Code;

use crate::{child, harness::*};

const T: &str = "tenants/acme";
const P: &str = "tenants/acme/projects/web";
const VERIFIER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/verify_log.py");

/// What a leaf is of: an event's name, or the name of the event and the id of a note on it.
type Subject = (String, String);

/// A log that grows to order, and what it has told on the way.
struct Growing {
    app: TestApp,
    root: Caller,
    subjects: Vec<Subject>,
    checkpoints: BTreeMap<i64, String>,
}

impl Growing {
    async fn start(backend: Backend) -> Self {
        let app = TestApp::start(backend).await;
        Self { app, root: Caller::root(), subjects: Vec::new(), checkpoints: BTreeMap::new() }
    }

    /// Records until the log has `size` leaves: batches of events, each followed by a note on its first event.
    async fn grow_to(&mut self, size: usize, batch: usize) {
        while self.subjects.len() < size {
            let room = size - self.subjects.len();
            let events = if room > 1 { (room - 1).min(batch) } else { 1 };
            let first = self.record(events).await;
            if events < room {
                let note = self.app.note(&self.root, &first, "why", "").await.unwrap().note.unwrap();
                assert_eq!(note.leaf_index, Some(self.subjects.len() as i64));
                self.subjects.push((first, note.note_id));
            }
        }
        let head = self.app.checkpoint(&self.root, T).await.unwrap();
        assert_eq!(head.tree_size, Some(size as i64));
        self.checkpoints.insert(size as i64, head.checkpoint);
    }

    /// In the tenant and in a project of it, by turns; gives the first event's name.
    async fn record(&mut self, count: usize) -> String {
        let parent = if self.subjects.len().is_multiple_of(2) { T } else { P };
        let requests = vec![item("", event("clusterprofile", "c"), ""); count];
        let receipts = self.app.batch(&self.root, parent, requests).await.unwrap();
        assert_eq!(receipts[0].leaf_index, Some(self.subjects.len() as i64));
        let first = receipts[0].name.clone();
        self.subjects.extend(receipts.into_iter().map(|receipt| (receipt.name, String::new())));
        first
    }

    fn signed(&self, size: i64) -> Checkpoint {
        verified(&self.checkpoints[&size], &self.app.database.verifier_key("acme"))
    }

    async fn inclusion(&self, index: i64, size: i64) -> GetInclusionProofResponse {
        let (name, note) = &self.subjects[usize::try_from(index).unwrap()];
        let proof = self.app.inclusion(&self.root, name, note, size).await.unwrap();
        assert_eq!((proof.leaf_index, proof.tree_size), (Some(index), size));
        self.assert_is_of(&proof.leaf, index);
        let size = u64::try_from(size).unwrap();
        let root = self.signed(proof.tree_size).root;
        verify_inclusion(&leaf_hash(&proof.leaf), index as u64, size, &root, &hashes(&proof.hashes)).unwrap();
        proof
    }

    /// Whether a leaf names what it is of.
    fn assert_is_of(&self, leaf: &[u8], index: i64) {
        let (name, note) = &self.subjects[usize::try_from(index).unwrap()];
        match Leaf::decode(leaf).unwrap().kind.unwrap() {
            Kind::Event(EventLeaf { name: found, .. }) => assert_eq!((&found, ""), (name, note.as_str())),
            Kind::Note(NoteLeaf { event_name, note_id, .. }) => assert_eq!((&event_name, &note_id), (name, note)),
        }
    }

    /// The inclusion proofs and consistency proofs asked for, each verified here, as the other verifier wants them.
    async fn proven(&self, inclusion: &[(i64, i64)], consistency: &[(i64, i64)]) -> Value {
        let (mut of_leaves, mut of_sizes) = (Vec::new(), Vec::new());
        for &(index, size) in inclusion {
            let proof = self.inclusion(index, size).await;
            of_leaves.push(json!({"leaf_index": index, "tree_size": size, "hashes": hex_of(&proof.hashes)}));
        }
        for &(old, new) in consistency {
            let proof = self.app.consistency(&self.root, T, old, new).await.unwrap();
            let [old_root, new_root] =
                [old, new].map(|size| if size == 0 { EMPTY_ROOT } else { self.signed(size).root });
            verify_consistency(old as u64, &old_root, new as u64, &new_root, &hashes(&proof.hashes)).unwrap();
            of_sizes.push(json!({"old_size": old, "new_size": new, "hashes": hex_of(&proof.hashes)}));
        }
        let leaves = self.app.all_leaves(&self.root, T).await;
        assert_eq!(leaves.len(), self.subjects.len());
        leaves.iter().zip(0..).for_each(|(leaf, index)| self.assert_is_of(leaf, index));
        json!({
            "verifier_key": printed_key(&self.app.database),
            "leaves": leaves.iter().map(hex::encode).collect::<Vec<_>>(),
            "checkpoints": self.checkpoints.values().collect::<Vec<_>>(),
            "inclusion_proofs": of_leaves,
            "consistency_proofs": of_sizes,
        })
    }
}

/// What `auditlog key show` prints last.
fn printed_key(database: &Database) -> String {
    let output = child::run(database.folder.path(), &["key", "show", "--tenant", "acme"]);
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    printed.lines().last().unwrap().to_owned()
}

fn hex_of(hashes: &[Vec<u8>]) -> Vec<String> {
    hashes.iter().map(hex::encode).collect()
}

fn leaf_hash(leaf: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(leaf).finalize().into()
}

/// What the verifier in another language says.
fn verified_elsewhere(log: &Value) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.json");
    fs::write(&path, log.to_string()).unwrap();
    let output = Command::new("python3").arg(VERIFIER).arg(&path).output();
    let output = output.expect("python3 must be there: the proofs are held against a verifier written in it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout).unwrap()
}

/// Every leaf at the size just reached, and every pair of the sizes so far.
#[rstest]
#[tokio::test]
async fn small_logs_prove_every_leaf_and_every_growth(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let mut log = Growing::start(backend).await;
    log.grow_to(0, 1).await;
    let sizes = [1, 2, 3, 7, 8, 255, 256, 257];
    let (mut inclusion, mut consistency) = (Vec::new(), vec![(0, 0)]);
    for size in sizes {
        log.grow_to(size, 9).await;
        let size = size as i64;
        // At the last sizes, those beside the ends of tiles too, every leaf would be asked for three times.
        let every = if matches!(size, 255 | 256) { 17 } else { 1 };
        inclusion.extend((0..size).filter(|index| index % every == 0).map(|index| (index, size)));
        consistency.extend(log.checkpoints.keys().map(|old| (*old, size)));
    }
    let text = verified_elsewhere(&log.proven(&inclusion, &consistency).await);
    let (proofs, pairs) = (inclusion.len(), consistency.len());
    let expected = format!("OK: 257 leaves, 9 checkpoints, {proofs} inclusion proofs, {pairs} consistency proofs\n");
    assert_eq!(text, expected);
}

/// Between the ends of tiles of both levels, and beyond.
#[rstest]
#[tokio::test]
async fn large_logs_prove_a_sample(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let mut log = Growing::start(backend).await;
    let mut consistency = Vec::new();
    for size in [256, 257, 65_535, 65_536, 65_537] {
        log.grow_to(size, 999).await;
        consistency.extend(log.checkpoints.keys().map(|old| (*old, size as i64)));
    }
    let places = [0, 1, 255, 256, 999, 1000, 32_767, 65_279, 65_280, 65_534, 65_535, 65_536];
    let pairs = places.into_iter().flat_map(|index| log.checkpoints.keys().map(move |size| (index, *size)));
    let inclusion: Vec<_> = pairs.filter(|(index, size)| index < size).collect();
    let text = verified_elsewhere(&log.proven(&inclusion, &consistency).await);
    assert!(text.starts_with("OK: 65537 leaves, 5 checkpoints, "), "{text}");
}

#[rstest]
#[tokio::test]
async fn an_unknown_tenant_has_the_empty_log(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let root = Caller::root();
    let head = app.checkpoint(&root, "tenants/nobody").await.unwrap();
    assert_eq!((head.tree_size, head.root_hash.as_slice()), (Some(0), EMPTY_ROOT.as_slice()));
    assert_eq!(EMPTY_ROOT, <[u8; 32]>::from(Sha256::digest([])));
    let signed = verified(&head.checkpoint, &app.database.verifier_key("nobody"));
    assert_eq!((signed.origin.as_str(), signed.size), ("auditlog.local/tenants/nobody", 0));
    let consistency = app.consistency(&root, "tenants/nobody", 0, 0).await.unwrap();
    assert_eq!((consistency.hashes.len(), &consistency.checkpoint), (0, &head.checkpoint));
    let page = app.leaves(&root, "tenants/nobody", 0, 0).await.unwrap();
    assert_eq!((page.leaves.len(), page.tree_size), (0, 0));
    assert_fields(app.leaves(&root, "tenants/nobody", 1, 0).await, &["start"]);
    assert_fields(app.consistency(&root, "tenants/nobody", 1, 0).await, &["old_size"]);
    assert_fields(app.consistency(&root, "tenants/nobody", 1, 1).await, &["new_size"]);
}

#[rstest]
#[tokio::test]
async fn what_is_current_has_its_checkpoint_and_what_is_not_has_none(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let mut log = Growing::start(backend).await;
    log.grow_to(5, 4).await;
    let (app, root, name) = (&log.app, &log.root, &log.subjects[2].0);
    let current = &log.checkpoints[&5];
    let inclusion = app.inclusion(root, name, "", 0).await.unwrap();
    assert_eq!((inclusion.tree_size, &inclusion.checkpoint), (5, current));
    let inclusion = app.inclusion(root, name, "", 4).await.unwrap();
    assert_eq!((inclusion.tree_size, inclusion.checkpoint.as_str()), (4, ""));
    assert_eq!(&app.consistency(root, T, 2, 0).await.unwrap().checkpoint, current);
    assert_eq!(app.consistency(root, T, 2, 4).await.unwrap().checkpoint, "");
    // The same head is signed once, and gives the same bytes.
    assert_eq!(&app.checkpoint(root, T).await.unwrap().checkpoint, current);
}

#[rstest]
#[tokio::test]
async fn sizes_that_the_log_does_not_have_are_named(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let mut log = Growing::start(backend).await;
    log.grow_to(5, 4).await;
    let (app, root) = (&log.app, &log.root);
    let (name, note) = &log.subjects[4];
    assert_eq!(note.len(), 36);
    for size in [-1, 3, 4, 6, i64::MAX, i64::MIN] {
        assert_fields(app.inclusion(root, name, note, size).await, &["tree_size"]);
    }
    app.inclusion(root, name, note, 5).await.unwrap();
    for (old, new, fields) in [
        (-1, 0, &["old_size"][..]),
        (-1, -1, &["old_size", "new_size"]),
        (1, -5, &["new_size"]),
        (1, 6, &["new_size"]),
        (9, 6, &["new_size"]),
        (6, 0, &["old_size"]),
        (4, 3, &["old_size"]),
        (i64::MAX, i64::MAX, &["new_size"]),
    ] {
        assert_fields(app.consistency(root, T, old, new).await, fields);
    }
    for (start, page_size, fields) in
        [(-1, -1, &["start", "page_size"][..]), (6, 0, &["start"]), (0, i32::MIN, &["page_size"])]
    {
        assert_fields(app.leaves(root, T, start, page_size).await, fields);
    }
    assert_fields(app.inclusion(root, &format!("{T}/events/x"), "y", -1).await, &["name", "note_id", "tree_size"]);
    let error = app.inclusion(root, name, note, 4).await.unwrap_err();
    assert!(error.message().contains("must be above the leaf's index, which is 4; it is 4"), "{error:?}");
}

#[rstest]
#[tokio::test]
async fn a_project_has_no_log_but_its_events_have_proofs(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    let root = Caller::root();
    for parent in [P, "", "tenants/", "acme"] {
        assert_fields(app.checkpoint(&root, parent).await, &["parent"]);
        assert_fields(app.consistency(&root, parent, 0, 0).await, &["parent"]);
        assert_fields(app.leaves(&root, parent, 0, 0).await, &["parent"]);
    }
    let of_project = app.record(&root, P, event("clusterprofile", "1")).await.unwrap().name;
    let of_tenant = app.record(&root, T, event("clusterprofile", "2")).await.unwrap().name;
    let note = app.note(&root, &of_project, "why", "").await.unwrap().note.unwrap().note_id;
    let id = of_project.rsplit('/').next().unwrap();
    let by_tenant = app.inclusion(&root, &format!("{T}/events/{id}"), "", 0).await.unwrap();
    assert_eq!(app.inclusion(&root, &of_project, "", 0).await.unwrap(), by_tenant);
    app.inclusion(&root, &format!("{T}/events/{id}"), &note, 0).await.unwrap();

    let (missing, tenants_own) = (id_at(START_MILLIS, 7), of_tenant.rsplit('/').next().unwrap());
    for (name, note) in [
        (format!("{T}/events/{missing}"), ""),
        (format!("{P}/events/{tenants_own}"), ""),
        (format!("tenants/acme/projects/other/events/{id}"), ""),
        (format!("tenants/other/events/{id}"), ""),
        (of_project.clone(), missing.as_str()),
        (of_tenant.clone(), note.as_str()),
    ] {
        assert_error(app.inclusion(&root, &name, note, 0).await, Code::NotFound, "EVENT_NOT_FOUND");
    }
}

#[rstest]
#[tokio::test]
async fn leaves_come_in_pages_and_a_follower_can_wait_at_the_end(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let mut log = Growing::start(backend).await;
    log.grow_to(1500, 400).await;
    let (app, root) = (&log.app, &log.root);
    for (start, page_size, count) in
        [(0, 0, 1000), (0, 1001, 1000), (1000, 0, 500), (1499, 9, 1), (1500, 0, 0), (700, 5, 5)]
    {
        let page = app.leaves(root, T, start, page_size).await.unwrap();
        assert_eq!((page.leaves.len(), page.tree_size), (count, 1500), "{start} {page_size}");
        (start..).zip(&page.leaves).for_each(|(index, leaf)| log.assert_is_of(leaf, index));
    }
}

/// What was erased keeps its leaf.
#[rstest]
#[tokio::test]
async fn proofs_hold_after_an_erasure(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let mut log = Growing::start(backend).await;
    log.grow_to(20, 9).await;
    let before = log.app.all_leaves(&log.root, T).await;
    log.app.database.erase(log.subjects[3].0.rsplit('/').next().unwrap());
    assert!(log.app.get(&log.root, &log.subjects[3].0).await.unwrap().erasure.is_some());
    assert_eq!(log.app.all_leaves(&log.root, T).await, before);
    log.inclusion(3, 20).await;
}

/// A body that was changed in the database is not given a proof.
#[rstest]
#[tokio::test]
async fn a_log_that_was_tampered_with_proves_nothing_about_what_was_changed(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let mut log = Growing::start(backend).await;
    log.grow_to(20, 9).await;
    let id = log.subjects[3].0.rsplit('/').next().unwrap();
    log.app.database.change(id, "message = 'forged'");
    assert_error(log.app.inclusion(&log.root, &log.subjects[3].0, "", 0).await, Code::Internal, "INTERNAL");
    log.inclusion(4, 20).await;
}

/// Whoever may read the tenant; to read a project is not enough, not even for its own events.
#[rstest]
#[tokio::test]
async fn proofs_are_for_those_who_may_read_the_tenant(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start_with(backend, |config| config.audit.denied = false).await;
    let name = app.record(&Caller::root(), P, event("k", "1")).await.unwrap().name;
    let calls = async |caller: &Caller| {
        [
            app.checkpoint(caller, T).await.map(drop),
            app.inclusion(caller, &name, "", 0).await.map(drop),
            app.consistency(caller, T, 0, 0).await.map(drop),
            app.leaves(caller, T, 0, 0).await.map(drop),
        ]
    };
    let ann = || Caller::new("ann");
    for reader in [
        ann().role("tenant_admin@tenants/acme"),
        ann().role("tenant_viewer@tenants/acme"),
        ann().permission("audit.get@*").permission("audit.list@*"),
    ] {
        calls(&reader).await.into_iter().for_each(|answer| answer.unwrap());
    }
    let before = app.asked();
    for stranger in [
        ann(),
        ann().role("project_admin@tenants/acme/projects/web"),
        ann().role("tenant_admin@tenants/acme-2"),
        ann().role("tenant_admin@tenants/other").role("event_recorder@*"),
        ann().permission("audit.get@tenants/acme"),
    ] {
        for answer in calls(&stranger).await {
            let status = assert_error(answer, Code::PermissionDenied, "PERMISSION_MISSING");
            assert!(status.message().contains("may not read tenants/acme: send "), "{status:?}");
        }
    }
    for answer in calls(&Caller::nobody()).await {
        assert_error(answer, Code::Unauthenticated, "CREDENTIALS_MISSING");
    }
    app.assert_not_asked_since(&before);
}

/// Whatever two checkpoints somebody gets while others record, the later log begins with the earlier one.
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_checkpoints_taken_while_others_record_are_of_one_history(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    const BATCHES: usize = 40;
    const SIZES: [usize; 3] = [1, 7, 13];
    let log = Growing::start(backend).await;
    let (app, root) = (&log.app, &log.root);
    let record = async |batch: usize| {
        for _ in 0..BATCHES {
            app.batch(root, T, vec![item("", event("clusterprofile", "c"), ""); batch]).await.unwrap();
        }
    };
    let watch = async || {
        let (mut seen, all) = (BTreeMap::new(), (BATCHES * SIZES.iter().sum::<usize>()) as u64);
        while !seen.contains_key(&all) {
            let head = app.checkpoint(root, T).await.unwrap();
            let signed = verified(&head.checkpoint, &app.database.verifier_key("acme"));
            assert_eq!((head.tree_size, head.root_hash.as_slice()), (Some(signed.size as i64), signed.root.as_slice()));
            seen.insert(signed.size, signed.root);
        }
        seen
    };
    let recorded = futures_util::future::join_all(SIZES.map(record));
    let (_, first, second) = tokio::join!(recorded, watch(), watch());
    for (size, root) in &second {
        assert!(first.get(size).is_none_or(|other| other == root), "two roots of size {size}");
    }
    let seen: BTreeMap<_, _> = first.into_iter().chain(second).collect();
    assert!(seen.len() > 2, "{seen:?}");
    // Of many, some: each is held against each.
    let step = seen.len().div_ceil(40);
    let seen: Vec<_> = seen.into_iter().step_by(step).collect();
    for (place, (old, old_root)) in seen.iter().enumerate() {
        for (new, new_root) in &seen[place..] {
            let proof = app.consistency(root, T, *old as i64, *new as i64).await.unwrap();
            // New size 0 would be the current one.
            if *new > 0 {
                verify_consistency(*old, old_root, *new, new_root, &hashes(&proof.hashes)).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn the_service_is_known_to_reflection_health_and_metrics() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let app = TestApp::start_with(Backend::Sqlite, watched).await;
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(app.channel.clone());
    let mut replies = reflection.server_reflection_info(futures_util::stream::iter([list])).await.unwrap().into_inner();
    let reply = replies.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(services) = reply else { panic!("{reply:?}") };
    assert!(services.service.iter().any(|service| service.name == "auditlog.v1.ProofService"), "{services:?}");

    let service = "auditlog.v1.ProofService".to_owned();
    let health = HealthClient::new(app.channel.clone()).check(HealthCheckRequest { service }).await.unwrap();
    assert_eq!(health.into_inner().status, 1);

    app.checkpoint(&Caller::root(), T).await.unwrap();
    let counted = r#"auditlog_calls_total{method="auditlog.v1.ProofService/GetCheckpoint",code="OK"}"#;
    assert_eq!(app.metric(counted).await, 1.0);
}
