//! The suite that knows nothing but the contract: in Python, over gRPC, against a service on each store. What one answered
//! is what the other answered, byte for byte, but for what a server makes up.

use std::{env, fs, process::Command};

use tokio::task::spawn_blocking;

use crate::{child, harness::*};

const SUITE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/blackbox");
/// The environment variable that names a Python with the modules for gRPC.
const PYTHON: &str = "AUDITLOG_TEST_PYTHON";
const MODULES: &str = "import grpc; from google.protobuf.message_factory import GetMessageClass";

fn python() -> Command {
    Command::new(env::var_os(PYTHON).unwrap_or_else(|| "python3".into()))
}

/// What the suite asked a service on this store and what it was answered, one JSON object a line.
async fn transcript(backend: Backend) -> String {
    let app = TestApp::start(backend).await;
    let folder = app.database.folder.path();
    let (descriptor, transcript) = (folder.join("contract.binpb"), folder.join("transcript.jsonl"));
    fs::write(&descriptor, child::run(folder, &["descriptor"]).stdout).unwrap();
    let mut suite = python();
    suite.arg(SUITE).args(["--address", &app.address.to_string(), "--now", &START_MILLIS.to_string()]);
    suite.arg("--descriptor").arg(&descriptor).arg("--transcript").arg(&transcript);
    let output = spawn_blocking(move || suite.output().unwrap()).await.unwrap();
    let said = [output.stderr, output.stdout].concat();
    assert!(output.status.success(), "on {backend:?}: {}", String::from_utf8_lossy(&said));
    fs::read_to_string(transcript).unwrap()
}

/// The first lines in which two transcripts differ: what was asked, and what stands around the difference.
fn differences(one: &str, other: &str) -> String {
    let pairs = (1..).zip(one.lines().zip(other.lines())).filter(|(_, (one, other))| one != other);
    let shown = pairs.take(3).map(|(line, (one, other))| {
        let same = one.chars().zip(other.chars()).take_while(|(one, other)| one == other).count();
        let part = |text: &str| text.chars().skip(same.saturating_sub(80)).take(400).collect::<String>();
        let asked: String = one.chars().take(200).collect();
        format!("line {line}: {asked}…\n  {}\n  {}\n", part(one), part(other))
    });
    format!("{} and {} lines\n{}", one.lines().count(), other.lines().count(), shown.collect::<String>())
}

#[tokio::test]
async fn both_stores_give_the_same_answers_to_the_same_questions() {
    let has_modules = python().args(["-c", MODULES]).output().is_ok_and(|output| output.status.success());
    assert!(
        has_modules,
        "{:?} cannot import grpc and google.protobuf: run ./test, which installs them, or name another Python in {PYTHON}",
        python().get_program()
    );
    let (sqlite, postgres) = tokio::join!(transcript(Backend::Sqlite), transcript(Backend::Postgres));
    assert!(sqlite == postgres, "SQLite and PostgreSQL differ: {}", differences(&sqlite, &postgres));
}
