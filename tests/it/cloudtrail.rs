//! Real audit events: the example that imports them, run as a program, and the log against the file.
//!
//! The file is read here anew, by other code than the example's: what both agree on is what the file says.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use auditlog::proto::auditlog::v1::{ActionType, ActorType, Event, ExportCsvRequest, Order};
use rstest::rstest;
use serde_json::Value;

use crate::{child::example, export::check_row, harness::*};

const NAME: &str = "cloudtrail-writes.jsonl";
/// How many records the real file has.
const RECORDS: usize = 297;

/// The real file, where it is at hand: in the folder that `AUDITLOG_TEST_DATA` names, or in `shared/data` beside the
/// checkout. Else ten records of the same shape.
fn file() -> PathBuf {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR"));
    let named = std::env::var_os("AUDITLOG_TEST_DATA").map(|folder| Path::new(&folder).join(NAME));
    let beside = checkout.join("../shared/data").join(NAME);
    let found = named.into_iter().chain([beside]).find(|path| path.exists());
    found.unwrap_or_else(|| checkout.join("tests/data/cloudtrail-sample.jsonl"))
}

fn records(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    text.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn import(app: &TestApp, file: &Path) -> Output {
    let mut command = example("import_cloudtrail");
    command.arg(file).arg("--address").arg(format!("http://{}", app.address));
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn action(event_name: &str) -> ActionType {
    let starts = |verbs: &[&str]| verbs.iter().any(|verb| event_name.starts_with(verb));
    match event_name {
        "EndSecretVersionDelete" | "StartSecretVersionDelete" => ActionType::Delete,
        _ if starts(&["Delete", "Terminate", "Detach", "Disassociate", "Remove", "Release", "Stop"]) => {
            ActionType::Delete
        }
        _ if starts(&["Create", "Put", "Run", "Attach", "Associate", "Start", "Allocate"]) => ActionType::Create,
        _ if starts(&["Add", "Authorize", "Register", "Tag"]) => ActionType::Create,
        _ => ActionType::Update,
    }
}

/// Where the parameters of some calls name the resource.
fn resource_pointer(event_name: &str) -> Option<&'static str> {
    Some(match event_name {
        "PutParameter" | "DeleteParameter" | "CreateSecret" | "StopLogging" | "StartLogging" => "/name",
        "DeleteSecret" | "PutSecretValue" => "/secretId",
        "DeleteVpc" => "/vpcId",
        "DeleteSubnet" => "/subnetId",
        "CreateRole" | "DeleteRole" | "PutRolePolicy" | "UpdateAssumeRolePolicy" => "/roleName",
        "DeleteUser" => "/userName",
        "CreateBucket" | "DeleteBucket" | "PutBucketPolicy" | "PutBucketTagging" => "/bucketName",
        "CreateFunction20150331" | "DeleteFunction20150331" => "/functionName",
        "TerminateInstances" => "/instancesSet/items/0/instanceId",
        "ModifyDBSnapshotAttribute" => "/dBSnapshotIdentifier",
        _ => return None,
    })
}

fn check_resource(event: &Event, record: &Value) {
    let resource = event.resource.as_ref().unwrap();
    let (event_name, parameters) = (text(record, "/eventName"), &record["requestParameters"]);
    assert_eq!(format!("{}.amazonaws.com", resource.r#type), text(record, "/eventSource"));
    match resource_pointer(event_name) {
        // A call that failed early has no parameters.
        _ if parameters.is_null() => assert_eq!(resource.id, text(record, "/eventID")),
        Some(pointer) => assert_eq!(resource.id, text(parameters, pointer), "{event_name}"),
        // Something that the record has.
        None => assert!(leaves(record).values().any(|value| *value == resource.id), "{event_name}: {}", resource.id),
    }
    let names = leaves(parameters).into_iter().filter(|(path, value)| path.ends_with(".key") && value == "Name");
    let values = names.map(|(path, _)| leaves(parameters)[&path.replace(".key", ".value")].clone());
    assert_eq!(resource.name, values.take(1).collect::<String>());
}

fn check_actor(event: &Event, record: &Value) {
    let actor = event.actor.as_ref().unwrap();
    let (user, arn, kind) =
        (text(record, "/userIdentity/userName"), text(record, "/userIdentity/arn"), text(record, "/userIdentity/type"));
    let expected = match kind {
        "IAMUser" => (ActorType::User, user, ""),
        "AssumedRole" => {
            let name = arn.split(":assumed-role/").nth(1).unwrap();
            let kind = if name.starts_with("AWSServiceRoleFor") { ActorType::Service } else { ActorType::User };
            (kind, arn, name)
        }
        "" => (ActorType::Service, text(record, "/userIdentity/invokedBy"), ""),
        other => panic!("an identity of type {other} is new to this test"),
    };
    assert_eq!((actor.r#type(), actor.id.as_str(), actor.name.as_str()), expected);
    let (recorder, message) = (event.recorder.as_ref().unwrap(), &event.message);
    assert_eq!((recorder.r#type(), recorder.id.as_str()), (ActorType::Service, "cloudtrail-import"));
    for part in [&actor.id, text(record, "/eventName"), text(record, "/eventSource"), text(record, "/errorCode")] {
        assert!(message.contains(part), "{message}: {part}");
    }
}

/// All values inside by their paths, such as `a.b[0].c`; texts as they are, the rest as JSON.
fn leaves(value: &Value) -> BTreeMap<String, String> {
    let mut todo = vec![(String::new(), value)];
    let mut found = BTreeMap::new();
    while let Some((path, value)) = todo.pop() {
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                let dot = if path.is_empty() { "" } else { "." };
                todo.extend(fields.iter().map(|(key, value)| (format!("{path}{dot}{key}"), value)));
            }
            Value::Array(items) if !items.is_empty() => {
                todo.extend(items.iter().enumerate().map(|(at, value)| (format!("{path}[{at}]"), value)));
            }
            Value::String(text) => drop(found.insert(path, text.clone())),
            // No parameters at all.
            Value::Null if path.is_empty() => {}
            other => drop(found.insert(path, other.to_string())),
        }
    }
    found
}

fn check_details(event: &Event, record: &Value) {
    let context = event.context.as_ref().unwrap();
    assert_eq!(context.source_ip, text(record, "/sourceIPAddress"));
    assert_eq!(context.user_agent, text(record, "/userAgent"));
    assert_eq!((context.request_id.as_str(), context.trace_id.as_str()), (text(record, "/requestID"), ""));
    assert!(event.changes.iter().all(|change| change.old_value.is_none()));
    let changes = event.changes.iter().map(|change| (change.field.clone(), change.new_value.clone().unwrap()));
    assert_eq!(changes.collect::<BTreeMap<_, _>>(), leaves(&record["requestParameters"]));
    let expected = [
        ("aws.account", "/recipientAccountId"),
        ("aws.region", "/awsRegion"),
        ("aws.event_id", "/eventID"),
        ("aws.event_name", "/eventName"),
        ("aws.event_source", "/eventSource"),
        ("aws.error_code", "/errorCode"),
        ("aws.identity_type", "/userIdentity/type"),
        ("aws.identity_arn", "/userIdentity/arn"),
        ("aws.principal_id", "/userIdentity/principalId"),
        ("aws.invoked_by", "/userIdentity/invokedBy"),
    ];
    let expected = expected.map(|(key, pointer)| (key.to_owned(), text(record, pointer).to_owned()));
    let told = expected.into_iter().filter(|(_, value)| !value.is_empty());
    assert_eq!(event.attributes.clone().into_iter().collect::<BTreeMap<_, _>>(), told.collect());
}

fn check(event: &Event, record: &Value) {
    let scope = format!("tenants/{}/projects/{}", text(record, "/recipientAccountId"), text(record, "/awsRegion"));
    assert!(event.name.starts_with(&format!("{scope}/events/")), "{}", event.name);
    let time: chrono::DateTime<chrono::Utc> = text(record, "/eventTime").parse().unwrap();
    assert_eq!(event.event_time, Some(timestamp(time.timestamp_millis())));
    assert_eq!(event.action_type(), action(text(record, "/eventName")), "{}", text(record, "/eventName"));
    check_resource(event, record);
    check_actor(event, record);
    check_details(event, record);
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_sent_twice_is_in_the_log_once_and_whole(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    let root = Caller::root();
    let file = file();
    let records = records(&file);
    assert_eq!(records.len(), if file.ends_with(NAME) { RECORDS } else { 10 });
    let tenant = format!("tenants/{}", text(&records[0], "/recipientAccountId"));
    let first = import(&app, &file).await;
    assert!(first.status.success(), "{first:?}");
    let events = app.walk(&root, ordered(&tenant, Order::Log, 1000)).await;
    let again = import(&app, &file).await;
    assert!(again.status.success(), "{again:?}");
    // Word for word the same answer: the receipts of the first time.
    assert_eq!(String::from_utf8(again.stdout).unwrap(), String::from_utf8(first.stdout).unwrap());
    assert_eq!(app.walk(&root, ordered(&tenant, Order::Log, 1000)).await, events);

    let by_id: BTreeMap<&str, &Value> = records.iter().map(|record| (text(record, "/eventID"), record)).collect();
    assert_eq!((by_id.len(), events.len()), (records.len(), records.len()));
    let sent: BTreeSet<&str> = events.iter().map(|event| event.attributes["aws.event_id"].as_str()).collect();
    assert!(sent.iter().eq(by_id.keys()));
    events.iter().for_each(|event| check(event, by_id[event.attributes["aws.event_id"].as_str()]));
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn list_and_export_agree_on_the_file_and_its_many_ties(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    let root = Caller::root();
    let file = file();
    let records = records(&file);
    assert!(import(&app, &file).await.status.success());
    let tenant = format!("tenants/{}", text(&records[0], "/recipientAccountId"));
    for order in [Order::NewestFirst, Order::OldestFirst, Order::Log] {
        let whole = app.walk(&root, ordered(&tenant, order, 1000)).await;
        assert_eq!(app.walk(&root, ordered(&tenant, order, 7)).await, whole);
        let kinds = whole.iter().map(|event| event.resource.as_ref().unwrap().r#type.clone());
        let filter = auditlog::proto::auditlog::v1::EventFilter {
            resource_types: kinds.filter(|kind| kind != "audit_export").collect::<BTreeSet<_>>().into_iter().collect(),
            ..Default::default()
        };
        let request = ExportCsvRequest { order: order.into(), filter: Some(filter), ..export_of(&tenant) };
        let rows = app.export(&root, request).await.unwrap().rows();
        assert_eq!(rows.len(), records.len());
        let listed = whole.iter().filter(|event| event.resource.as_ref().unwrap().r#type != "audit_export");
        rows.iter().zip(listed).for_each(|(row, event)| check_row(row, event, false));
    }
    // The times of the file, in order, are those of the list.
    let times = |events: Vec<Event>| events.into_iter().map(|event| event.event_time.unwrap().seconds);
    let listed: Vec<_> = times(app.walk(&root, ordered(&tenant, Order::OldestFirst, 1000)).await).collect();
    let mut in_file: Vec<_> = records.iter().map(|record| text(record, "/eventTime")).collect();
    in_file.sort_unstable();
    let in_file = in_file.into_iter().map(|time| time.parse::<chrono::DateTime<chrono::Utc>>().unwrap().timestamp());
    // Behind them come the exports.
    assert!(in_file.eq(listed.into_iter().take(records.len())));
}
