//! The audit of the audit: who was denied, and who read, in the log of the tenant concerned.

use std::time::Duration;

use auditlog::{
    config::Config,
    proto::auditlog::v1::{ActionType, ActorType, Event, EventFilter, ListEventsRequest, Order},
};
use rstest::rstest;
use tonic::Code;

use crate::{calls::every_call, harness::*, sql::Sql, tokens::Mode};

const T: &str = "tenants/acme";
const P: &str = "tenants/acme/projects/web";

/// Somebody who may do nothing at `tenants/acme`.
fn eve() -> Caller {
    Caller::new("eve").with("x-audit-subject-name", "Eve").role("tenant_admin@tenants/other")
}

fn reader() -> Caller {
    Caller::new("ann").role("tenant_viewer@tenants/acme")
}

fn of_type(kind: &str) -> ListEventsRequest {
    let filter = EventFilter { resource_types: vec![kind.to_owned()], ..Default::default() };
    ListEventsRequest { order: Order::Log.into(), ..filtered(T, filter) }
}

async fn denials(app: &TestApp) -> Vec<Event> {
    app.walk(&Caller::root(), of_type("audit_denial")).await
}

/// Waits until there are so many denials in the log.
async fn wait_for_denials(app: &TestApp, count: usize) -> Vec<Event> {
    wait_for(app, &Caller::root(), |found| found.len() >= count).await
}

async fn wait_for(app: &TestApp, root: &Caller, are_enough: impl Fn(&[Event]) -> bool) -> Vec<Event> {
    let waiting = async {
        loop {
            let found = app.walk(root, of_type("audit_denial")).await;
            if are_enough(&found) {
                return found;
            }
            between_looks().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("the denials are in the log")
}

async fn is_denied(app: &TestApp, caller: &Caller, scope: &str) {
    assert_error(app.list(caller, list(scope)).await, Code::PermissionDenied, "PERMISSION_MISSING");
}

/// All events, by somebody whose own read is none: it is counted with an earlier one, or not recorded.
async fn total(app: &TestApp) -> usize {
    app.walk(&Caller::root(), list(T)).await.len()
}

fn count_in(event: &Event) -> u64 {
    event.attributes["count"].parse().unwrap()
}

#[rstest]
#[tokio::test]
async fn a_denied_call_is_told_to_the_tenant(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let id = id_at(START_MILLIS, 1);
    app.record_as(&Caller::root(), P, event("clusterprofile", "cp"), &id).await.unwrap();
    is_denied(&app, &eve().with("x-request-id", "req-7"), P).await;
    let told = wait_for_denials(&app, 1).await.remove(0);
    assert!(told.name.starts_with("tenants/acme/events/"), "at the tenant, not at a scope that a stranger chose");
    let actor = told.actor.unwrap();
    assert_eq!((actor.r#type, actor.id.as_str(), actor.name.as_str()), (ActorType::User.into(), "eve", "Eve"));
    let recorder = told.recorder.unwrap();
    assert_eq!((recorder.r#type, recorder.id.as_str()), (ActorType::System.into(), "auditlog"));
    let resource = told.resource.unwrap();
    assert_eq!((resource.r#type.as_str(), resource.name.as_str()), ("audit_denial", "ListEvents"));
    assert!(told.name.ends_with(&resource.id));
    assert_eq!(told.action_type, i32::from(ActionType::Create));
    assert_eq!(told.message, format!("eve was denied ListEvents at {P}: audit.get is missing"));
    assert_eq!(told.context.unwrap().request_id, "req-7");
    let attribute = |key: &str| told.attributes[key].as_str();
    assert_eq!((attribute("method"), attribute("scope")), ("auditlog.v1.AuditLogService/ListEvents", P));
    assert_eq!((attribute("permission"), attribute("count")), ("audit.get", "1"));
    assert!(attribute("first_time").starts_with("2026-01-01T00:00:00."), "{:?}", told.attributes);
}

/// With tokens, it is the token that says who it was, and not what was sent beside it.
#[rstest]
#[tokio::test]
async fn a_denied_token_is_told_by_its_subject(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = Mode::Jwt.start(backend, |_| {}).await;
    let root = Mode::Jwt.caller(&Caller::root());
    app.record(&root, T, event("k", "1")).await.unwrap();
    let smuggler = Mode::Jwt.caller(&Caller::new("eve")).with("x-audit-subject", "bob");
    is_denied(&app, &smuggler, T).await;
    let told = wait_for(&app, &root, |found| !found.is_empty()).await.remove(0);
    assert_eq!(told.actor.unwrap().id, "eve");
}

#[rstest]
#[tokio::test]
async fn each_method_tells_of_itself(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let id = id_at(START_MILLIS, 1);
    app.record_as(&Caller::root(), T, event("clusterprofile", "cp"), &id).await.unwrap();
    let calls = every_call(T, &id);
    let mut methods: Vec<&str> = calls.iter().map(|call| call.method()).collect();
    for call in calls {
        assert_error(call.send(&app, &eve()).await, Code::PermissionDenied, "PERMISSION_MISSING");
    }
    let told = wait_for_denials(&app, methods.len()).await;
    let mut named: Vec<String> = told.into_iter().map(|event| event.resource.unwrap().name).collect();
    named.sort();
    methods.sort();
    assert_eq!(named, methods);
}

/// A thousand denials are two events: one at once, and one with the count when the service ends.
#[rstest]
#[tokio::test]
async fn repeated_denials_are_counted_and_the_count_is_told_at_the_end(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    app.record(&Caller::root(), T, event("k", "1")).await.unwrap();
    is_denied(&app, &eve(), T).await;
    wait_for_denials(&app, 1).await;
    app.clock.set_millis(START_MILLIS + 20_000);
    is_denied(&app, &eve().with("x-request-id", "second"), T).await;
    for _ in 0..98 {
        is_denied(&app, &eve().with("x-request-id", "later"), T).await;
    }
    assert_eq!(denials(&app).await.len(), 1, "the minute is not over");
    let database = app.database.clone();
    app.stop().await.unwrap().unwrap();
    let app = TestApp::start_on(database, |_| {}).await;
    let told = denials(&app).await;
    assert_eq!(told.iter().map(count_in).collect::<Vec<_>>(), [1, 99]);
    let since = &told[1].attributes["first_time"];
    assert!(since.starts_with("2026-01-01T00:00:20."), "{since} is not when the first of the 99 came");
    assert_eq!(told[1].context.as_ref().unwrap().request_id, "second");
}

#[rstest]
#[tokio::test]
async fn after_an_interval_the_count_of_what_came_meanwhile_is_told(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = TestApp::start_with(backend, |config| config.audit.interval = Duration::from_millis(300)).await;
    app.record(&Caller::root(), T, event("k", "1")).await.unwrap();
    for _ in 0..10 {
        is_denied(&app, &eve(), T).await;
    }
    let waiting = async {
        while denials(&app).await.iter().map(count_in).sum::<u64>() < 10 {
            between_looks().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("all ten are told");
    let told = denials(&app).await;
    assert!((1..=10).contains(&told.len()), "{told:?}");
    assert_eq!(told.iter().map(count_in).sum::<u64>(), 10);
}

#[rstest]
#[tokio::test]
async fn a_tenant_without_a_log_gets_none_by_being_asked_for(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = TestApp::start_with(backend, |config| config.audit.reads = true).await;
    is_denied(&app, &eve(), T).await;
    assert!(app.list(&reader(), list(T)).await.unwrap().events.is_empty());
    let database = app.database.clone();
    app.stop().await.unwrap().unwrap();
    let app = TestApp::start_on(database, |_| {}).await;
    assert_eq!(total(&app).await, 0);
    assert_eq!(app.record(&Caller::root(), T, event("k", "1")).await.unwrap().leaf_index, Some(0));
}

#[rstest]
#[tokio::test]
async fn it_can_be_turned_off(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start_with(backend, |config| config.audit.denied = false).await;
    app.record(&Caller::root(), T, event("k", "1")).await.unwrap();
    is_denied(&app, &eve(), T).await;
    let database = app.database.clone();
    app.stop().await.unwrap().unwrap();
    let app = TestApp::start_on(database, |_| {}).await;
    assert_eq!(total(&app).await, 1);
}

/// Many made-up scopes neither fill the log nor keep another caller's denial out of it.
#[rstest]
#[tokio::test]
async fn a_flood_of_made_up_scopes_is_bounded_and_counted(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = TestApp::start_with(backend, watched).await;
    app.record(&Caller::root(), T, event("k", "1")).await.unwrap();
    for n in 0..200 {
        is_denied(&app, &eve(), &format!("tenants/acme/projects/made-up-{n}")).await;
    }
    is_denied(&app, &Caller::new("mallory"), T).await;
    let told = wait_for_denials(&app, 65).await;
    let of = |who: &str| told.iter().filter(|event| event.actor.as_ref().unwrap().id == who).count();
    assert_eq!((of("eve"), of("mallory")), (64, 1));
    assert_eq!(app.metric("auditlog_denials_lost_total").await, 136.0);
}

#[rstest]
#[tokio::test]
async fn a_read_is_in_the_log_before_its_answer(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start_with(backend, |config| config.audit.reads = true).await;
    let name = app.record(&Caller::root(), P, event("k", "1")).await.unwrap().name;
    assert_eq!(app.list(&reader(), list(P)).await.unwrap().events.len(), 1, "it is not in itself");
    app.get(&reader(), &name).await.unwrap();
    let missing = format!("{P}/events/{}", id_at(START_MILLIS, 9));
    assert_error(app.get(&reader(), &missing).await, Code::NotFound, "EVENT_NOT_FOUND");
    for _ in 0..5 {
        app.list(&reader(), list(P)).await.unwrap();
    }
    let told = app.walk(&Caller::root(), of_type("audit_read")).await;
    let told: Vec<&Event> = told.iter().filter(|event| event.actor.as_ref().unwrap().id == "ann").collect();
    let names: Vec<&str> = told.iter().map(|event| event.resource.as_ref().unwrap().name.as_str()).collect();
    assert_eq!(names, ["ListEvents", "GetEvent"], "each once a minute");
    assert!(told.iter().all(|event| event.name.starts_with(P) && count_in(event) == 1), "{told:?}");
    assert_eq!(told[1].message, format!("ann read {P} by GetEvent"));
    assert_eq!(told[0].recorder.as_ref().unwrap().id, "auditlog");
    let database = app.database.clone();
    app.stop().await.unwrap().unwrap();
    let app = TestApp::start_on(database, |_| {}).await;
    let told = app.walk(&Caller::root(), of_type("audit_read")).await;
    let of_ann = told.iter().filter(|event| event.actor.as_ref().unwrap().id == "ann");
    assert_eq!(of_ann.map(count_in).sum::<u64>(), 8);
}

/// Sixteen at once: one event, and nobody is answered before it is there.
#[rstest]
#[tokio::test]
async fn reads_at_the_same_moment_share_one_event(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start_with(backend, |config| config.audit.reads = true).await;
    app.record(&Caller::root(), T, event("k", "1")).await.unwrap();
    let caller = reader();
    let reads = (0..16).map(|_| app.list(&caller, list(T)));
    for read in futures_util::future::join_all(reads).await {
        read.unwrap();
    }
    let told = app.walk(&Caller::root(), of_type("audit_read")).await;
    assert_eq!(told.iter().filter(|event| event.actor.as_ref().unwrap().id == "ann").count(), 1);
}

/// Names of tenants that there are not take no place for long, so nobody hides behind them.
#[rstest]
#[tokio::test]
async fn made_up_tenants_hide_nothing(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    app.record(&Caller::root(), T, event("k", "1")).await.unwrap();
    for n in 0..200 {
        is_denied(&app, &eve(), &format!("tenants/made-up-{n}")).await;
    }
    is_denied(&app, &eve(), T).await;
    assert_eq!(wait_for_denials(&app, 1).await.len(), 1);
}

/// The answer is there while the store cannot even be asked whether there is a log.
#[rstest]
#[tokio::test]
async fn a_denial_does_not_wait_for_the_store(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    app.record(&Caller::root(), T, event("k", "1")).await.unwrap();
    let mut holder = Sql::open(&app.database);
    holder.run(match backend {
        Backend::Sqlite => "BEGIN IMMEDIATE",
        Backend::Postgres => "BEGIN; LOCK TABLE events, tree_heads IN ACCESS EXCLUSIVE MODE",
    });
    for n in 0..50 {
        is_denied(&app, &eve(), &format!("tenants/acme/projects/p{n}")).await;
    }
    holder.run("COMMIT");
    assert_eq!(wait_for_denials(&app, 50).await.len(), 50);
}

/// Makes the store refuse what it is given from now on; reading goes on.
fn break_recording(app: &TestApp) {
    app.database.execute(match app.database.backend {
        Backend::Sqlite => "CREATE TRIGGER broken BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'broken'); END",
        Backend::Postgres => {
            "CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'broken'; END $$; \
             CREATE TRIGGER broken BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION broken()"
        }
    });
}

fn mend_recording(app: &TestApp) {
    app.database.execute(match app.database.backend {
        Backend::Sqlite => "DROP TRIGGER broken",
        // Locked first, as in `Database::change`.
        Backend::Postgres => "LOCK TABLE events; DROP TRIGGER broken ON events",
    });
}

#[rstest]
#[tokio::test]
async fn a_read_that_cannot_be_recorded_is_not_answered(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let settings = |config: &mut Config| config.audit.reads = true;
    let app = TestApp::start_with(backend, settings).await;
    let name = app.record(&Caller::root(), T, event("k", "secret-xw5d")).await.unwrap().name;
    break_recording(&app);
    for _ in 0..2 {
        let status = app.list(&reader(), list(T)).await.unwrap_err();
        assert!(!format!("{status:?}").contains("secret-xw5d"), "{status:?}");
        let status = app.get(&reader(), &name).await.unwrap_err();
        assert!(matches!(status.code(), Code::Internal | Code::Unavailable), "{status:?}");
    }
    mend_recording(&app);
    app.list(&reader(), list(T)).await.unwrap();
    let told = app.walk(&Caller::root(), of_type("audit_read")).await;
    let told: Vec<_> = told.iter().filter(|event| event.actor.as_ref().unwrap().id == "ann").collect();
    assert_eq!(
        told.iter().map(|event| count_in(event)).sum::<u64>(),
        1,
        "those that were not answered are none: {told:?}"
    );
}

#[rstest]
#[tokio::test]
async fn an_export_that_cannot_be_recorded_sends_no_byte(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    // Exports are recorded whatever is set.
    let app = TestApp::start_with(backend, |config| config.audit.denied = false).await;
    app.record(&Caller::root(), T, event("k", "secret-xw5d")).await.unwrap();
    break_recording(&app);
    let status = app.start_export(&Caller::root(), export_of(T)).await.unwrap_err();
    assert!(matches!(status.code(), Code::Internal | Code::Unavailable), "{status:?}");
    assert!(!format!("{status:?}").contains("secret-xw5d"), "{status:?}");
    mend_recording(&app);
    assert_eq!(app.export(&Caller::root(), export_of(T)).await.unwrap().ids().len(), 1);
    assert_eq!(app.walk(&Caller::root(), of_type("audit_export")).await.len(), 1);
}

/// What could not be recorded is tried again, and nothing is lost or told twice.
#[rstest]
#[tokio::test]
async fn a_denial_waits_until_it_can_be_recorded(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start_with(backend, |config| config.audit.interval = Duration::from_millis(50)).await;
    app.record(&Caller::root(), T, event("k", "1")).await.unwrap();
    break_recording(&app);
    for _ in 0..20 {
        is_denied(&app, &eve(), T).await;
    }
    assert!(denials(&app).await.is_empty());
    mend_recording(&app);
    // In several events, where the calls above took longer than the interval.
    let sum = |told: &[Event]| told.iter().map(count_in).sum::<u64>();
    let told = wait_for(&app, &Caller::root(), |told| sum(told) >= 20).await;
    assert_eq!(sum(&told), 20);
}
