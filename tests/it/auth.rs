//! Who calls, the order of the checks, and that nothing crosses from one tenant to another.

use auditlog::proto::auditlog::v1::{
    AddUpdateNoteRequest, BatchRecordEventsRequest, EventFilter, ExportCsvRequest, GetEventRequest, ListEventsRequest,
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
