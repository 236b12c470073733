//! What an operator types: real grpcurl against a real process.

use std::{
    io::BufRead as _,
    process::{Command, Stdio},
};

use rstest::rstest;
use serde_json::{Value, json};

use crate::{
    child::{ChildServer, PAST_MILLIS, auditlog, shell},
    harness::*,
};

const CLAIMS: &str =
    "-H 'x-audit-subject: ann' -H 'x-audit-roles: tenant_admin@tenants/acme,event_recorder@tenants/acme'";
const SERVICE: &str = "auditlog.v1.AuditLogService";

/// Whether grpcurl is here. Where it must be, as in continuous integration, its absence is a failure.
fn has_grpcurl() -> bool {
    let found = Command::new("sh")
        .args(["-c", "command -v grpcurl && command -v jq && command -v base64"])
        .stdout(Stdio::null())
        .status();
    let has = found.is_ok_and(|status| status.success());
    assert!(has || std::env::var_os("AUDITLOG_REQUIRE_GRPCURL").is_none(), "grpcurl, jq or base64 is not on PATH");
    if !has {
        eprintln!("grpcurl, jq or base64 is not on PATH: not run");
    }
    has
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A call as in the README.
fn call(server: &ChildServer, method: &str, request: &Value) -> String {
    format!("grpcurl -plaintext {CLAIMS} -d '{request}' {} {SERVICE}/{method}", server.address)
}

#[rstest]
#[tokio::test]
async fn an_operator_records_reads_exports_and_annotates(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    if !has_grpcurl() {
        return;
    }
    let server = ChildServer::serve(&Database::create(backend), &[]);
    let parent = "tenants/acme";
    let id = id_at(PAST_MILLIS, 1);
    let event = json!({
        "action_type": "ACTION_TYPE_UPDATE",
        "resource": {"type": "clusterprofile", "id": "cp-1", "name": "standard"},
        "actor": {"type": "ACTOR_TYPE_USER", "id": "ann"},
        "message": "Changed it",
        "changes": [{"field": "version", "old_value": "1", "new_value": "2"}],
        "attributes": {"console": "4.2"},
    });
    let request = json!({"parent": parent, "event_id": id, "event": event});
    let receipt = json(&shell(&call(&server, "RecordEvent", &request)))["receipt"].clone();
    let name = receipt["name"].clone();
    assert_eq!((&name, &receipt["leafIndex"]), (&json!(format!("{parent}/events/{id}")), &json!("0")));
    let other = json!({"action_type": "ACTION_TYPE_CREATE", "resource": {"type": "cluster", "id": "c"},
        "actor": {"type": "ACTOR_TYPE_SYSTEM"}});
    let requests = [2, 3].map(|n| json!({"event_id": id_at(PAST_MILLIS, n), "event": other}));
    shell(&call(&server, "BatchRecordEvents", &json!({"parent": parent, "requests": requests})));
    let got = json(&shell(&call(&server, "GetEvent", &json!({"name": name}))))["event"].clone();
    assert_eq!((&got["recorder"]["id"], &got["acceptsUpdateNotes"]), (&json!("ann"), &json!(true)));
    let note = json(&shell(&call(&server, "AddUpdateNote", &json!({"name": name, "text": "because"}))));
    assert_eq!(note["note"]["leafIndex"], "3");
    let filter = json!({"action_types": ["ACTION_TYPE_UPDATE"], "resource_types": ["clusterprofile"]});
    let listed = json(&shell(&call(&server, "ListEvents", &json!({"parent": parent, "filter": filter}))));
    assert_eq!(listed["events"].as_array().unwrap().len(), 1);
    assert_eq!(listed["events"][0]["updateNotes"][0]["text"], "because");

    let export = call(&server, "ExportCsv", &json!({"parent": parent, "order": "ORDER_OLDEST_FIRST"}));
    let file = shell(&format!("{export} | jq -r .data | base64 -d"));
    let rows: Vec<csv::StringRecord> =
        csv::Reader::from_reader(file.as_bytes()).records().map(Result::unwrap).collect();
    assert_eq!(rows.iter().map(|row| &row[6]).collect::<Vec<_>>(), ["clusterprofile", "cluster", "cluster"]);
    assert_eq!(&rows[0][0], id);
}

#[rstest]
#[tokio::test]
async fn reflection_shows_services_comments_and_error_details(#[values(Backend::Sqlite)] backend: Backend) {
    if !has_grpcurl() {
        return;
    }
    let server = ChildServer::serve(&Database::create(backend), &[]);
    let at = server.address;
    let services = shell(&format!("grpcurl -plaintext {at} list"));
    assert!(services.lines().any(|line| line == SERVICE) && services.contains("grpc.health.v1.Health"), "{services}");
    let described = shell(&format!("grpcurl -plaintext {at} describe {SERVICE}.RecordEvent"));
    assert!(described.contains("// Records one event.") && described.contains("google.api.http"), "{described}");
    let message = shell(&format!("grpcurl -plaintext {at} describe auditlog.v1.Event"));
    assert!(message.contains("map<string, string> attributes = 8"), "{message}");
    let health = json(&shell(&format!("grpcurl -plaintext {at} grpc.health.v1.Health/Check")));
    assert_eq!(health["status"], "SERVING");
    // An error shows its details by name.
    let bad = call(&server, "RecordEvent", &json!({"parent": "tenants/acme"}));
    let refused = Command::new("sh").args(["-c", &bad]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("InvalidArgument"), "{said}");
    for part in ["FIELD_INVALID", "google.rpc.BadRequest", "\"field\": \"event\""] {
        assert!(said.contains(part), "{part} in {said}");
    }
}

/// `auditlog demo` prints five commands, and each does what its title says. So does the line that `serve` logs.
#[rstest]
#[tokio::test]
async fn the_commands_that_the_program_prints_work(#[values(Backend::Sqlite)] backend: Backend) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = auditlog(folder.path());
    command.args(["demo", "--listen", "127.0.0.1:0"]);
    let mut demo = ChildServer::start(command);
    let lines = demo.stdout().lines().map(Result::unwrap);
    let commands: Vec<String> = lines.filter(|line| line.starts_with("grpcurl ")).take(5).collect();
    assert_eq!(commands.len(), 5);
    let server = ChildServer::serve(&Database::create(backend), &[]);
    let first = server.wait_for("try: ")["message"].as_str().unwrap().trim_start_matches("try: ").to_owned();
    if !has_grpcurl() {
        return;
    }
    assert_eq!(json(&shell(&first)), json!({}));
    let [all, updates, one, add_note, export] = &commands[..] else { unreachable!("five were taken") };
    assert_eq!(json(&shell(all))["events"].as_array().unwrap().len(), 12);
    let updates = json(&shell(updates))["events"].clone();
    assert!(updates.as_array().unwrap().iter().all(|event| event["actionType"] == "ACTION_TYPE_UPDATE"));
    assert!(!updates.as_array().unwrap().is_empty());
    shell(add_note);
    assert_eq!(json(&shell(one))["event"]["updateNotes"].as_array().unwrap().len(), 2);
    let file = shell(export);
    assert_eq!(csv::Reader::from_reader(file.as_bytes()).records().map(Result::unwrap).count(), 12);
    demo.signal("TERM");
    assert_eq!(demo.end().await.0, Some(0));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
