//! Who calls, the order of the checks, and that nothing crosses from one tenant to another.

use auditlog::proto::auditlog::v1::{
    AddUpdateNoteRequest, BatchRecordEventsRequest, EventFilter, ExportCsvRequest, GetEventRequest, ListEventsRequest,
};
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config as RunConfig, RngAlgorithm, TestRng, TestRunner},
};
use rstest::rstest;
use tonic::{Code, Request, metadata::AsciiMetadataValue};
use tonic_types::StatusExt as _;

use crate::{
    calls::{Call, every_call},
    harness::*,
};

const T: &str = "tenants/acme";
const SUBJECT: &str = "x-audit-subject";
const ROLES: &str = "x-audit-roles";
const PERMISSIONS: &str = "x-audit-permissions";

fn some_id() -> String {
    id_at(START_MILLIS, 1)
}

#[rstest]
#[tokio::test]
async fn a_call_without_credentials_is_told_which_to_send(#[values(Backend::Sqlite)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let grants_alone = Caller::nobody().role("tenant_admin@tenants/acme").permission("audit.create@*");
    for caller in [Caller::nobody(), grants_alone] {
        for call in every_call(T, &some_id()) {
            let status = assert_error(call.send(&app, &caller).await, Code::Unauthenticated, "CREDENTIALS_MISSING");
            assert!(status.message().contains(SUBJECT), "{status:?}");
        }
    }
}

/// Half-understood claims must not half-open a door: whatever is malformed or ambiguous refuses the whole call.
#[rstest]
#[tokio::test]
async fn malformed_double_and_contradictory_claims_are_refused(#[values(Backend::Sqlite)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let long = "a".repeat(257);
    let long_grant = format!("{}@tenants/acme", "a".repeat(2000));
    for (key, values) in [
        (SUBJECT, &["root"][..]),
        (SUBJECT, &["mallory"]),
        ("x-audit-subject-type", &["system"]),
        ("x-audit-subject-type", &["USER"]),
        ("x-audit-subject-type", &["user", "service"]),
        ("x-audit-subject-name", &["%FF"]),
        ("x-audit-subject-name", &["%00"]),
        ("x-audit-subject-name", &["Ann", "Ann"]),
        (ROLES, &["tenant_admin"]),
        (ROLES, &["tenant_admin@acme"]),
        (ROLES, &["tenant_admin@tenants/acme/../b"]),
        (ROLES, &["tenant_admin@tenants/acme", "@"]),
        (PERMISSIONS, &["audit.get@tenants/acme audit.list@tenants/acme"]),
        (PERMISSIONS, &["audit.get@*@*"]),
        (PERMISSIONS, &["audit.get@tenants/*"]),
        (PERMISSIONS, &[&long_grant]),
    ] {
        let caller = values.iter().fold(Caller::root(), |to, value| to.with(key, value));
        for call in every_call(T, &some_id()) {
            let status = assert_error(call.send(&app, &caller).await, Code::Unauthenticated, "CREDENTIALS_INVALID");
            assert!(status.message().contains(key) && !status.message().ends_with("..."), "{status:?}");
        }
    }
    for subject in ["", &long] {
        let caller = Caller::new(subject).permission("audit.list@*");
        let listed = app.list(&caller, list(T)).await;
        assert_error(listed, Code::Unauthenticated, "CREDENTIALS_INVALID");
    }
}

#[rstest]
#[tokio::test]
async fn claims_beyond_ascii_are_refused(#[values(Backend::Sqlite)] backend: Backend) {
    let app = TestApp::start(backend).await;
    for key in [SUBJECT, "x-audit-subject-type", "x-audit-subject-name", ROLES, PERMISSIONS] {
        let with = |message: ()| -> Request<()> {
            let caller = if key == SUBJECT { Caller::nobody() } else { Caller::root() };
            let mut request = caller.call(message);
            request.metadata_mut().append(key, AsciiMetadataValue::try_from("é".as_bytes()).unwrap());
            request
        };
        for call in every_call(T, &some_id()) {
            assert_error(
                call.send_to(app.client.clone(), with(())).await,
                Code::Unauthenticated,
                "CREDENTIALS_INVALID",
            );
        }
    }
}

/// Each call breaks every rule at once; mending one after the other shows the order in which they are looked at.
#[rstest]
#[tokio::test]
async fn credentials_then_scopes_then_rights_then_fields_then_what_is_stored(
    #[values(Backend::Sqlite)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    let stranger = Caller::new("eve").permission("audit.get@tenants/other");
    let bad_scope = "tenants/acme/../b";
    for (broken, whole) in broken_calls(bad_scope).into_iter().zip(broken_calls(T)) {
        let method = broken.method();
        let answer = broken.clone().send(&app, &Caller::nobody()).await;
        assert_error(answer, Code::Unauthenticated, "CREDENTIALS_MISSING");
        let status = assert_error(broken.send(&app, &stranger).await, Code::InvalidArgument, "FIELD_INVALID");
        let fields = status.get_details_bad_request().unwrap().field_violations;
        assert!(fields.iter().all(|v| ["parent", "name", "requests[0].parent"].contains(&&*v.field)), "{fields:?}");
        assert_error(whole.clone().send(&app, &stranger).await, Code::PermissionDenied, "PERMISSION_MISSING");
        let status = assert_error(whole.send(&app, &Caller::root()).await, Code::InvalidArgument, "FIELD_INVALID");
        let fields = status.get_details_bad_request().unwrap().field_violations;
        assert!(!fields.iter().any(|violation| violation.field.contains("parent")), "{method}: {fields:?}");
    }
    // The look-up comes last: valid calls about an event that is not there.
    let [_, _, get, _, _, note] = every_call(T, &some_id());
    for call in [get, note] {
        assert_error(call.clone().send(&app, &stranger).await, Code::PermissionDenied, "PERMISSION_MISSING");
        assert_error(call.send(&app, &Caller::root()).await, Code::NotFound, "EVENT_NOT_FOUND");
    }
    // A page token is looked at among the fields, and a valid rest is asked for first.
    let listed = app.list(&Caller::root(), ListEventsRequest { page_token: "x".into(), ..list(T) }).await;
    assert_error(listed, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
}

/// Calls on `scope` with a field that is wrong for every method.
fn broken_calls(scope: &str) -> [Call; 6] {
    let filter = Some(EventFilter { start_leaf_index: -1, ..Default::default() });
    let broken = item(scope, event("", ""), "x");
    let name = format!("{scope}/events/x");
    [
        Call::Record(broken.clone()),
        Call::Batch(BatchRecordEventsRequest { parent: String::new(), requests: vec![broken] }),
        Call::Get(GetEventRequest { name: name.clone() }),
        Call::List(ListEventsRequest { filter: filter.clone(), page_token: "x".into(), ..list(scope) }),
        Call::Export(ExportCsvRequest { parent: scope.into(), filter, ..Default::default() }),
        Call::Note(AddUpdateNoteRequest { name, text: String::new(), note_id: "x".into() }),
    ]
}

/// The probe of the service's health asks the store once a second, and the first denial of each method is recorded by
/// another task; a method that asked would do so in every call.
#[rstest]
#[tokio::test]
async fn a_denied_call_makes_no_query(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    const CALLS: u64 = 40;
    let app = TestApp::start(backend).await;
    let root = Caller::root();
    app.record_as(&root, T, event("clusterprofile", "cp"), &some_id()).await.unwrap();
    let stranger = Caller::new("eve").role("tenant_admin@tenants/other").permission("audit.get@tenants/acme");
    for call in every_call(T, &some_id()) {
        let before = app.statements();
        for _ in 0..CALLS {
            let answer = call.clone().send(&app, &stranger).await;
            assert_error(answer, Code::PermissionDenied, "PERMISSION_MISSING");
        }
        let made = app.statements() - before;
        assert!(made < CALLS, "{} made {made} statements", call.method());
    }
    // And the counter does count: what is let through asks.
    let before = app.statements();
    app.list(&root, list(T)).await.unwrap();
    app.list(&root, list(T)).await.unwrap();
    assert!(app.statements() >= before + 2);
}

/// The one look-up before a decision is made only for those who may read.
#[rstest]
#[tokio::test]
async fn only_the_actor_of_an_event_annotates_it_without_the_right(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    let mut by_service = event("clusterprofile", "cp");
    by_service.actor.as_mut().unwrap().r#type = 2;
    let mut by_system = event("clusterprofile", "cp");
    by_system.actor.as_mut().unwrap().r#type = 3;
    let (user, service, system) = (
        app.record(&Caller::root(), T, event("clusterprofile", "cp")).await.unwrap().name,
        app.record(&Caller::root(), T, by_service).await.unwrap().name,
        app.record(&Caller::root(), T, by_system).await.unwrap().name,
    );
    let reader =
        |subject, kind| Caller::new(subject).with("x-audit-subject-type", kind).role("tenant_viewer@tenants/acme");
    for (caller, name, may) in [
        (reader("ann", "user"), &user, true),
        (reader("ann", "service"), &service, true),
        (reader("ann", "service"), &user, false),
        (reader("ann", "user"), &service, false),
        (reader("Ann", "user"), &user, false),
        (reader("ann", "user"), &system, false),
        (Caller::new("ann"), &user, false),
        (Caller::new("ann").permission("audit.get@tenants/acme"), &user, false),
    ] {
        let answer = app.note(&caller, name, "why", "").await;
        assert_eq!(answer.is_ok(), may, "{caller:?} {answer:?}");
        if !may {
            assert_error(answer, Code::PermissionDenied, "PERMISSION_MISSING");
        }
    }
}

/// The marks of a tenant that the caller has no claim on.
struct Secrets {
    marks: Vec<String>,
    ids: Vec<String>,
    tokens: Vec<String>,
    salts: Vec<Vec<u8>>,
}

const OTHER: &str = "tenants/beta-7c41";
const OTHER_PROJECT: &str = "tenants/beta-7c41/projects/vault-e2d9";

async fn fill(app: &TestApp) -> Secrets {
    let root = Caller::new("recorder-5b0a").permission("audit.create@*").permission("audit.update@*");
    let reader = Caller::root();
    let (mut ids, mut tokens) = (Vec::new(), Vec::new());
    for (n, scope) in (0..6).zip([OTHER, OTHER_PROJECT].into_iter().cycle()) {
        let mut secret = event("clusterprofile", &format!("resource-{n}-9d3f"));
        secret.resource.as_mut().unwrap().name = format!("name-{n}-51de");
        secret.message = format!("message-{n}-41aa");
        secret.actor = Some(actor(&format!("actor-{n}-77e1")));
        secret.attributes.insert(format!("key-{n}-c0de"), format!("value-{n}-beef"));
        let id = id_at(START_MILLIS - 1000 + n, 0xb000 + n as u64);
        let name = app.record_as(&root, scope, secret, &id).await.unwrap().name;
        let note_id = id_at(START_MILLIS, 0xc000 + n as u64);
        app.note(&root, &name, &format!("note-{n}-aced"), &note_id).await.unwrap();
        ids.extend([id, note_id]);
    }
    for scope in [OTHER, OTHER_PROJECT] {
        let page = app.list(&reader, ListEventsRequest { page_size: 1, ..list(scope) }).await.unwrap();
        tokens.push(page.next_page_token);
    }
    let marks =
        ["recorder-5b0a", "beta-7c41", "vault-e2d9", "-9d3f", "-51de", "-41aa", "-77e1", "-c0de", "-beef", "-aced"];
    let marks = marks.map(str::to_owned).into_iter().chain(ids.clone()).collect();
    let events = app.walk(&reader, list(OTHER)).await;
    let salts = events.iter().flat_map(|event| {
        let notes = event.update_notes.iter().map(|note| note.salt.clone());
        [event.salt.clone()].into_iter().chain(notes)
    });
    Secrets { marks, ids, tokens, salts: salts.collect() }
}

/// A call by somebody who has every right on `tenants/acme` and none beyond, made of whatever they may know or guess.
fn any_call(secrets: &Secrets) -> impl Strategy<Value = Call> + use<> {
    let ids = prop::sample::select([secrets.ids.clone(), vec![some_id(), String::new()]].concat());
    let scopes = prop::sample::select(vec![
        T,
        T,
        T,
        "tenants/acme/projects/web",
        "tenants/acme/projects/vault-e2d9",
        OTHER,
        OTHER_PROJECT,
        "tenants/acme/../beta-7c41",
        "tenants/acme/projects/../../beta-7c41",
        "tenants/acme/projects/web/../../../beta-7c41",
        "tenants/acme%2F..%2Fbeta-7c41",
        "tenants/*",
        "",
    ]);
    let tokens = prop::sample::select([secrets.tokens.clone(), vec![String::new(); 2]].concat());
    let parts = (0..6usize, scopes.clone(), scopes, ids.clone(), ids, tokens, 0..12i64, 0..4i32);
    parts.prop_map(|(method, scope, second, id, other_id, token, index, order)| {
        let name = format!("{scope}/events/{id}");
        let filter = Some(EventFilter {
            project_ids: if index % 3 == 1 { vec!["vault-e2d9".into(), "../beta-7c41".into()] } else { vec![] },
            resource_ids: if index % 3 == 2 { vec!["resource-0-9d3f".into(), "mine".into()] } else { vec![] },
            start_leaf_index: index % 2 * index,
            ..Default::default()
        });
        let recorded = item(scope, event("clusterprofile", "mine"), &id);
        match method {
            0 => Call::Record(recorded),
            1 => Call::Batch(BatchRecordEventsRequest {
                parent: if index % 2 == 0 { String::new() } else { second.to_owned() },
                requests: vec![recorded, item(second, event("k", "mine"), &other_id)],
            }),
            2 => Call::Get(GetEventRequest { name }),
            3 => Call::List(ListEventsRequest { filter, page_token: token, order, ..list(scope) }),
            4 if other_id.is_empty() => Call::Export(ExportCsvRequest { parent: scope.into(), ..Default::default() }),
            4 => Call::Export(ExportCsvRequest {
                parent: scope.into(),
                filter,
                order,
                log_size: index,
                after_event_id: other_id,
                ..Default::default()
            }),
            _ => Call::Note(AddUpdateNoteRequest { name, text: "mine".into(), note_id: other_id }),
        }
    })
}

#[rstest]
#[tokio::test]
async fn no_call_with_claims_on_one_tenant_returns_a_byte_of_another(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    let secrets = fill(&app).await;
    let before = app.walk(&Caller::root(), list(OTHER)).await;
    let all = ["audit.get", "audit.list", "audit.export", "audit.update", "audit.create"];
    let caller = all.iter().fold(Caller::new("mallory").role("tenant_admin@tenants/acme"), |to, permission| {
        to.permission(&format!("{permission}@tenants/acme"))
    });
    app.record_as(&caller, T, event("clusterprofile", "mine"), &some_id()).await.unwrap();

    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(RunConfig::default(), rng);
    let calls = any_call(&secrets);
    let (mut answered, mut said) = (0, String::new());
    for _ in 0..300 {
        let call = calls.new_tree(&mut runner).unwrap().current();
        let asked = format!("{call:?}");
        said.push_str(&asked);
        let (text, bytes) = match call.send(&app, &caller).await {
            Ok(reply) => (reply.text, reply.bytes),
            Err(status) => (format!("{status:?} {:?}", status.get_error_details()), status.details().to_vec()),
        };
        answered += usize::from(!text.is_empty());
        for salt in &secrets.salts {
            assert!(!bytes.windows(salt.len()).any(|part| part == salt), "a salt in the answer to {asked}: {text}");
        }
        // What the caller has said may be said back: ids that they used for events of their own, say.
        for mark in secrets.marks.iter().filter(|mark| !said.contains(mark.as_str())) {
            let found = text.contains(mark.as_str()) || bytes.windows(mark.len()).any(|part| part == mark.as_bytes());
            assert!(!found, "{mark} in the answer to {asked}: {text}");
        }
    }
    assert_eq!(answered, 300);
    // And nothing was written over there either, but that somebody tried.
    let mut after = app.walk(&Caller::root(), list(OTHER)).await;
    after.retain(|event| event.resource.as_ref().unwrap().r#type != "audit_denial");
    assert_eq!(after, before);
}
