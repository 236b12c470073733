//! What a client command makes of a service that does not say what is so.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    process::Output,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
};

use auditlog::proto::auditlog::v1::{
    Actor, Erasure, Event, ExportCsvRequest, FieldChange, GetCheckpointResponse, Leaf, ListEventsRequest,
    ListEventsResponse, ListLeavesRequest, ListLeavesResponse, RequestContext, UpdateNote, leaf::Kind,
};
use http::{HeaderMap, HeaderValue};
use prost::Message as _;
use rstest::rstest;

use crate::{
    harness::*,
    verify::{assert_finds, assert_holds},
    verify_client::{run, service},
};

const T: &str = "tenants/acme";

fn id(n: u64) -> String {
    id_at(START_MILLIS - 1_000_000, n)
}

/// Runs a client command against the service at `address`.
async fn call(app: &TestApp, address: SocketAddr, arguments: &[&str]) -> Output {
    let mut all: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    all.extend(service(app));
    let place = all.iter().position(|argument| argument == "--address").unwrap();
    all[place + 1] = format!("http://{address}");
    run(app.database.folder.path(), all).await
}

/// Verifies the log of a service that shows each of its events so changed.
async fn verify_showing(app: &TestApp, change: impl Fn(&mut Event) + Send + Sync + 'static) -> Output {
    let change = move |method: &str, bytes: Vec<u8>| match method {
        "ListEvents" => rewrite(&bytes, |page: &mut ListEventsResponse| page.events.iter_mut().for_each(&change)),
        _ => bytes,
    };
    let address = rewriting(app, |_, bytes| bytes, change).await;
    call(app, address, &["verify", "--tenant", "acme"]).await
}

/// The name of a field, and what is done to it.
type Change<M> = (&'static str, fn(&mut M));

/// What is invented of an event whose body was erased, with the field's name.
const INVENTED: [Change<Event>; 9] = [
    ("resource.id", |event| event.resource.as_mut().unwrap().id = "cp-1".to_owned()),
    ("resource.name", |event| event.resource.as_mut().unwrap().name = "Production".to_owned()),
    ("actor", |event| event.actor = Some(Actor { r#type: 1, id: "bob".to_owned(), ..Actor::default() })),
    ("message", |event| event.message = "Bob did it".to_owned()),
    ("changes", |event| event.changes = vec![FieldChange::default()]),
    ("context", |event| event.context = Some(RequestContext::default())),
    ("attributes", |event| event.attributes = [("by".to_owned(), "bob".to_owned())].into()),
    ("recorder", |event| event.recorder = Some(Actor::default())),
    ("salt", |event| event.salt = vec![0; 16]),
];

/// No leaf vouches for it: whoever sees it beside what was verified would believe it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_shown_beside_an_erased_body_is_a_finding() {
    let app = TestApp::start(Backend::Sqlite).await;
    for n in 0..3 {
        app.record_as(&Caller::root(), T, event("clusterprofile", "cp-1"), &id(n)).await.unwrap();
    }
    app.database.erase(&id(1));
    assert_holds(&verify_showing(&app, |_| ()).await);
    for (field, invent) in INVENTED {
        let invent = move |event: &mut Event| {
            if event.erasure.is_some() {
                invent(event)
            }
        };
        assert_finds(field, &verify_showing(&app, invent).await, &[&id(1), field, "erased"]);
    }
    let committed = |event: &mut Event| event.body_commitment = vec![7; 32];
    assert_finds("a commitment", &verify_showing(&app, committed).await, &["body_commitment"]);
    let both = |event: &mut Event| event.erasure = Some(Erasure::default());
    assert_finds("an invented erasure", &verify_showing(&app, both).await, &[&id(0)]);
}

/// A service cannot hide what was found in what it has listed by answering no more.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_found_is_told_where_the_service_stops_answering() {
    let app = TestApp::start(Backend::Sqlite).await;
    app.record_as(&Caller::root(), T, event("clusterprofile", "cp-1"), &id(0)).await.unwrap();
    let checkpoints = AtomicI64::new(0);
    let asked = move |method: &str, bytes: Vec<u8>| match method {
        // The second one comes behind the leaves.
        "GetCheckpoint" if checkpoints.fetch_add(1, Ordering::Relaxed) > 0 => Vec::new(),
        _ => bytes,
    };
    let changed = |method: &str, bytes: Vec<u8>| match method {
        "ListEvents" => rewrite(&bytes, |page: &mut ListEventsResponse| page.events[0].message = "no".to_owned()),
        _ => bytes,
    };
    let address = rewriting(&app, asked, changed).await;
    let output = call(&app, address, &["verify", "--tenant", "acme"]).await;
    assert_finds("a message", &output, &[&id(0), "do not make its leaf"]);
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("broke off: the service at "), "{output:?}");
}

/// Nor that it shows another history than it did before, which fits in itself.
#[tokio::test(flavor = "multi_thread")]
async fn another_history_is_told_where_the_service_stops_answering() {
    let (before, app) = tokio::join!(TestApp::start(Backend::Sqlite), TestApp::start(Backend::Sqlite));
    for (app, resource) in [(&before, "cp-1"), (&app, "cp-2")] {
        app.record_as(&Caller::root(), T, event("clusterprofile", resource), &id(0)).await.unwrap();
    }
    let saved = before.checkpoint(&Caller::root(), T).await.unwrap().checkpoint;
    fs::write(app.database.folder.path().join("saved"), saved).unwrap();
    let checkpoints = AtomicI64::new(0);
    let asked = move |method: &str, bytes: Vec<u8>| match method {
        "GetCheckpoint" if checkpoints.fetch_add(1, Ordering::Relaxed) > 0 => Vec::new(),
        _ => bytes,
    };
    let address = rewriting(&app, asked, |_, bytes| bytes).await;
    let output = call(&app, address, &["verify", "--tenant", "acme", "--checkpoint", "saved"]).await;
    assert_finds("another history", &output, &["do not make the root of the saved checkpoint"]);
}

/// The same of a note, which says only by the absence of its author that it was erased.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_shown_of_an_erased_note_is_a_finding() {
    let app = TestApp::start(Backend::Sqlite).await;
    let name = app.record_as(&Caller::root(), T, event("clusterprofile", "cp-1"), &id(0)).await.unwrap().name;
    app.note(&Caller::root(), &name, "why", &id(1)).await.unwrap();
    let leaf = app.leaves(&Caller::root(), T, 1, 1).await.unwrap().leaves.remove(0);
    let Some(Kind::Note(sealed)) = Leaf::decode(&*leaf).unwrap().kind else { panic!("the second leaf is the note's") };
    let erase = move |note: &mut UpdateNote, text: &str, salt: &[u8]| {
        note.author = None;
        (note.text, note.salt, note.body_commitment) = (text.into(), salt.into(), sealed.body_commitment.clone());
    };
    let showing = async |text: &'static str, salt: &'static [u8]| {
        let erase = erase.clone();
        let change = move |event: &mut Event| event.update_notes.iter_mut().for_each(|note| erase(note, text, salt));
        verify_showing(&app, change).await
    };
    assert_holds(&showing("", b"").await);
    assert_finds("a text", &showing("Bob did it", b"").await, &[&id(1), "text", "erased"]);
    assert_finds("a salt", &showing("", &[7; 16]).await, &[&id(1), "salt", "erased"]);
    let committed = |event: &mut Event| event.update_notes[0].body_commitment = vec![7; 32];
    assert_finds("a commitment", &verify_showing(&app, committed).await, &[&id(1), "body_commitment"]);
}

/// Exports from a service that exports something else than it was asked for, and signs a manifest of that.
async fn export_something_else(app: &TestApp, change: fn(&mut ExportCsvRequest), more: &[&str]) -> Output {
    let asked = move |method: &str, bytes: Vec<u8>| match method {
        "ExportCsv" => rewrite(&bytes, change),
        _ => bytes,
    };
    let address = rewriting(app, asked, |_, bytes| bytes).await;
    call(app, address, &[&["export", "--parent", T, "--output", "a.csv"], more].concat()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_of_something_else_is_no_export() {
    let app = TestApp::start(Backend::Sqlite).await;
    for n in 0..3 {
        app.record_as(&Caller::root(), T, event("clusterprofile", "cp-1"), &id(n)).await.unwrap();
    }
    let changes: [Change<ExportCsvRequest>; 6] = [
        ("parent", |request| request.parent = "tenants/acme/projects/web".to_owned()),
        ("filter", |request| request.filter.as_mut().unwrap().resource_ids = vec!["cp-1".to_owned()]),
        ("filter", |request| request.filter.as_mut().unwrap().resource_ids = vec!["x".repeat(250); 10]),
        ("filter", |request| request.filter = None),
        ("order", |request| request.order = 3),
        ("proof_columns", |request| request.proof_columns = false),
    ];
    for (member, change) in changes {
        let output = export_something_else(&app, change, &["--action", "create"]).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{member}: {said}");
        assert!(said.contains("of another export") && said.contains(member), "{member}: {said}");
        let folder = app.database.folder.path();
        assert!(!folder.join("a.csv").exists() && !folder.join("a.csv.manifest").exists());
        for left in ["a.csv.part", "a.csv.part.request"] {
            fs::remove_file(folder.join(left)).unwrap();
        }
    }
}

/// The sums tell of the bytes, and the count tells how many rows the service takes them for.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_has_as_many_rows_as_its_service_says() {
    let app = TestApp::start(Backend::Sqlite).await;
    for n in 0..3 {
        app.record_as(&Caller::root(), T, event("clusterprofile", "cp-1"), &id(n)).await.unwrap();
    }
    let miscount = |trailers: &mut HeaderMap| {
        if let Some(count) = trailers.get_mut("x-audit-row-count") {
            *count = HeaderValue::from_static("4");
        }
    };
    let address = ending(&app, miscount).await;
    let output = call(&app, address, &["export", "--parent", T, "--output", "a.csv"]).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("x-audit-row-count is 4, and 3 rows came"), "{said}");
    assert!(!app.database.folder.path().join("a.csv").exists());
}

/// What the service understands of each part of a question is what was meant.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_of_what_was_asked_for_is_one() {
    let app = TestApp::start(Backend::Sqlite).await;
    app.record_as(&Caller::root(), T, event("clusterprofile", "cp-1"), &id(0)).await.unwrap();
    let long = "x".repeat(250);
    let times = ["--start-time", "1969-12-31T23:59:59.9999Z", "--end-time", "2026-01-01T00:00:00.000000001Z"];
    let others = ["--action", "update", "--action", "create", "--resource-type", "\"\u{1f980}", "--actor-id", "ann"];
    let more = ["--resource-id", "cp-1", "--actor-type", "system", "--project", "web", "--start-leaf-index", "7"];
    let questions =
        [vec!["--tenant-only"], [&times[..], &more].concat(), others.to_vec(), ["--resource-id", &*long].repeat(10)];
    for question in questions {
        let output = export_something_else(&app, |_| (), &question).await;
        assert_eq!(output.status.code(), Some(0), "{question:?}: {}", String::from_utf8_lossy(&output.stderr));
        for file in ["a.csv", "a.csv.manifest"] {
            fs::remove_file(app.database.folder.path().join(file)).unwrap();
        }
    }
}

/// Exports while somebody else writes `file`.
async fn export_beside(app: &TestApp, file: &str) -> Output {
    let path = app.database.folder.path().join(file);
    let answered = move |method: &str, bytes: Vec<u8>| {
        if method == "ExportCsv" {
            fs::write(&path, "somebody's").unwrap();
        }
        bytes
    };
    let address = rewriting(app, |_, bytes| bytes, answered).await;
    call(app, address, &["export", "--parent", T, "--output", "a.csv"]).await
}

#[track_caller]
fn assert_is_there(app: &TestApp, output: &Output, file: &str) {
    let (said, path) = (String::from_utf8_lossy(&output.stderr), app.database.folder.path().join(file));
    assert!(output.status.code() == Some(2) && said.contains(&format!("{file} is there already")), "{said}");
    assert_eq!(fs::read_to_string(path).unwrap(), "somebody's");
}

/// What is there is not this program's to replace, whenever it has come.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_replaces_no_file() {
    let app = TestApp::start(Backend::Sqlite).await;
    app.record_as(&Caller::root(), T, event("clusterprofile", "cp-1"), &id(0)).await.unwrap();
    let path = |file: &str| app.database.folder.path().join(file);
    let export = async |more: &[&str]| {
        call(&app, app.address, &[&["export", "--parent", T, "--output", "a.csv"], more].concat()).await
    };
    fs::write(path("a.csv.manifest"), "somebody's").unwrap();
    assert_is_there(&app, &export(&[]).await, "a.csv.manifest");
    assert!(!path("a.csv.part").exists());
    fs::remove_file(path("a.csv.manifest")).unwrap();
    for file in ["a.csv", "a.csv.manifest"] {
        assert_is_there(&app, &export_beside(&app, file).await, file);
        assert_ne!(path("a.csv").exists(), path("a.csv.manifest").exists(), "nothing stands beside {file}");
        let request = fs::read(path("a.csv.part.request")).unwrap();
        fs::remove_file(path(file)).unwrap();
        assert_eq!(export(&["--resume"]).await.status.code(), Some(0));
        // As if the command had ended before the file had its name.
        fs::rename(path("a.csv"), path("a.csv.part")).unwrap();
        fs::write(path("a.csv.part.request"), request).unwrap();
        assert_eq!(export(&["--resume"]).await.status.code(), Some(0));
        assert!(!path("a.csv.part").exists() && !path("a.csv.part.request").exists());
        let [mode, of_manifest] =
            ["a.csv", "a.csv.manifest"].map(|file| path(file).metadata().unwrap().permissions().mode());
        assert_eq!(format!("{mode:o}"), format!("{of_manifest:o}"));
        for file in ["a.csv", "a.csv.manifest"] {
            fs::remove_file(path(file)).unwrap();
        }
    }
}

/// More leaves than any log has.
const ENDLESS: i64 = 1 << 62;

/// What a service answers to `auditlog verify` that wants it to go on for ever.
#[derive(Clone, Copy, Debug)]
enum Lure {
    /// A head of a size that nothing is listed of.
    Size,
    /// Pages without events, each with a token.
    EmptyPages,
    /// Events behind the head, one a page, at growing positions.
    Growth,
}

impl Lure {
    fn answered(self, method: &str, bytes: &[u8], count: i64) -> Vec<u8> {
        match (self, method) {
            (Self::Size, "GetCheckpoint") => rewrite(bytes, |head| claim(head, ENDLESS)),
            // The first one is the head to verify, all others tell what has come since.
            (Self::Growth, "GetCheckpoint") if count > 0 => rewrite(bytes, |head| claim(head, ENDLESS)),
            (Self::Size, "ListLeaves") => rewrite(bytes, |page: &mut ListLeavesResponse| page.leaves.clear()),
            (Self::EmptyPages, "ListEvents") => rewrite(bytes, |page: &mut ListEventsResponse| {
                page.events.clear();
                page.next_page_token = "more".to_owned();
            }),
            (Self::Growth, "ListEvents") => rewrite(bytes, |page: &mut ListEventsResponse| {
                page.events.truncate(1);
                page.events[0].leaf_index = Some(count);
                page.next_page_token = "more".to_owned();
            }),
            _ => bytes.to_vec(),
        }
    }
}

fn claim(head: &mut GetCheckpointResponse, size: i64) {
    head.checkpoint = head.checkpoint.replacen("\n3\n", &format!("\n{size}\n"), 1);
    head.tree_size = Some(size);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_log_without_an_end_ends(#[values(Lure::Size, Lure::EmptyPages, Lure::Growth)] lure: Lure) {
    let app = TestApp::start(Backend::Sqlite).await;
    for n in 0..3 {
        app.record_as(&Caller::root(), T, event("clusterprofile", "cp-1"), &id(n)).await.unwrap();
    }
    let asked = |method: &str, bytes: Vec<u8>| match method {
        "ListEvents" => rewrite(&bytes, |request: &mut ListEventsRequest| request.page_token.clear()),
        _ => bytes,
    };
    let counts = [AtomicI64::new(0), AtomicI64::new(0), AtomicI64::new(0)];
    let answered = move |method: &str, bytes: Vec<u8>| {
        let place = ["GetCheckpoint", "ListEvents"].iter().position(|one| *one == method).unwrap_or(2);
        lure.answered(method, &bytes, counts[place].fetch_add(1, Ordering::Relaxed))
    };
    let address = rewriting(&app, asked, answered).await;
    let output = call(&app, address, &["verify", "--tenant", "acme"]).await;
    match lure {
        Lure::Size => assert_finds("a size", &output, &["positions 3 to 4611686018427387903"]),
        Lure::EmptyPages => assert_finds("empty pages", &output, &["the service", "pages", "nothing new"]),
        Lure::Growth => {
            // What it lists on the way does not fit its leaves.
            assert_finds("events at other places", &output, &[&id(0), "is listed at position 1"]);
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(said.starts_with("broke off: ") && said.contains("without an end"), "{said}");
        }
    }
}

/// What is made of each leaf takes more memory than the leaf has bytes, and a reply has room for two million without any.
#[tokio::test(flavor = "multi_thread")]
async fn no_more_leaves_are_taken_than_were_asked_for() {
    const LEAVES: i64 = 5000;
    let app = TestApp::start(Backend::Sqlite).await;
    for n in 0..3 {
        app.record_as(&Caller::root(), T, event("clusterprofile", "cp-1"), &id(n)).await.unwrap();
    }
    let starts = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&starts);
    let asked = move |method: &str, bytes: Vec<u8>| match method {
        "ListLeaves" => rewrite(&bytes, |request: &mut ListLeavesRequest| {
            kept.lock().unwrap().push(std::mem::take(&mut request.start));
        }),
        _ => bytes,
    };
    let answered = |method: &str, bytes: Vec<u8>| match method {
        "GetCheckpoint" => rewrite(&bytes, |head| claim(head, LEAVES)),
        "ListLeaves" => rewrite(&bytes, |page: &mut ListLeavesResponse| page.leaves = vec![Vec::new(); 5000]),
        _ => bytes,
    };
    let address = rewriting(&app, asked, answered).await;
    assert_finds(
        "empty leaves",
        &call(&app, address, &["verify", "--tenant", "acme"]).await,
        &["position 19", "not listed"],
    );
    assert_eq!(starts.lock().unwrap()[..], [0, 1000, 2000, 3000, 4000]);
}
