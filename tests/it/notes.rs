//! Update notes: which events take them, exactly once, who may add them, and where they are shown.

use auditlog::proto::auditlog::v1::{Actor, ActorType, Event, EventFilter, ExportCsvRequest, Order};
use rstest::rstest;
use serde_json::Value;
use tokio::task::JoinSet;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::*;

const T: &str = "tenants/acme";
const P: &str = "tenants/acme/projects/web";
const OTHER: &str = "tenants/acme/projects/db";

fn id_of(name: &str) -> &str {
    name.rsplit('/').next().unwrap()
}

/// The names of an event at `parent` and of the same event under its tenant.
async fn profile(app: &TestApp, parent: &str) -> (String, String) {
    let name = app.record(&Caller::root(), parent, event("clusterprofile", "p")).await.unwrap().name;
    let under_tenant = format!("{T}/events/{}", id_of(&name));
    (name, under_tenant)
}

fn texts(event: &Event) -> Vec<&str> {
    event.update_notes.iter().map(|note| note.text.as_str()).collect()
}

fn places(event: &Event) -> Vec<i64> {
    event.update_notes.iter().map(|note| note.leaf_index.unwrap()).collect()
}

#[rstest]
#[tokio::test]
async fn the_settings_say_which_types_take_notes(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let root = Caller::root();
    let default = TestApp::start(backend).await;
    let others = TestApp::start_with(backend, |config| {
        config.notes.resource_types = ["cluster".to_owned(), "role".to_owned()].into();
    });
    let others = others.await;
    for (app, taking, refusing) in [
        (default, &["clusterprofile"][..], &["cluster", "clusterprofile2"][..]),
        (others, &["cluster", "role"], &["clusterprofile"]),
    ] {
        for kind in taking {
            let name = app.record(&root, P, event(kind, "1")).await.unwrap().name;
            assert!(app.get(&root, &name).await.unwrap().accepts_update_notes);
            app.note(&root, &name, "why", "").await.unwrap();
        }
        for kind in refusing {
            let name = app.record(&root, P, event(kind, "1")).await.unwrap().name;
            assert!(!app.get(&root, &name).await.unwrap().accepts_update_notes);
            let refused = app.note(&root, &name, "why", "").await;
            let status = assert_error(refused, Code::FailedPrecondition, "NOTES_NOT_ACCEPTED");
            assert!(status.message().contains(kind), "{}", status.message());
        }
        // A refusal takes no place in the log.
        let places: Vec<_> = app.walk(&root, ordered(T, Order::Log, 1000)).await.iter().map(|e| e.leaf_index).collect();
        let notes = i64::try_from(taking.len()).unwrap();
        assert_eq!(places.last().unwrap().unwrap() + 1, i64::try_from(places.len()).unwrap() + notes);
    }
}

#[rstest]
#[tokio::test]
async fn a_note_is_kept_once_however_often_it_is_sent(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let root = Caller::root().with("x-audit-subject-name", "R%C3%B6t");
    let (name, under_tenant) = profile(&app, P).await;
    // A note's time is that of its commit, so its id may have any.
    let id = id_at(4_102_444_800_000, 1);
    app.clock.set_millis(START_MILLIS + 5000);
    let first = app.note(&root, &name, "more memory\r\nfor 🦀", &id).await.unwrap();
    let note = first.note.clone().unwrap();
    assert_eq!(
        (first.event_name.as_str(), note.note_id.as_str(), note.text.as_str()),
        (name.as_str(), id.as_str(), "more memory\r\nfor 🦀")
    );
    assert_eq!((note.leaf_index, note.salt.len(), note.body_commitment.len()), (Some(1), 16, 0));
    assert_eq!(note.create_time.map(|time| time.seconds * 1000), Some(START_MILLIS + 5000));
    let author = Actor { r#type: ActorType::User.into(), id: "root".into(), name: "Röt".into() };
    assert_eq!(note.author, Some(author));

    app.clock.set_millis(START_MILLIS + 60_000);
    let other = Caller::new("other").permission("audit.update@*");
    assert_eq!(app.note(&root, &name, "more memory\r\nfor 🦀", &id).await.unwrap(), first);
    assert_eq!(app.note(&other, &under_tenant, "more memory\r\nfor 🦀", &id).await.unwrap(), first);
    assert_eq!(app.get(&root, &name).await.unwrap().update_notes, [note]);

    // Without an id each call is a note of its own.
    let made: Vec<_> = [app.note(&root, &name, "same", "").await, app.note(&root, &name, "same", "").await].into();
    let ids: Vec<_> = made.into_iter().map(|reply| reply.unwrap().note.unwrap().note_id).collect();
    assert_ne!(ids[0], ids[1]);
    assert_eq!(app.get(&root, &name).await.unwrap().update_notes.len(), 3);
}

#[rstest]
#[tokio::test]
async fn many_at_once_with_one_id_are_one_note(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let (name, _) = profile(&app, P).await;
    let mut calls = JoinSet::new();
    for _ in 0..40 {
        let mut client = app.client.clone();
        let request = auditlog::proto::auditlog::v1::AddUpdateNoteRequest {
            name: name.clone(),
            text: "once".into(),
            note_id: id_at(START_MILLIS, 1),
        };
        calls.spawn(async move { client.add_update_note(Caller::root().call(request)).await.unwrap().into_inner() });
    }
    let replies = calls.join_all().await;
    assert!(replies.iter().all(|reply| *reply == replies[0]));
    assert_eq!(places(&app.get(&Caller::root(), &name).await.unwrap()), [1]);
}

#[rstest]
#[tokio::test]
async fn an_id_that_another_note_has_is_refused(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let root = Caller::root();
    let (name, _) = profile(&app, P).await;
    let (second, _) = profile(&app, OTHER).await;
    let id = id_at(START_MILLIS, 1);
    app.note(&root, &name, "why", &id).await.unwrap();
    for (name, text) in [(&name, "why not"), (&second, "why")] {
        let status = assert_error(app.note(&root, name, text, &id).await, Code::AlreadyExists, "NOTE_DIFFERS");
        assert_eq!(status.get_details_error_info().unwrap().metadata["note_id"], id);
        assert!(!format!("{status:?}").contains("projects/"), "tells the other scope: {status:?}");
    }
    assert_eq!(texts(&app.get(&root, &second).await.unwrap()), Vec::<&str>::new());
    // The id is the tenant's own.
    let elsewhere = app.record(&root, "tenants/b", event("clusterprofile", "p")).await.unwrap().name;
    app.note(&root, &elsewhere, "why", &id).await.unwrap();
}

#[rstest]
#[tokio::test]
async fn what_breaks_rules_is_named(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let root = Caller::root();
    let (name, _) = profile(&app, P).await;
    for text in [String::new(), "x".repeat(4097), "🦀".repeat(1025), "nul\0".to_owned(), "\u{1b}[31m".to_owned()] {
        assert_fields(app.note(&root, &name, &text, "").await, &["text"]);
    }
    app.note(&root, &name, &"🦀".repeat(1024), "").await.unwrap();
    for id in ["x", "01890a5d-ac96-4000-8000-000000000000", "01890A5D-AC96-7000-8000-000000000000"] {
        assert_fields(app.note(&root, &name, "why", id).await, &["note_id"]);
    }
    assert_fields(app.note(&root, &name, "", "x").await, &["note_id", "text"]);
    for bad in [format!("{P}/events/x"), format!("{P}/events/"), P.to_owned(), "x".to_owned()] {
        assert_fields(app.note(&root, &bad, "why", "").await, &["name"]);
    }
    assert_eq!(app.get(&root, &name).await.unwrap().update_notes.len(), 1);
}

#[rstest]
#[tokio::test]
async fn an_event_takes_a_hundred_notes(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let root = Caller::root();
    let (name, _) = profile(&app, P).await;
    for n in 1..=99 {
        app.note(&root, &name, &n.to_string(), &id_at(START_MILLIS, 1000 - n)).await.unwrap();
    }
    assert!(app.get(&root, &name).await.unwrap().accepts_update_notes);
    let last = app.note(&root, &name, "100", &id_at(START_MILLIS, 900)).await.unwrap();
    let full = app.get(&root, &name).await.unwrap();
    assert!(!full.accepts_update_notes);
    assert_error(app.note(&root, &name, "101", "").await, Code::FailedPrecondition, "NOTES_NOT_ACCEPTED");
    // One that is there already is still answered.
    assert_eq!(app.note(&root, &name, "100", &id_at(START_MILLIS, 900)).await.unwrap(), last);
    // Oldest first: as they came, not as their ids are.
    let expected: Vec<_> = (1..=100).map(|n| n.to_string()).collect();
    assert_eq!(texts(&full), expected);
    assert_eq!(places(&full), (1..=100).collect::<Vec<_>>());
}

#[rstest]
#[tokio::test]
async fn a_hundred_are_not_exceeded_by_many_at_once(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start_with(backend, |config| config.limits.notes = 5).await;
    let (name, _) = profile(&app, P).await;
    let mut calls = JoinSet::new();
    for n in 0..20 {
        let mut client = app.client.clone();
        let request = auditlog::proto::auditlog::v1::AddUpdateNoteRequest {
            name: name.clone(),
            text: n.to_string(),
            note_id: String::new(),
        };
        calls.spawn(async move { client.add_update_note(Caller::root().call(request)).await });
    }
    let replies = calls.join_all().await;
    assert_eq!(replies.iter().filter(|reply| reply.is_ok()).count(), 5);
    for refused in replies.into_iter().filter(Result::is_err) {
        assert_error(refused, Code::FailedPrecondition, "NOTES_NOT_ACCEPTED");
    }
    assert_eq!(places(&app.get(&Caller::root(), &name).await.unwrap()), [1, 2, 3, 4, 5]);
}

#[rstest]
#[tokio::test]
async fn notes_share_the_log_and_come_oldest_first_everywhere(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    let root = Caller::root();
    let (name, under_tenant) = profile(&app, P).await;
    app.note(&root, &name, "one", &id_at(START_MILLIS, 9)).await.unwrap();
    let second = app.record(&root, T, event("k", "1")).await.unwrap();
    assert_eq!(second.leaf_index, Some(2));
    let reply = app.note(&root, &under_tenant, "two", &id_at(START_MILLIS, 1)).await.unwrap();
    assert_eq!((reply.event_name, reply.note.unwrap().leaf_index), (name.clone(), Some(3)));
    app.note(&root, &name, "three", &id_at(START_MILLIS, 5)).await.unwrap();
    assert_eq!(app.record(&root, OTHER, event("k", "1")).await.unwrap().leaf_index, Some(5));

    let got = app.get(&root, &name).await.unwrap();
    assert_eq!((texts(&got), places(&got)), (vec!["one", "two", "three"], vec![1, 3, 4]));
    assert_eq!(app.get(&root, &under_tenant).await.unwrap(), got);
    for parent in [T, P] {
        let kind = EventFilter { resource_types: vec!["clusterprofile".into()], ..Default::default() };
        let listed = app.walk(&root, filtered(parent, kind.clone())).await;
        assert_eq!(listed, *std::slice::from_ref(&got));
        let request = ExportCsvRequest { filter: Some(kind), ..export_of(parent) };
        let notes: Value =
            serde_json::from_str(&app.export(&root, request).await.unwrap().rows()[0]["update_notes"]).unwrap();
        let shown: Vec<_> = notes.as_array().unwrap().iter().map(|note| note["text"].as_str().unwrap()).collect();
        assert_eq!(shown, ["one", "two", "three"]);
    }
}

#[rstest]
#[tokio::test]
async fn an_event_is_found_within_the_scope_named_only(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let root = Caller::root();
    let (name, _) = profile(&app, P).await;
    let id = id_of(&name).to_owned();
    for scope in [OTHER, "tenants/b", "tenants/b/projects/web"] {
        let missing = app.note(&root, &format!("{scope}/events/{id}"), "why", "").await;
        assert_error(missing, Code::NotFound, "EVENT_NOT_FOUND");
    }
    let missing = app.note(&root, &format!("{P}/events/{}", id_at(START_MILLIS, 77)), "why", "").await;
    assert_error(missing, Code::NotFound, "EVENT_NOT_FOUND");
    assert_eq!(texts(&app.get(&root, &name).await.unwrap()), Vec::<&str>::new());
}

/// Records an event whose actor is of this type and called `ann`.
async fn by_ann(app: &TestApp, actor_type: ActorType) -> String {
    let ann = Actor { r#type: actor_type.into(), ..actor("ann") };
    let event = Event { actor: Some(ann), ..event("clusterprofile", "p") };
    app.record(&Caller::root(), P, event).await.unwrap().name
}

#[rstest]
#[tokio::test]
async fn the_actor_may_annotate_what_it_may_read(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    // Denials are recorded by other tasks, whose queries would be counted here.
    let app = TestApp::start_with(backend, |config| config.audit.denied = false).await;
    let (by_user, by_service, by_system) = (
        by_ann(&app, ActorType::User).await,
        by_ann(&app, ActorType::Service).await,
        by_ann(&app, ActorType::System).await,
    );
    let reader = |id: &str| Caller::new(id).role(&format!("project_viewer@{P}"));
    let ann = reader("ann");
    let reply = app.note(&ann, &by_user, "mine", "").await.unwrap();
    assert_eq!(reply.note.unwrap().author.unwrap().id, "ann");
    let service = reader("ann").with("x-audit-subject-type", "service");
    app.note(&service, &by_service, "mine", "").await.unwrap();
    let tenant_reader = Caller::new("ann").role(&format!("tenant_viewer@{T}"));
    app.note(&tenant_reader, &format!("{T}/events/{}", id_of(&by_user)), "mine", "").await.unwrap();

    // Type and id must be equal, the system is nobody, and reading comes first.
    let elsewhere = Caller::new("ann").role(&format!("project_viewer@{OTHER}"));
    let recorder = Caller::new("ann").permission(&format!("audit.create@{P}"));
    for (caller, name) in [
        (&service, &by_user),
        (&ann, &by_service),
        (&ann, &by_system),
        (&service, &by_system),
        (&reader("Ann"), &by_user),
        (&reader("bob"), &by_user),
        (&elsewhere, &by_user),
        (&recorder, &by_user),
    ] {
        let denied =
            assert_error(app.note(caller, name, "mine", "").await, Code::PermissionDenied, "PERMISSION_MISSING");
        assert!(denied.message().contains(&format!("audit.update@{P}")), "{}", denied.message());
    }
    // Who may not read learns nothing of what is there; who may is told.
    let before = app.asked();
    let unknown = format!("{P}/events/{}", id_at(START_MILLIS, 77));
    for name in [&by_user, &unknown] {
        assert_error(app.note(&elsewhere, name, "mine", "").await, Code::PermissionDenied, "PERMISSION_MISSING");
    }
    app.assert_not_asked_since(&before);
    assert_error(app.note(&ann, &unknown, "mine", "").await, Code::NotFound, "EVENT_NOT_FOUND");
    assert_eq!(texts(&app.get(&Caller::root(), &by_user).await.unwrap()), ["mine", "mine"]);
    assert_eq!(texts(&app.get(&Caller::root(), &by_system).await.unwrap()), Vec::<&str>::new());
}

#[rstest]
#[tokio::test]
async fn an_erased_event_takes_no_notes_of_anybody(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let name = by_ann(&app, ActorType::User).await;
    let ann = Caller::new("ann").role(&format!("project_viewer@{P}"));
    let id = id_at(START_MILLIS, 1);
    let first = app.note(&ann, &name, "before", &id).await.unwrap();
    app.database.erase(id_of(&name));
    let erased = app.get(&Caller::root(), &name).await.unwrap();
    assert!(erased.erasure.is_some() && erased.actor.is_none() && !erased.accepts_update_notes);
    assert_error(app.note(&Caller::root(), &name, "after", "").await, Code::FailedPrecondition, "NOTES_NOT_ACCEPTED");
    // It has no actor any more.
    assert_error(app.note(&ann, &name, "after", "").await, Code::PermissionDenied, "PERMISSION_MISSING");
    // A note that was added before keeps its answer.
    assert_eq!(app.note(&Caller::root(), &name, "before", &id).await.unwrap(), first);
}
