//! What this code makes, held against a verifier in another language which shares nothing with it.

use std::{fs, process::Command};

use rstest::rstest;
use serde_json::{Value, json};

use super::stored::Stored;
use crate::merkle::{
    Checkpoint, CheckpointKey, EMPTY_ROOT, Hash, checkpoint_name, prove_consistency, prove_inclusion, root_at,
};

/// The page for those who write a verifier.
const PAGE: &str = include_str!("../../../docs/leaf-format.md");
const GOLDEN: &str = include_str!("../../../tests/golden/leaf_v1.json");
const VERIFIER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/verify_log.py");

/// Leaves that are no leaves of events, which makes no difference to a tree.
fn leaf(index: usize) -> Vec<u8> {
    format!("leaf {index}").into_bytes()
}

fn leaf_hash(leaf: &[u8]) -> Hash {
    super::naive::leaf(leaf)
}

fn hex(hashes: &[Hash]) -> Vec<String> {
    hashes.iter().map(hex::encode).collect()
}

/// A log of that size with checkpoints, inclusion proofs and consistency proofs at its size and at earlier ones.
fn log(size: usize) -> Value {
    let key = CheckpointKey::from_seed(&[9; 32]);
    let origin = checkpoint_name("auditlog.local", "acme");
    let leaves: Vec<Vec<u8>> = (0..size).map(leaf).collect();
    let mut stored = Stored::of(&leaves.iter().map(|leaf| leaf_hash(leaf)).collect::<Vec<_>>(), 100, true);
    let head = size as u64;

    let some = |n: u64| [0, 1, n / 3, n / 2, n.saturating_sub(1), n].into_iter().filter(move |&place| place <= n);
    let checkpoint = |stored: &mut Stored, size| {
        let root = root_at(stored, head, size).unwrap();
        Checkpoint { origin: origin.clone(), size, root }.sign(&key).unwrap()
    };
    let (mut inclusion, mut consistency) = (Vec::new(), Vec::new());
    for tree_size in some(head) {
        for leaf_index in some(tree_size).filter(|&index| index < tree_size) {
            let hashes = prove_inclusion(&mut stored, head, leaf_index, tree_size).unwrap();
            inclusion.push(json!({"leaf_index": leaf_index, "tree_size": tree_size, "hashes": hex(&hashes)}));
        }
        for old_size in some(tree_size) {
            let hashes = prove_consistency(&mut stored, head, old_size, tree_size).unwrap();
            consistency.push(json!({"old_size": old_size, "new_size": tree_size, "hashes": hex(&hashes)}));
        }
    }
    json!({
        "verifier_key": key.verifier_key(&origin),
        "leaves": leaves.iter().map(hex::encode).collect::<Vec<_>>(),
        "checkpoints": some(head).map(|size| checkpoint(&mut stored, size)).collect::<Vec<_>>(),
        "inclusion_proofs": inclusion,
        "consistency_proofs": consistency,
    })
}

/// Whether the verifier is content, and what it says.
fn verify(log: &Value) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.json");
    fs::write(&path, log.to_string()).unwrap();
    let output = Command::new("python3").arg(VERIFIER).arg(&path).output();
    let output = output.expect("python3 must be there: the proofs are held against a verifier written in it");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), format!("{stdout}{stderr}"))
}

#[rstest]
fn an_independent_verifier_accepts_logs_of_every_size(
    #[values(0, 1, 2, 255, 256, 257, 1000, 65_535, 65_537, 100_000)] size: usize,
) {
    let (accepted, text) = verify(&log(size));
    assert!(accepted && text.starts_with(&format!("OK: {size} leaves, ")), "{text}");
}

#[test]
fn it_accepts_proofs_without_the_log_by_its_checkpoints() {
    let mut log = log(257);
    let leaves = log.as_object_mut().unwrap().remove("leaves").unwrap();
    let checked = log["consistency_proofs"].as_array_mut().unwrap();
    checked.retain(|proof| proof["new_size"] == 257);
    assert_eq!(checked.len(), 6);
    for proof in log["inclusion_proofs"].as_array_mut().unwrap() {
        proof["leaf"] = leaves[proof["leaf_index"].as_u64().unwrap() as usize].clone();
    }
    let (accepted, text) = verify(&log);
    assert!(accepted && text.starts_with("OK: 0 leaves, "), "{text}");
}

/// The verifier is no rubber stamp: whatever is changed, it says what is wrong.
#[rstest]
#[case("/leaves/7", flip, "another root than its leaves")]
#[case("/checkpoints/5", |note: &str| note.replacen("300", "299", 1), "the signature of a checkpoint by ")]
#[case("/checkpoints/5", |note: &str| note.replace("acme ", "evil "), "a checkpoint is not signed by ")]
#[case("/verifier_key", |key: &str| key.replace("acme", "other"), "the verifier key's hash does not belong")]
#[case("/inclusion_proofs/9/hashes/0", flip, "the proof does not hold that leaf ")]
#[case("/consistency_proofs/24/hashes/0", flip, "the proof does not hold that the log of size ")]
fn an_independent_verifier_finds_what_was_changed(
    #[case] pointer: &str,
    #[case] change: fn(&str) -> String,
    #[case] expected: &str,
) {
    let mut log = log(300);
    let place = log.pointer_mut(pointer).unwrap();
    let before = place.as_str().unwrap().to_owned();
    let after = change(&before);
    assert_ne!(before, after);
    *place = after.into();
    let (accepted, text) = verify(&log);
    assert!(!accepted && text.contains(expected), "{text}");
}

fn flip(hex: &str) -> String {
    let first = if hex.starts_with('0') { "1" } else { "0" };
    format!("{first}{}", &hex[1..])
}

#[test]
fn the_page_shows_true_bytes() {
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    let shown = |text: &str| assert!(PAGE.contains(text), "the page lacks {text}");
    let expected: Vec<&Value> = golden["cases"].as_array().unwrap().iter().map(|case| &case["expected"]).collect();
    for case in &expected[..2] {
        for part in ["body", "body_commitment", "leaf", "leaf_hash"] {
            shown(case[part].as_str().unwrap());
        }
    }
    let leaves: Vec<Vec<u8>> =
        expected[..3].iter().map(|case| hex::decode(case["leaf"].as_str().unwrap()).unwrap()).collect();
    let hashes: Vec<Hash> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
    hashes.iter().for_each(|hash| shown(&hex::encode(hash)));

    let mut stored = Stored::of(&hashes, 3, true);
    let [root_of_2, root_of_3] = [2, 3].map(|size| root_at(&mut stored, 3, size).unwrap());
    [EMPTY_ROOT, root_of_2, root_of_3].iter().for_each(|root| shown(&hex::encode(root)));
    assert_eq!(prove_inclusion(&mut stored, 3, 1, 3).unwrap(), [hashes[0], hashes[2]]);
    assert_eq!(prove_inclusion(&mut stored, 3, 2, 3).unwrap(), [root_of_2]);
    assert_eq!(prove_consistency(&mut stored, 3, 2, 3).unwrap(), [hashes[2]]);

    let key = CheckpointKey::from_seed(&std::array::from_fn(|i| i as u8));
    let origin = checkpoint_name("auditlog.local", "acme");
    shown(&key.verifier_key(&origin));
    shown(&Checkpoint { origin, size: 3, root: root_of_3 }.sign(&key).unwrap());
}
