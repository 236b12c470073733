//! What the service says of an export at its end, signed: checked with the crate that implements signed notes, and held
//! against the file.

use auditlog::{
    merkle::verify_inclusion,
    proto::auditlog::v1::{EventFilter, ExportCsvRequest, Order},
};
use rstest::rstest;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use signed_note::{Note, StandardVerifier, VerifierList};

use crate::harness::*;

const T: &str = "tenants/acme";
const P: &str = "tenants/acme/projects/web";
const NAME: &str = "auditlog.local/tenants/acme/exports";

/// The third line of a manifest whose signature is good.
fn manifest(app: &TestApp, exported: &Exported) -> Value {
    let note = exported.trailing.get_bin("x-audit-manifest-bin").expect("a manifest").to_bytes().unwrap();
    statement(&app.database.key().verifier_key(NAME), &note)
}

fn statement(verifier_key: &str, note: &[u8]) -> Value {
    let note = Note::from_bytes(note).unwrap();
    let verifier = StandardVerifier::new(verifier_key).unwrap();
    let (verified, _) = note.verify(&VerifierList::new(vec![Box::new(verifier)])).unwrap();
    assert_eq!(verified.len(), 1);
    let text = String::from_utf8(note.text().to_vec()).unwrap();
    let lines: Vec<&str> = text.split_terminator('\n').collect();
    let [name, version, statement] = lines[..] else { panic!("{text}") };
    assert_eq!((name, version), (NAME, "auditlog export manifest v1"));
    serde_json::from_str(statement).unwrap()
}

async fn filled(backend: Backend) -> (TestApp, Vec<String>) {
    let app = TestApp::start(backend).await;
    let root = Caller::root();
    let mut ids = Vec::new();
    for n in 0..5_u64 {
        let parent = if n.is_multiple_of(2) { T } else { P };
        let requests = (0..100).map(|m| {
            let id = id_at(START_MILLIS + (m * 7 % 50), n * 1000 + m as u64);
            item("", event("clusterprofile", "c"), &id)
        });
        let receipts = app.batch(&root, parent, requests.collect()).await.unwrap();
        app.note(&root, &receipts[7].name, "why", "").await.unwrap();
        ids.extend(receipts.into_iter().map(|receipt| receipt.name.rsplit('/').next().unwrap().to_owned()));
    }
    (app, ids)
}

#[rstest]
#[tokio::test]
async fn an_export_ends_with_a_manifest_of_the_file_and_the_log(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
    #[values(T, P)] parent: &str,
) {
    let (app, _) = filled(backend).await;
    let root = Caller::root();
    let head = app.checkpoint(&root, T).await.unwrap();
    let request = ExportCsvRequest { proof_columns: true, order: Order::Log.into(), ..export_of(parent) };
    let exported = app.export(&root, request).await.unwrap();
    let rows = exported.rows().len();
    let expected = json!({
        "parent": parent,
        "filter": {},
        "order": "log",
        "log_size": 505,
        "proof_columns": true,
        "row_count": rows,
        "sha256": hex::encode(Sha256::digest(exported.bytes())),
        // What was the head when the export began, and is not any more: the export has an event of its own.
        "checkpoint": head.checkpoint,
    });
    assert_eq!(manifest(&app, &exported), expected);
    assert_eq!(exported.trailing("x-audit-row-count"), rows.to_string());
    assert_eq!(app.checkpoint(&root, T).await.unwrap().tree_size, Some(506));
    // The checkpoint is one that proofs hold against.
    let signed = verified(&head.checkpoint, &app.database.verifier_key("acme"));
    let row = &exported.rows()[3];
    let proof = app.inclusion(&root, &format!("{T}/events/{}", row["event_id"]), "", 505).await.unwrap();
    let leaf_hash = Sha256::new().chain_update([0]).chain_update(&proof.leaf).finalize().into();
    let index = row["leaf_index"].parse().unwrap();
    verify_inclusion(&leaf_hash, index, 505, &signed.root, &hashes(&proof.hashes)).unwrap();
}

#[rstest]
#[tokio::test]
async fn the_filter_is_told_as_the_exports_own_event_tells_it(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
    #[values(1, 50)] values: usize,
) {
    let (app, _) = filled(backend).await;
    let root = Caller::root();
    let filter = EventFilter {
        resource_types: vec!["clusterprofile".into()],
        resource_ids: (0..values).map(|n| format!("{}\"é\n{n}", "c".repeat(200))).collect(),
        start_time: Some(timestamp(START_MILLIS)),
        tenant_only: true,
        ..Default::default()
    };
    let exported = app.export(&root, ExportCsvRequest { filter: Some(filter), ..export_of(T) }).await.unwrap();
    let told = manifest(&app, &exported);
    let own = EventFilter { resource_types: vec!["audit_export".into()], ..Default::default() };
    let own = app.list(&root, filtered(T, own)).await.unwrap().events.remove(0);
    let of_event = &own.attributes["filter"];
    match values {
        1 => assert_eq!(told["filter"], serde_json::from_str::<Value>(of_event).unwrap()),
        _ => assert_eq!(told["filter_sha256"], hex::encode(Sha256::digest(of_event))),
    }
    assert_eq!(told.get("filter").is_some(), values == 1);
    assert_eq!(told.get("filter_sha256").is_some(), values != 1);
    assert_eq!((&told["order"], &told["row_count"]), (&json!("newest_first"), &json!(0)));
}

/// Wherever it broke off, and in any order, the manifest is that of the export in one go.
#[rstest]
#[tokio::test]
async fn an_export_that_was_resumed_ends_with_the_manifest_of_the_whole_file(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
    #[values(Order::NewestFirst, Order::OldestFirst, Order::Log)] order: Order,
) {
    let (app, _) = filled(backend).await;
    let root = Caller::root();
    let request = ExportCsvRequest { proof_columns: true, order: order.into(), ..export_of(T) };
    let whole = app.export(&root, request.clone()).await.unwrap();
    let (bytes, ids, expected) = (whole.bytes(), whole.ids(), manifest(&app, &whole));
    assert_eq!(ids.len(), 500);
    for last in [0, 63, 64, 250, 498, 499] {
        let resume =
            ExportCsvRequest { log_size: whole.log_size(), after_event_id: ids[last].clone(), ..request.clone() };
        let rest = app.export(&root, resume).await.unwrap();
        assert!(bytes.ends_with(&rest.bytes()), "{last}");
        assert_eq!(rest.trailing("x-audit-row-count"), (499 - last).to_string());
        assert_eq!(rest.trailing("x-audit-sha256"), hex::encode(Sha256::digest(rest.bytes())));
        assert_eq!(manifest(&app, &rest), expected, "{last}");
    }
}

/// The empty log has a checkpoint, too.
#[rstest]
#[tokio::test]
async fn an_export_of_nothing_has_a_manifest(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let head = app.checkpoint(&Caller::root(), T).await.unwrap();
    let exported = app.export(&Caller::root(), export_of(T)).await.unwrap();
    let told = manifest(&app, &exported);
    assert_eq!((&told["row_count"], &told["log_size"]), (&json!(0), &json!(0)));
    assert_eq!(told["checkpoint"], head.checkpoint);
}

/// Peers take trailers of 8 KiB by default, in which the manifest is base64.
#[rstest]
#[tokio::test]
async fn the_largest_manifest_fits_into_the_trailers(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let origin = "o".repeat(256);
    let app = TestApp::start_with(backend, |config| config.checkpoint.origin.clone_from(&origin)).await;
    let parent = format!("tenants/{}/projects/{}", "t".repeat(128), "p".repeat(128));
    let values = |count: usize| (0..count).map(|n| format!("{}{n:02}", "c".repeat(190))).collect::<Vec<_>>();
    let filter = EventFilter { resource_ids: values(10), ..Default::default() };
    let request = ExportCsvRequest { filter: Some(filter), order: Order::OldestFirst.into(), ..export_of(&parent) };
    let exported = app.export(&Caller::root(), request).await.unwrap();
    let note = exported.trailing.get_bin("x-audit-manifest-bin").unwrap();
    let told = String::from_utf8(note.to_bytes().unwrap().to_vec()).unwrap();
    assert!(told.contains(r#""filter":{"resource_ids":"#), "{told}");
    let sent: usize =
        exported.trailing.clone().into_headers().iter().map(|(key, value)| key.as_str().len() + value.len() + 32).sum();
    assert!(sent < 7 * 1024, "{sent}");
}
