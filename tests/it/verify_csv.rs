//! `auditlog verify --csv`: whatever is changed in an exported file is found, and named.

use std::fs;

use rstest::rstest;

use crate::{
    export_cli::{export, verify_csv},
    harness::*,
    verify::{assert_finds, assert_holds, stdout},
    verify_client::{run, service, verifier_key},
};

const T: &str = "tenants/acme";

fn id(n: u64) -> String {
    id_at(START_MILLIS - 1_000_000, n)
}

/// A log of a few leaves: an event with all fields and a note, one with none, and an erased one.
async fn small_log(app: &TestApp) {
    let caller = Caller::root();
    let mut full = event("clusterprofile", "cp-1");
    full.message = "=raised, \"quoted\"\nand broken".to_owned();
    full.context = Some(auditlog::proto::auditlog::v1::RequestContext {
        source_ip: "198.51.100.7".to_owned(),
        user_agent: "agent".to_owned(),
        request_id: "req".to_owned(),
        trace_id: "trace".to_owned(),
    });
    full.attributes = [("ticket".to_owned(), "OPS-1".to_owned())].into();
    let (resource, actor) = (full.resource.as_mut().unwrap(), full.actor.as_mut().unwrap());
    (resource.name, actor.name) = ("Production".to_owned(), "Ann".to_owned());
    for n in 0..6 {
        let parent = if n % 2 == 0 { "tenants/acme/projects/web" } else { T };
        app.record_as(&caller, parent, full.clone(), &id(n)).await.unwrap();
    }
    let note = id_at(START_MILLIS - 1_000_000, 100);
    app.note(&caller, &format!("{T}/events/{}", id(2)), "why", &note).await.unwrap();
    app.database.erase(&id(4));
}

fn split(csv: &[u8]) -> Vec<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(csv);
    reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect()
}

fn join(rows: &[Vec<String>]) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    rows.iter().for_each(|row| writer.write_record(row).unwrap());
    writer.into_inner().unwrap()
}

/// One byte of a cell changed, so that it stays a value of its kind where that can be.
fn changed(cell: &str, column: &str) -> String {
    let swap = |from: &str, to: &str| cell.replacen(from, to, 1);
    match column {
        "event_id" => format!("{}f", &cell[..cell.len() - 1]),
        "event_time" => swap("2025", "2024"),
        "record_time" => swap("2026", "2024"),
        "action_type" => swap("create", "creatf"),
        "actor_type" | "recorder_type" => swap("user", "usfr"),
        "changes" => swap("[", " "),
        "salt" => {
            if cell.starts_with('0') {
                swap("0", "1")
            } else {
                format!("0{}", &cell[1..])
            }
        }
        "leaf_index" => "1".to_owned(),
        "update_notes" => swap("why", "who"),
        "body_commitment" => "0".to_owned(),
        _ if cell.is_empty() => "x".to_owned(),
        _ => {
            let last = cell.char_indices().last().unwrap();
            match last.1 {
                '}' => swap("OPS", "OPT"),
                _ => format!("{}z", &cell[..last.0]),
            }
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn each_changed_cell_dropped_row_and_reordered_pair_is_named(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    small_log(&app).await;
    let path = app.database.folder.path().join("a.csv");
    assert_eq!(export(&app, "a.csv", &[]).await.status.code(), Some(0));
    let whole = fs::read(&path).unwrap();
    let rows = split(&whole);
    assert_eq!(join(&rows), whole);
    let mut proofs = vec!["--proofs".to_owned()];
    proofs.extend(service(&app));
    let proofs: Vec<&str> = proofs.iter().map(String::as_str).collect();
    assert!(assert_holds(&verify_csv(&app, "a.csv", &proofs).await).contains("each of the 7 rows and notes"));

    // Newest first: row 4 is the event with the note.
    let row = 4;
    assert_eq!(rows[row][0], id(2));
    for (place, column) in rows[0].clone().iter().enumerate() {
        let mut other = rows.clone();
        other[row][place] = changed(&rows[row][place], column);
        assert_ne!(other, rows, "{column}");
        fs::write(&path, join(&other)).unwrap();
        // Without the service, the sums and the root tell that something was changed.
        let output = verify_csv(&app, "a.csv", &[]).await;
        assert_finds(column, &output, &["the file", "SHA-256 differs"]);
        let name = format!("row {row} (event {})", other[row][0]);
        assert_finds(column, &verify_csv(&app, "a.csv", &proofs).await, &[&name]);
    }

    for (place, column) in rows[0].clone().iter().enumerate() {
        let mut other = rows.clone();
        other[0][place].push('x');
        fs::write(&path, join(&other)).unwrap();
        assert_finds(column, &verify_csv(&app, "a.csv", &[]).await, &["the header row", column]);
    }

    let mut other = rows.clone();
    other.remove(row);
    fs::write(&path, join(&other)).unwrap();
    let output = verify_csv(&app, "a.csv", &[]).await;
    assert_finds("a dropped row", &output, &["position 2:", "it was dropped"]);
    assert_finds("a dropped row", &output, &["position 6:", "it was dropped"]);
    assert_finds("a dropped row", &output, &["has 5 rows, and by its manifest 6"]);

    let mut other = rows.clone();
    other.swap(2, 3);
    fs::write(&path, join(&other)).unwrap();
    let name = format!("row 3 (event {})", other[3][0]);
    assert_finds("a reordered pair", &verify_csv(&app, "a.csv", &[]).await, &[&name, "against the order"]);

    let mut other = rows.clone();
    other.insert(row, rows[row].clone());
    fs::write(&path, join(&other)).unwrap();
    assert_finds("a row twice", &verify_csv(&app, "a.csv", &[]).await, &["row 5", "leaf_index 2 comes twice"]);

    // One byte changed anywhere, even outside of the cells.
    for place in (0..whole.len()).step_by(whole.len() / 40) {
        let mut bytes = whole.clone();
        bytes[place] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert_finds(&format!("byte {place}"), &verify_csv(&app, "a.csv", &[]).await, &[]);
    }
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert_finds("cut off", &verify_csv(&app, "a.csv", &[]).await, &["SHA-256 differs"]);
    fs::write(&path, &whole).unwrap();
    assert_holds(&verify_csv(&app, "a.csv", &[]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_was_changed_or_is_another_files_is_refused() {
    let app = TestApp::start(Backend::Sqlite).await;
    small_log(&app).await;
    let folder = app.database.folder.path();
    for (file, order) in [("a.csv", "log"), ("b.csv", "oldest-first")] {
        assert_eq!(export(&app, file, &["--order", order]).await.status.code(), Some(0));
    }
    let path = folder.join("a.csv.manifest");
    let manifest = fs::read_to_string(&path).unwrap();
    for (from, to) in
        [("\"row_count\":6", "\"row_count\":7"), ("tenants/acme", "tenants/acmf"), ("manifest v1", "manifest v2")]
    {
        fs::write(&path, manifest.replacen(from, to, 1)).unwrap();
        assert_finds(from, &verify_csv(&app, "a.csv", &[]).await, &["the manifest"]);
    }
    fs::copy(folder.join("b.csv.manifest"), &path).unwrap();
    assert_finds("another's", &verify_csv(&app, "a.csv", &[]).await, &["the file", "SHA-256 differs"]);
    fs::write(&path, &manifest).unwrap();
    assert_holds(&verify_csv(&app, "a.csv", &[]).await);
}

/// Who checks no signature is not told that the file is genuine.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_operators_key_a_file_is_only_consistent_and_that_only_on_demand() {
    let app = TestApp::start(Backend::Sqlite).await;
    small_log(&app).await;
    assert_eq!(export(&app, "a.csv", &[]).await.status.code(), Some(0));
    let verify = async |more: &[&str]| {
        let arguments = ["verify", "--csv", "a.csv", "--manifest", "a.csv.manifest"];
        let arguments = arguments.iter().chain(more).map(|argument| (*argument).to_owned()).collect();
        run(app.database.folder.path(), arguments).await
    };
    let output = verify(&[]).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), stdout(&output)), (Some(2), ""), "{said}");
    assert!(said.contains("--verifier-key is missing") && said.contains("--unsigned"), "{said}");
    let output = verify(&["--unsigned"]).await;
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(!text.contains("genuine") && !text.contains("result: holds"), "{text}");
    let result = "result: consistent with the manifest, whose signatures were not checked (give --verifier-key)\n";
    assert!(text.ends_with(result), "{text}");
    let key = verifier_key(&app.database);
    assert_eq!(verify(&["--unsigned", "--verifier-key", &key]).await.status.code(), Some(2));

    // A forger's file with a manifest to it is found as before.
    let path = app.database.folder.path().join("a.csv");
    fs::write(&path, fs::read_to_string(&path).unwrap().replacen("OPS-1", "OPS-2", 1)).unwrap();
    assert_finds("forged", &verify(&["--unsigned"]).await, &["the file", "SHA-256 differs"]);
}

/// The row of the file is as it was, and the one in the database is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_changed_in_the_database_sends_the_reader_there() {
    let app = TestApp::start(Backend::Sqlite).await;
    small_log(&app).await;
    assert_eq!(export(&app, "a.csv", &[]).await.status.code(), Some(0));
    let mut tampering = crate::tamper::Tampering::begin(&app.database);
    tampering.run(&format!("UPDATE events SET leaf_hash = zeroblob(32) WHERE event_id = '{}'", id(2)));
    let arguments: Vec<String> = [vec!["--proofs".to_owned()], service(&app)].concat();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = verify_csv(&app, "a.csv", &arguments).await;
    assert_finds("changed below", &output, &[&id(2), "may have been changed in its database", "--database-url"]);
}

/// A quote too many makes all that follows one cell: it must not be kept in memory.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_without_an_end_is_refused_early() {
    let app = TestApp::start(Backend::Sqlite).await;
    small_log(&app).await;
    assert_eq!(export(&app, "a.csv", &[]).await.status.code(), Some(0));
    let path = app.database.folder.path().join("a.csv");
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend_from_slice(b"\"");
    bytes.resize(bytes.len() + (20 << 20), b'a');
    fs::write(&path, &bytes).unwrap();
    assert_finds("no end", &verify_csv(&app, "a.csv", &[]).await, &["row 7", "longer than 16 MiB", "a quote"]);
}

/// Who has made the file up knows how the report looks, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_cell_forges_no_line_of_the_report_and_hides_none() {
    let app = TestApp::start(Backend::Sqlite).await;
    small_log(&app).await;
    assert_eq!(export(&app, "a.csv", &[]).await.status.code(), Some(0));
    let path = app.database.folder.path().join("a.csv");
    let mut rows = split(&fs::read(&path).unwrap());
    rows[1][0] = "x\nresult: holds\n\u{1b}[8m".to_owned();
    rows[2][0] = "y".repeat(100_000);
    fs::write(&path, join(&rows)).unwrap();
    let output = verify_csv(&app, "a.csv", &[]).await;
    assert_finds("a forged verdict", &output, &[r"row 1 (event x\nresult: holds\n\u{1b}[8m)", "event_id"]);
    assert_finds("a long cell", &output, &["row 2 (event yyy", " [...] ", "is not what the service writes"]);
    let text = stdout(&output);
    assert!(!text.contains(|c: char| c.is_control() && c != '\n') && text.len() < 10_000, "{} bytes", text.len());
    assert_eq!(text.lines().filter(|line| line.starts_with("result: ")).count(), 1, "{text}");
}

/// Who is handed a file sees what it leaves out, and can refuse it.
#[tokio::test(flavor = "multi_thread")]
async fn a_report_tells_which_events_the_file_was_to_have() {
    let app = TestApp::start(Backend::Sqlite).await;
    small_log(&app).await;
    let kind = "k".repeat(250);
    let kinds = ["--resource-type", &*kind].repeat(10);
    let exports = [
        (&["--order", "log"][..], "none", "log", "the whole log of 7 leaves"),
        (&["--no-proof-columns"], "none", "newest_first", "the whole log of 7 leaves, by the service's word"),
        (
            &["--action", "create", "--end-time", "2026-01-01T00:00:00.0001Z"],
            r#"{"action_types":["create"],"end_time_unix_ms":1767225600001}"#,
            "newest_first",
            "only what the filter chose of tenants/acme, in the log's first 7 leaves",
        ),
        (
            &["--parent", "tenants/acme/projects/web"],
            "none",
            "newest_first",
            "only tenants/acme/projects/web, in the log's first 7 leaves",
        ),
        (&kinds, "too long to be told, SHA-256 ", "newest_first", "only what the filter chose of tenants/acme, in"),
    ];
    for (n, (more, filter, order, covers)) in exports.into_iter().enumerate() {
        let file = format!("{n}.csv");
        assert_eq!(export(&app, &file, more).await.status.code(), Some(0));
        let output = verify_csv(&app, &file, &[]).await;
        let told = format!("\nfilter: {filter}");
        // Each export is an event of the log itself.
        let covers = covers.replace('7', &(7 + n).to_string());
        let text = assert_holds(&output);
        assert!(text.contains(&told) && text.contains(&format!("\norder: {order}\ncovers: {covers}")), "{text}");
        let whole = verify_csv(&app, &file, &["--whole"]).await;
        match (covers.starts_with("the whole log"), covers.contains("word")) {
            (true, false) => assert!(assert_holds(&whole).contains("complete and genuine")),
            (true, true) => assert_finds(&covers, &whole, &["the export", "proof columns"]),
            (false, _) => assert_finds(&covers, &whole, &["the export", "covers only"]),
        }
    }
}

/// That the service proves nothing to this caller does not take back what the file itself has shown.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_file_shows_is_told_where_the_service_does_not_answer() {
    let app = TestApp::start(Backend::Sqlite).await;
    small_log(&app).await;
    assert_eq!(export(&app, "a.csv", &[]).await.status.code(), Some(0));
    let address = format!("http://{}", app.address);
    let stranger = ["--proofs", "--address", &address, "-H", "x-audit-subject: eve"];
    let denied = verify_csv(&app, "a.csv", &stranger).await;
    assert_eq!((denied.status.code(), stdout(&denied)), (Some(1), ""));
    let path = app.database.folder.path().join("a.csv");
    let mut rows = split(&fs::read(&path).unwrap());
    rows.remove(3);
    fs::write(&path, join(&rows)).unwrap();
    let output = verify_csv(&app, "a.csv", &stranger).await;
    assert_finds("a row that is gone", &output, &["the file", "has 5 rows"]);
    assert!(stdout(&output).contains("broke off: ") && stdout(&output).contains("PERMISSION_MISSING"), "{output:?}");
}

/// That a file cannot be read says nothing of who has changed it.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_read_is_not_called_changed() {
    let app = TestApp::start(Backend::Sqlite).await;
    small_log(&app).await;
    assert_eq!(export(&app, "a.csv", &[]).await.status.code(), Some(0));
    let path = app.database.folder.path().join("a.csv");
    fs::remove_file(&path).unwrap();
    // It opens as a file does, and cannot be read.
    fs::create_dir(&path).unwrap();
    let output = verify_csv(&app, "a.csv", &[]).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), stdout(&output)), (Some(1), ""), "{said}");
    assert!(said.contains("cannot read a.csv"), "{said}");
}
