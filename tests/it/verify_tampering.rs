//! What was changed in the database is named by `auditlog verify`, one change at a time.

use std::sync::Arc;

use auditlog::proto::auditlog::v1::{ActionType, EventLeaf, Leaf, leaf::Kind};
use prost::Message as _;
use rstest::rstest;
use sha2::{Digest as _, Sha256};

use crate::{
    harness::*,
    tamper::Tampering,
    verify::{MONTH, T, assert_finds, assert_holds, note_id, sealed_log, stdout, verify},
};

/// The event that is tampered with: every field set, in a project, in a finished tile. Its note is the first one.
fn victim() -> String {
    id_at(START_MILLIS - 3 * MONTH, 40)
}

async fn tampering(backend: Backend) -> (Arc<Database>, Tampering) {
    let app = TestApp::start(backend).await;
    sealed_log(&app).await;
    let database = Arc::clone(&app.database);
    app.stop().await.unwrap().unwrap();
    let tampering = Tampering::begin(&database);
    (database, tampering)
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn each_changed_column_of_an_event_is_named(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let (database, mut tampering) = tampering(backend).await;
    let id = victim();
    for (column, nullable) in tampering.columns("events") {
        let value = tampering.other_value(&column);
        for value in [Some(value), nullable.then(|| "NULL".to_owned())].into_iter().flatten() {
            if value == "NULL" && ["erase_time", "erase_reason"].contains(&column.as_str()) {
                continue; // They are NULL.
            }
            tampering.run(&format!("UPDATE events SET {column} = {value} WHERE event_id = '{id}'"));
            let output = verify(&database, "acme", &[]);
            let what = format!("{column} = {value}");
            match column.as_str() {
                "tenant_id" => {
                    assert_finds(&what, &output, &["position 40:"]);
                    assert_finds(&what, &output, &["note", &note_id(0), "its event is not there"]);
                    assert_finds(&what, &verify(&database, "tampered", &[]), &[&id, "leaf_index 40"]);
                }
                "event_id" => {
                    assert_finds(&what, &output, &["00000000dead", "event_id"]);
                    assert_finds(&what, &output, &["note", &note_id(0), "its event is not there"]);
                }
                "leaf_index" => {
                    assert_finds(&what, &output, &[&id, "leaf_index 100040"]);
                    assert_finds(&what, &output, &["position 40:"]);
                }
                "context" if value == "NULL" => assert_finds(&what, &output, &[&id, "context"]),
                _ => assert_finds(&what, &output, &[&id, &column]),
            }
            tampering.undo();
        }
    }
    assert_holds(&verify(&database, "acme", &[]));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn each_changed_column_of_a_note_is_named(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let (database, mut tampering) = tampering(backend).await;
    for (note, position) in [(note_id(0), 400), (note_id(4), 604)] {
        for (column, nullable) in tampering.columns("update_notes") {
            let value = tampering.other_value(&column);
            for value in [Some(value), nullable.then(|| "NULL".to_owned())].into_iter().flatten() {
                tampering.run(&format!("UPDATE update_notes SET {column} = {value} WHERE note_id = '{note}'"));
                let output = verify(&database, "acme", &[]);
                let what = format!("{column} = {value}");
                match column.as_str() {
                    "tenant_id" => {
                        assert_finds(&what, &output, &[&format!("position {position}:")]);
                        assert_finds(&what, &verify(&database, "tampered", &[]), &[&note]);
                    }
                    "note_id" => assert_finds(&what, &output, &["00000000dead", "note_id"]),
                    "leaf_index" => assert_finds(&what, &output, &[&note, "is not in the log"]),
                    _ => assert_finds(&what, &output, &[&note, &column]),
                }
                tampering.undo();
            }
        }
    }
}

/// The leaf hash that the victim would have with another action.
fn forged_leaf_hash(tampering: &mut Tampering, backend: Backend, id: &str) -> Vec<u8> {
    let hex = |column: &str| match backend {
        Backend::Sqlite => format!("SELECT lower(hex({column})) AS value FROM events WHERE event_id = '{id}'"),
        Backend::Postgres => format!("SELECT encode({column}, 'hex') AS value FROM events WHERE event_id = '{id}'"),
    };
    let commitment = hex::decode(tampering.value(&hex("body_commitment"))).unwrap();
    let micros = match backend {
        Backend::Sqlite => format!(
            "SELECT CAST(unixepoch(record_time) AS TEXT) || ' ' || substr(record_time || '000000', 21, 6) AS value \
             FROM events WHERE event_id = '{id}'"
        ),
        Backend::Postgres => format!(
            "SELECT floor(extract(epoch FROM record_time))::bigint || ' ' || to_char(record_time, 'US') AS value \
             FROM events WHERE event_id = '{id}'"
        ),
    };
    let micros = tampering.value(&micros);
    let (seconds, micros) = micros.split_once(' ').unwrap();
    let time =
        prost_types::Timestamp { seconds: seconds.parse().unwrap(), nanos: micros.parse::<i32>().unwrap() * 1000 };
    let leaf = |action: ActionType| Leaf {
        kind: Some(Kind::Event(EventLeaf {
            name: format!("{T}/projects/web/events/{id}"),
            action_type: action.into(),
            resource_type: "clusterprofile".to_owned(),
            record_time: Some(time),
            body_commitment: commitment.clone(),
        })),
    };
    let hash = |action| Sha256::new().chain_update([0]).chain_update(leaf(action).encode_to_vec()).finalize().to_vec();
    assert_eq!(
        tampering.value(&hex("leaf_hash")),
        hex::encode(hash(ActionType::Update)),
        "the forger knows the format"
    );
    hash(ActionType::Delete)
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_forged_with_its_leaf_hash_does_not_fit_the_tree(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let (database, mut tampering) = tampering(backend).await;
    // The first one is in a finished tile, the second in none.
    for (id, says) in [
        (victim(), [&*victim(), "leaf_hash is not what was sealed at position 40"]),
        (id_at(START_MILLIS - MONTH, 598), ["frontier does not fit the leaves 600 to 603", "leaf_hash"]),
    ] {
        let forged = forged_leaf_hash(&mut tampering, backend, &id);
        let hash = tampering.blob(&forged);
        tampering.run(&format!("UPDATE events SET action_type = 'delete', leaf_hash = {hash} WHERE event_id = '{id}'"));
        assert_finds("forged", &verify(&database, "acme", &[]), &says);
        tampering.undo();
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_gone_new_or_moved_are_named(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let (database, mut tampering) = tampering(backend).await;
    let id = victim();
    let other = id_at(START_MILLIS - 2 * MONTH, 41);
    let last = id_at(START_MILLIS, 599);
    let is = |id: &str| format!("WHERE event_id = '{id}'");

    tampering.run(&format!("DELETE FROM events {}", is(&id)));
    assert_finds("a deleted event", &verify(&database, "acme", &[]), &["position 40:", "no event and no note"]);
    assert_finds("a deleted event", &verify(&database, "acme", &[]), &[&note_id(0), "its event is not there"]);
    tampering.undo();

    tampering.run(&format!("DELETE FROM events {}", is(&last)));
    assert_finds("a deleted late event", &verify(&database, "acme", &[]), &["position 601:"]);
    tampering.undo();

    tampering.run(&format!("DELETE FROM update_notes WHERE note_id = '{}'", note_id(4)));
    assert_finds("the last leaf deleted", &verify(&database, "acme", &[]), &["position 604:"]);
    tampering.undo();

    tampering.run("DELETE FROM events");
    assert_finds("all events deleted", &verify(&database, "acme", &[]), &["positions 0 to 399"]);
    tampering.undo();

    tampering.run(&format!("UPDATE events SET leaf_index = -7 {}", is(&id)));
    tampering.run(&format!("UPDATE events SET leaf_index = 40 {}", is(&other)));
    tampering.run(&format!("UPDATE events SET leaf_index = 41 {}", is(&id)));
    let output = verify(&database, "acme", &[]);
    assert_finds("swapped", &output, &[&other, "leaf_hash is not what was sealed at position 40"]);
    assert_finds("swapped", &output, &[&id, "leaf_hash is not what was sealed at position 41"]);
    tampering.undo();

    tampering.run(&format!("UPDATE update_notes SET leaf_index = 40 WHERE note_id = '{}'", note_id(1)));
    let output = verify(&database, "acme", &[]);
    assert_finds("a place taken twice", &output, &[&note_id(1), "leaf_index 40 is taken by", &id]);
    tampering.undo();

    // An added row: a copy under another id, once at a place that is taken (which SQLite's own index refuses), once beyond.
    let columns: Vec<String> = tampering.columns("events").into_iter().map(|(name, _)| name).collect();
    let list = columns.join(", ");
    let copy = |place: &str| {
        let values = list.replace("event_id", "'01900000-0000-7000-8000-00000000dead'").replace("leaf_index", place);
        format!("INSERT INTO events ({list}) SELECT {values} FROM events {}", is(&id))
    };
    for place in ["leaf_index", "605", "-1"] {
        if place == "leaf_index" && backend == Backend::Sqlite {
            continue;
        }
        tampering.run(&copy(place));
        assert_finds("an added event", &verify(&database, "acme", &[]), &["00000000dead", "leaf_index"]);
        tampering.undo();
    }

    tampering.run(&format!("UPDATE events SET tenant_id = 'evil' {}", is(&id)));
    tampering.run(
        "INSERT INTO tree_heads (tenant_id, tree_size, frontier) SELECT 'evil', tree_size, frontier FROM tree_heads",
    );
    assert_finds("moved to another tenant", &verify(&database, "evil", &[]), &[&id, "tenant_id"]);
    tampering.undo();
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn heads_and_tiles_that_were_changed_are_named(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let (database, mut tampering) = tampering(backend).await;
    let zero = tampering.bytes(32, 0);

    tampering.run(&format!("UPDATE tree_heads SET tree_size = 512, frontier = {zero}"));
    let output = verify(&database, "acme", &[]);
    assert_finds(
        "rolled back",
        &output,
        &[&id_at(START_MILLIS - MONTH, 510), "leaf_index 512 is not in the log", "512"],
    );
    assert_finds("rolled back", &output, &["frontier does not fit the leaves 0 to 511"]);
    tampering.undo();

    tampering.run(&format!("UPDATE tree_heads SET tree_size = 128, frontier = {zero}"));
    assert_finds("rolled back further", &verify(&database, "acme", &[]), &["tile 0/1", "beyond the head"]);
    tampering.undo();

    tampering.run("DELETE FROM tree_heads");
    assert_finds("no head", &verify(&database, "acme", &[]), &["is not in the log, whose head says 0"]);
    tampering.undo();

    tampering.run("UPDATE tree_heads SET tree_size = 9000000000000000000");
    assert_finds("a huge head", &verify(&database, "acme", &[]), &["positions 605 to 8999999999999999999"]);
    tampering.undo();

    tampering.run("UPDATE tree_heads SET tree_size = 606");
    assert_finds("a head ahead", &verify(&database, "acme", &[]), &["position 605:"]);
    tampering.undo();

    let empty = tampering.blob(b"");
    tampering.run(&format!("UPDATE tree_heads SET frontier = {empty}"));
    assert_finds("no frontier", &verify(&database, "acme", &[]), &["frontier has 0 bytes"]);
    tampering.undo();

    let hashes = tampering.bytes(8192, 7);
    tampering.run(&format!("UPDATE tree_tiles SET hashes = {hashes} WHERE tile_index = 1"));
    assert_finds("a replaced tile", &verify(&database, "acme", &[]), &["tile 0/1", "hashes", "256 of 256"]);
    tampering.undo();

    tampering
        .run("UPDATE tree_tiles SET tile_index = tile_index + 10; UPDATE tree_tiles SET tile_index = 11 - tile_index");
    assert_finds("swapped tiles", &verify(&database, "acme", &[]), &["leaf_hash is not what was sealed at position 0"]);
    tampering.undo();

    tampering.run(&format!("UPDATE tree_tiles SET root = {zero} WHERE tile_index = 0"));
    assert_finds("a tile's root", &verify(&database, "acme", &[]), &["tile 0/0", "root is not that of its hashes"]);
    tampering.undo();

    tampering.run("DELETE FROM tree_tiles WHERE tile_index = 0");
    assert_finds("no tile", &verify(&database, "acme", &[]), &["tile 0/0", "is not in tree_tiles"]);
    tampering.undo();

    for (level, index) in [(0, 2), (0, -1), (1, 0), (9, 0)] {
        tampering.run(&format!("INSERT INTO tree_tiles VALUES ('acme', {level}, {index}, {zero}, {hashes})"));
        let name = format!("tile {level}/{index}");
        assert_finds("a tile too many", &verify(&database, "acme", &[]), &[&name, "is beyond the head"]);
        tampering.undo();
    }
    assert_holds(&verify(&database, "acme", &[]));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn keys_and_epochs_that_were_changed_are_named(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let (database, mut tampering) = tampering(backend).await;
    let key = crate::verify_client::verifier_key(&database);
    let verify = |more: &[&str]| verify(&database, "acme", more);
    let with_key = ["--verifier-key", &key];
    assert!(assert_holds(&verify(&with_key)).contains("shown: the database names the key of --verifier-key"));

    let other = tampering.bytes(32, 9);
    tampering.run(&format!("UPDATE signing_keys SET public_key = {other}"));
    assert_finds("another key", &verify(&with_key), &["signing_keys", "another key"]);
    tampering.undo();
    tampering.run("DELETE FROM signing_keys");
    assert_finds("no key", &verify(&with_key), &["signing_keys", "has no key"]);
    assert!(assert_holds(&verify(&[])).contains("not shown: whose key signs"));
    tampering.undo();

    tampering.run("UPDATE tree_heads SET epoch = 3");
    assert_finds("an epoch of nobody", &verify(&[]), &["the head", "no acknowledgement of epoch 2"]);
    tampering.undo();
    let root = tampering.bytes(32, 1);
    let epoch = |n: u32| {
        format!("INSERT INTO log_epochs VALUES ('acme', {n}, 1, {root}, '2026-01-01 00:00:00', 'olga', 'why')")
    };
    tampering.run(&epoch(2));
    assert_finds("the head's epoch set back", &verify(&[]), &["log_epochs has epoch 2", "the head is in epoch 1"]);
    tampering.run("UPDATE tree_heads SET epoch = 2");
    assert_holds(&verify(&[]));
    tampering.run(&epoch(4));
    assert_finds("an epoch too many", &verify(&[]), &["log_epochs has epoch 4"]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn many_findings_are_counted_and_the_first_are_named(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let (database, mut tampering) = tampering(backend).await;
    tampering.run("UPDATE events SET message = 'tampered' WHERE message IS NOT NULL");
    let output = verify(&database, "acme", &[]);
    assert_finds("all messages", &output, &["message"]);
    assert_eq!(stdout(&output).matches("\nfinding: ").count(), 20);
    assert!(stdout(&output).contains("\nmore findings: 579\n"), "{}", stdout(&output));
}

/// SQLite holds any value in any column.
#[tokio::test(flavor = "multi_thread")]
async fn values_that_are_not_of_their_columns_type_are_named() {
    let (database, mut tampering) = tampering(Backend::Sqlite).await;
    let id = victim();
    for (column, value) in [
        ("record_time", "'noon'"),
        ("record_time", "record_time || '999'"),
        ("event_id", "'no id'"),
        ("event_id", "upper(event_id)"),
        ("attributes", r#"'{"ticket":"evil","ticket":"OPS-40"}'"#),
        ("attributes", "' ' || attributes"),
        ("changes", "'{}'"),
        ("context", r#"'{"source_ip":"198.51.100.7","more":1}'"#),
        ("message", "x'ff00'"),
    ] {
        tampering.run(&format!("UPDATE events SET {column} = {value} WHERE event_id = '{id}'"));
        let output = verify(&database, "acme", &[]);
        assert_eq!(output.status.code(), Some(3), "{column} = {value}: {}", stdout(&output));
        let named = if column == "event_id" { "event_id" } else { &id };
        assert_finds(&format!("{column} = {value}"), &output, &[named]);
        tampering.undo();
    }
}

/// Who rolls a log back cannot hide it by a table that is gone.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_is_told_where_the_rows_cannot_be_read(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    sealed_log(&app).await;
    let saved = app.checkpoint(&Caller::root(), T).await.unwrap().checkpoint;
    let database = Arc::clone(&app.database);
    app.stop().await.unwrap().unwrap();
    let file = database.folder.path().join("saved");
    std::fs::write(&file, saved).unwrap();
    let with_saved = ["--checkpoint", file.to_str().unwrap()];
    let mut tampering = Tampering::begin(&database);
    tampering.run("DROP TABLE update_notes");
    assert_eq!(verify(&database, "acme", &with_saved).status.code(), Some(1));
    tampering.run("UPDATE tree_heads SET tree_size = 256");
    assert_eq!(verify(&database, "acme", &[]).status.code(), Some(1));
    let says = ["the log of tenants/acme", "fewer than the 605 of the saved checkpoint"];
    assert_finds("a rollback", &verify(&database, "acme", &with_saved), &says);
}

/// The rest may be as it is: what was found is told all the same.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_was_found_is_told_where_the_rest_cannot_be_read(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let (database, mut tampering) = tampering(backend).await;
    let id = victim();
    tampering.run("DROP TABLE signing_keys");
    let unread = verify(&database, "acme", &[]);
    assert_eq!((unread.status.code(), stdout(&unread)), (Some(1), ""));
    tampering.run(&format!("UPDATE events SET message = 'tampered' WHERE event_id = '{id}'"));
    let output = verify(&database, "acme", &[]);
    assert_finds("a message", &output, &[&id, "message"]);
    assert!(stdout(&output).starts_with("broke off: ") && stdout(&output).contains("signing_keys"), "{output:?}");
}
