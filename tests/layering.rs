//! The house's import rule: reads every `use crate::…` and `crate::…` path of `src` and holds it against the arrows of
//! `src/lib.rs`; and keeps each foreign crate in its room.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall panic")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Each room, and the rooms it may import.
const ARROWS: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    ("cli", &["app", "auth", "checkpoint_key", "client", "config", "telemetry", "verify", "merkle", "model", "proto"]),
    ("telemetry", &["config", "model"]),
    ("checkpoint_key", &["merkle"]),
    ("config", &["auth", "merkle", "model"]),
    (
        "app",
        &[
            "rpc",
            "telemetry",
            "self_audit",
            "admin",
            "metrics",
            "export",
            "ingest",
            "query",
            "proof",
            "checkpoint_key",
            "auth",
            "store",
            "config",
            "merkle",
            "model",
        ],
    ),
    (
        "rpc",
        &[
            "self_audit",
            "export",
            "ingest",
            "query",
            "proof",
            "auth",
            "store",
            "metrics",
            "telemetry",
            "model",
            "proto",
        ],
    ),
    ("self_audit", &["ingest", "auth", "store", "metrics", "model"]),
    ("export", &["ingest", "proof", "auth", "store", "model"]),
    ("ingest", &["auth", "store", "metrics", "model"]),
    ("query", &["auth", "store", "model"]),
    ("proof", &["auth", "store", "merkle", "model"]),
    ("verify", &["store", "merkle", "model"]),
    ("auth", &["model"]),
    ("store", &["merkle", "metrics", "model"]),
    ("admin", &["metrics"]),
    ("metrics", &["model"]),
    ("model", &["proto"]),
    ("merkle", &[]),
    ("client", &["auth", "model", "proto"]),
    ("fuzzing", &["rpc", "config", "auth", "merkle", "model"]),
    ("proto", &[]),
];

/// Foreign crates that only some rooms may name.
const FOREIGN: &[(&str, &[&str])] = &[
    ("diesel", &["store"]),
    ("diesel_migrations", &["store"]),
    ("tonic", &["rpc", "client", "cli", "app", "proto"]),
    ("tonic_types", &["rpc", "client"]),
    ("tonic_health", &["rpc", "app"]),
    ("prost", &["rpc", "client", "cli", "model", "proto"]),
    ("clap", &["cli", "config"]),
    ("hyper_rustls", &["auth"]),
    ("hyper_util", &["auth"]),
    ("jsonwebtoken", &["auth"]),
    ("rustls", &["auth", "rpc"]),
    ("tokio_rustls", &["rpc"]),
    ("csv", &["export", "verify"]),
    ("axum", &["admin"]),
    ("prometheus_client", &["metrics"]),
    ("tonic_web", &["rpc"]),
    ("opentelemetry", &["telemetry"]),
    ("opentelemetry_sdk", &["telemetry"]),
    ("opentelemetry_otlp", &["telemetry"]),
    ("tracing_appender", &["telemetry"]),
    ("tracing_opentelemetry", &["telemetry"]),
    ("rustix", &["checkpoint_key", "cli"]),
    ("tlog_tiles", &["merkle"]),
    ("signed_note", &["merkle"]),
    ("ed25519_dalek", &["merkle"]),
];

/// Inside `model` only these may see the generated messages.
const PROTO_IN_MODEL: &[&str] = &["encoder.rs", "wire.rs", "leaf.rs", "leaf_tests.rs"];

/// Every `.rs` file below `src`, with the room it stands in.
fn files() -> Vec<(String, PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![src.clone()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let first = path.strip_prefix(&src).unwrap().components().next().unwrap();
                let room = Path::new(&first).file_stem().unwrap().to_str().unwrap().to_owned();
                let text = without_comments(&fs::read_to_string(&path).unwrap());
                files.push((room, path, text));
            }
        }
    }
    files
}

fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The rooms that `text` names: in `crate::room…` and in `use crate::{room…, room…}`.
fn rooms_named(text: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for (start, _) in text.match_indices("crate::") {
        let rest = &text[start + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(list) => rooms.extend(top_level_names(list)),
            None => rooms.extend(name_at_start(rest)),
        }
    }
    rooms
}

fn name_at_start(text: &str) -> Option<String> {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

/// The first names of a use list's items, up to its closing brace.
fn top_level_names(list: &str) -> Vec<String> {
    let (mut depth, mut names, mut item_start) = (0, Vec::new(), true);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => item_start = true,
            c if c.is_alphabetic() && item_start => {
                names.extend(name_at_start(&list[at..]));
                item_start = false;
            }
            _ => {}
        }
    }
    names
}

#[test]
fn reads_use_lists() {
    let text = "use crate::{\n    auth::{Permit, model},\n    store::Store,\n};\nlet x = crate::model::Order::Log;";
    assert_eq!(rooms_named(text), ["auth", "model", "store"].map(String::from).into());
}

#[test]
fn imports_follow_the_arrows() {
    let arrows: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut broken = Vec::new();
    for (room, path, text) in files().into_iter().filter(|(room, ..)| room != "lib") {
        let allowed = arrows.get(room.as_str()).unwrap_or_else(|| panic!("src/{room} stands in no arrow"));
        let named =
            rooms_named(&text).into_iter().filter(|named| arrows.contains_key(named.as_str()) && *named != room);
        broken.extend(
            named
                .filter(|named| !allowed.contains(&named.as_str()))
                .map(|named| format!("{} -> {named}", path.display())),
        );
    }
    assert!(broken.is_empty(), "imports against the arrows:\n{}", broken.join("\n"));
}

#[test]
fn foreign_crates_stay_in_their_rooms() {
    let mut broken = Vec::new();
    for (room, path, text) in files().into_iter().filter(|(room, ..)| room != "lib") {
        for (foreign, rooms) in FOREIGN.iter().filter(|(_, rooms)| !rooms.contains(&room.as_str())) {
            let named = text
                .match_indices(&format!("{foreign}::"))
                .any(|(at, _)| !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'));
            if named {
                broken.push(format!("{} names {foreign}, which belongs in {rooms:?}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn only_the_leaf_format_sees_messages_in_the_model() {
    for (_, path, text) in files().into_iter().filter(|(room, ..)| room == "model") {
        let file = path.file_name().unwrap().to_str().unwrap();
        let sees = rooms_named(&text).contains("proto");
        assert!(!sees || PROTO_IN_MODEL.contains(&file), "{} uses generated messages", path.display());
    }
}

#[test]
fn only_the_walk_through_the_database_sees_the_store_in_verify() {
    for (_, path, text) in files().into_iter().filter(|(room, ..)| room == "verify") {
        let sees = rooms_named(&text).contains("store");
        let walks = path.components().any(|part| part.as_os_str() == "database")
            || ["verify/database.rs", "verify/standing.rs"].iter().any(|file| path.ends_with(file));
        assert!(!sees || walks, "{} uses the store", path.display());
    }
}

#[test]
fn no_room_is_called_by_what_it_is_not() {
    for (_, path, _) in files() {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        assert!(!["utils", "util", "helpers", "manager", "common"].contains(&stem), "{}", path.display());
    }
}
