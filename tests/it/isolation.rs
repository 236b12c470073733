//! Nothing crosses from one tenant to another, whatever is asked and however callers say who they are.

use auditlog::proto::auditlog::v1::{
    AddUpdateNoteRequest, BatchRecordEventsRequest, EventFilter, ExportCsvRequest, GetEventRequest, ListEventsRequest,
    Order,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config as RunConfig, RngAlgorithm, TestRng, TestRunner},
};
use rstest::rstest;
use tonic::Code;
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::{
    calls::{Call, every_call},
    harness::*,
    tokens::Mode,
};

const T: &str = "tenants/acme";
const P: &str = "tenants/acme/projects/web";

fn some_id() -> String {
    id_at(START_MILLIS, 1)
}

/// The marks of a tenant that the caller has no claim on. None can be a part of a random id.
struct Secrets {
    marks: Vec<String>,
    ids: Vec<String>,
    tokens: Vec<String>,
    salts: Vec<Vec<u8>>,
}

const OTHER: &str = "tenants/beta-7c41";
const OTHER_PROJECT: &str = "tenants/beta-7c41/projects/vault-e2d9";

async fn fill(app: &TestApp, mode: Mode) -> Secrets {
    let root = Caller::new("recorder-5b0a").permission("audit.create@*").permission("audit.update@*");
    let (root, reader) = (mode.caller(&root), mode.caller(&Caller::root()));
    let (mut ids, mut tokens) = (Vec::new(), Vec::new());
    for (n, scope) in (0..6).zip([OTHER, OTHER_PROJECT].into_iter().cycle()) {
        let mut secret = event("clusterprofile", &format!("resource-{n}-xw3f"));
        secret.resource.as_mut().unwrap().name = format!("name-{n}-xw51");
        secret.message = format!("message-{n}-xw41");
        secret.actor = Some(actor(&format!("actor-{n}-xw77")));
        secret.attributes.insert(format!("key-{n}-xwc0"), format!("value-{n}-xwbe"));
        let id = id_at(START_MILLIS - 1000 + n, 0xb000 + n as u64);
        let name = app.record_as(&root, scope, secret, &id).await.unwrap().name;
        let note_id = id_at(START_MILLIS, 0xc000 + n as u64);
        app.note(&root, &name, &format!("note-{n}-xwac"), &note_id).await.unwrap();
        ids.extend([id, note_id]);
    }
    for scope in [OTHER, OTHER_PROJECT] {
        let page = app.list(&reader, ListEventsRequest { page_size: 1, ..list(scope) }).await.unwrap();
        tokens.push(page.next_page_token);
    }
    let marks = ["recorder-5b0a", "beta-7c41", "vault-e2d9", "-xw51", "-xw41", "-xw77", "-xwc0", "-xwbe", "-xwac"];
    let resources = (0..6).map(|n| format!("resource-{n}-xw3f"));
    let marks = marks.map(str::to_owned).into_iter().chain(resources).chain(ids.clone()).collect();
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
            resource_ids: if index % 3 == 2 { vec!["resource-0-xw3f".into(), "mine".into()] } else { vec![] },
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
    #[values(Mode::Metadata, Mode::Jwt)] mode: Mode,
) {
    let app = mode.start(backend, |_| {}).await;
    let (mut secrets, root) = (fill(&app, mode).await, mode.caller(&Caller::root()));
    let before = app.walk(&root, list(OTHER)).await;
    let caller = mallory(mode);
    app.record_as(&caller, T, event("clusterprofile", "mine"), &some_id()).await.unwrap();

    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(RunConfig::default(), rng);
    let calls = any_call(&secrets);
    let mut answered = 0;
    for _ in 0..300 {
        let call = calls.new_tree(&mut runner).unwrap().current();
        let asked = format!("{call:?}");
        // What the caller has said may be said back: ids that they used for events of their own, say.
        secrets.marks.retain(|mark| !asked.contains(mark.as_str()));
        let (text, bytes) = match call.send(&app, &caller).await {
            Ok(reply) => (reply.text + &reply.metadata, reply.bytes),
            Err(status) => (format!("{status:?} {:?}", status.get_error_details()), status.details().to_vec()),
        };
        answered += usize::from(!text.is_empty());
        for salt in &secrets.salts {
            assert!(!bytes.windows(salt.len()).any(|part| part == salt), "a salt in the answer to {asked}: {text}");
        }
        for mark in &secrets.marks {
            let found = text.contains(mark.as_str()) || bytes.windows(mark.len()).any(|part| part == mark.as_bytes());
            assert!(!found, "{mark} in the answer to {asked}: {text}");
        }
    }
    assert_eq!(answered, 300);
    // Of the marks that no call is made of: seven kinds of text, and five resources.
    assert!(secrets.marks.len() >= 12, "{:?}", secrets.marks);
    // And nothing was written over there either, but that somebody tried.
    let mut after = app.walk(&root, list(OTHER)).await;
    after.retain(|event| event.resource.as_ref().unwrap().r#type != "audit_denial");
    assert_eq!(after, before);
}

/// Somebody with every right on `tenants/acme`. With a token they also claim the other tenant, where claims mean nothing.
fn mallory(mode: Mode) -> Caller {
    let all = ["audit.get", "audit.list", "audit.export", "audit.update", "audit.create"];
    let caller = all.iter().fold(Caller::new("mallory").role("tenant_admin@tenants/acme"), |to, permission| {
        to.permission(&format!("{permission}@tenants/acme"))
    });
    match mode {
        Mode::Metadata => caller,
        Mode::Jwt => {
            let with = |to: Caller, permission: &&str| to.permission(&format!("{permission}@*"));
            let smuggler = mode.caller(&caller).with("x-audit-subject", "root").role(&format!("tenant_admin@{OTHER}"));
            all.iter().fold(smuggler, with)
        }
    }
}

/// Scopes around `tenants/acme/projects/web`: above, beside, and with names that begin the same or go on.
const AROUND: [&str; 9] = [
    "tenants/acme",
    "tenants/acme/projects/web-2",
    "tenants/acme/projects/we",
    "tenants/acme/projects/WEB",
    "tenants/acme-2",
    "tenants/acme-2/projects/web",
    "tenants/acm",
    "tenants/acm/projects/web",
    "tenants/ACME/projects/web",
];

#[rstest]
#[case::project_viewer(&["project_viewer@tenants/acme/projects/web", "event_recorder@tenants/acme/projects/web"], &AROUND)]
#[case::tenant_admin(&["tenant_admin@tenants/acme", "event_recorder@tenants/acme"], &AROUND[4..])]
#[tokio::test]
async fn rights_end_where_their_scope_ends(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
    #[values(Mode::Metadata, Mode::Jwt)] mode: Mode,
    #[case] roles: &[&str],
    #[case] around: &[&str],
) {
    let app = mode.start(backend, |_| {}).await;
    let root = mode.caller(&Caller::root());
    for (n, scope) in (10..).zip(AROUND) {
        // No random id has an x or a w, so what is found is the secret.
        let secret = event("clusterprofile", "secret-xw5d");
        app.record_as(&root, scope, secret, &id_at(START_MILLIS, n)).await.unwrap();
    }
    let own = app.record_as(&root, P, event("clusterprofile", "own"), &some_id()).await.unwrap().name;
    let caller = mode.caller(&roles.iter().fold(Caller::new("ann"), |to, role| to.role(role)));
    assert_eq!(app.get(&caller, &own).await.unwrap().resource.unwrap().id, "own");
    for (n, scope) in (10..).zip(AROUND).filter(|(_, scope)| around.contains(scope)) {
        let id = id_at(START_MILLIS, n);
        for call in every_call(scope, &id) {
            let (method, answer) = (call.method(), call.send(&app, &caller).await);
            let status = assert_error(answer, Code::PermissionDenied, "PERMISSION_MISSING");
            assert!(!format!("{status:?}").contains("xw5d"), "{method} {scope}: {status:?}");
        }
        // Nor is it there under a scope that they may read.
        let inside = app.get(&caller, &format!("{P}/events/{id}")).await;
        assert_error(inside, Code::NotFound, "EVENT_NOT_FOUND");
        // Nor does a page token of theirs go on there, or one from there go on here.
        let page = app.list(&root, ListEventsRequest { page_size: 1, ..list(scope) }).await.unwrap();
        if !page.next_page_token.is_empty() {
            let elsewhere = ListEventsRequest { page_token: page.next_page_token, ..list(P) };
            assert_error(app.list(&caller, elsewhere).await, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
        }
    }
    let listed = app.walk(&caller, list(P)).await;
    assert!(listed.iter().all(|event| event.name.starts_with(&format!("{P}/"))), "{listed:?}");
}

/// The id in a page token, which is where the next page begins. Only this test may look inside.
fn position(token: &str) -> Option<String> {
    let bytes = URL_SAFE_NO_PAD.decode(token).unwrap();
    // A version, 16 bytes of hash, a tag, the id, and 16 bytes of hash.
    (!bytes.is_empty()).then(|| Uuid::from_slice(&bytes[18..34]).unwrap().to_string())
}

/// Lists that an index answers which has other projects' events, too.
fn lists_across_projects(parent: &str) -> Vec<ListEventsRequest> {
    let texts = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    let filters = [
        EventFilter { actor_ids: texts(&["bob"]), ..Default::default() },
        EventFilter { resource_ids: texts(&["r"]), ..Default::default() },
        EventFilter { resource_types: texts(&["k"]), ..Default::default() },
        EventFilter { actor_ids: texts(&["bob", "eve"]), ..Default::default() },
        EventFilter { resource_ids: texts(&["r", "s"]), actor_ids: texts(&["bob"]), ..Default::default() },
        EventFilter { actor_ids: texts(&["nobody-here"]), ..Default::default() },
        // There is no such thing in a project.
        EventFilter { actor_ids: texts(&["bob"]), tenant_only: true, ..Default::default() },
        EventFilter::default(),
    ];
    let orders = [Order::NewestFirst, Order::OldestFirst].map(i32::from);
    let asked = |(filter, order, page_size): (EventFilter, i32, i32)| ListEventsRequest {
        filter: Some(filter),
        order,
        page_size,
        ..list(parent)
    };
    let sizes = [1, 2, 3, 7, 1000];
    let sized = sizes.iter().flat_map(|size| orders.map(|order| (*size, order)));
    sized.flat_map(|(size, order)| filters.clone().map(|filter| asked((filter, order, size)))).collect()
}

/// Records events of `web`, and between them those of its neighbours. In both tenants those of `web` have the same ids, and
/// what they are about repeats in another rhythm than the neighbours do.
async fn fill_project(app: &TestApp, tenant: &str, with_neighbours: bool) -> Vec<String> {
    let (mut own, root) = (Vec::new(), Caller::root());
    let scope = |n: i64| match (n * 7) % 10 {
        0..2 => format!("{tenant}/projects/web"),
        2..7 => format!("{tenant}/projects/vault"),
        _ => tenant.to_owned(),
    };
    for n in 0..120 {
        let id = id_at(START_MILLIS - 100_000 + n * 1000, 0xa0 + n as u64);
        let resource = ["r", "s", "t"][n as usize % 3];
        let mut recorded = event(["k", "l"][n as usize / 5 % 2], resource);
        recorded.actor = Some(actor(["bob", "eve", "bob", "sam"][n as usize / 2 % 4]));
        let scope = scope(n);
        if scope.ends_with("/web") {
            own.push(id.clone());
        }
        if with_neighbours || scope.ends_with("/web") {
            app.record_as(&root, &scope, recorded, &id).await.unwrap();
        }
    }
    own
}

/// Each page of a walk: the ids on it, and where the next one begins.
async fn pages(app: &TestApp, caller: &Caller, mut request: ListEventsRequest) -> Vec<(Vec<String>, Option<String>)> {
    let mut pages = Vec::new();
    loop {
        let page = app.list(caller, request.clone()).await.unwrap();
        let ids = page.events.iter().map(|event| event.name.rsplit('/').next().unwrap().to_owned());
        pages.push((ids.collect(), position(&page.next_page_token)));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return pages;
        }
    }
}

#[rstest]
#[tokio::test]
async fn a_project_is_read_as_if_it_had_no_neighbours(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let own = fill_project(&app, "tenants/acme", true).await;
    assert_eq!(fill_project(&app, "tenants/alone", false).await, own);
    let viewer = Caller::new("ann")
        .role("project_viewer@tenants/acme/projects/web")
        .role("project_viewer@tenants/alone/projects/web");
    let (among, alone) = (lists_across_projects(P), lists_across_projects("tenants/alone/projects/web"));
    for (among, alone) in among.into_iter().zip(alone) {
        let asked = format!("{among:?}");
        assert_eq!(pages(&app, &viewer, among).await, pages(&app, &viewer, alone).await, "{asked}");
    }
}

#[rstest]
#[tokio::test]
async fn a_page_token_names_no_event_of_another_project(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    // So few that the neighbours' events use them up.
    let app = TestApp::start_with(backend, |config| config.limits.inspected_events = 8).await;
    let own = fill_project(&app, "tenants/acme", true).await;
    let viewer = Caller::new("ann").role("project_viewer@tenants/acme/projects/web");
    let mut found = 0;
    for request in lists_across_projects(P) {
        let asked = format!("{request:?}");
        let pages = pages(&app, &viewer, request).await;
        for (ids, next) in &pages {
            assert!(ids.iter().chain(next).all(|id| own.contains(id)), "{next:?} after {ids:?}: {asked}");
        }
        found += pages.iter().map(|(ids, _)| ids.len()).sum::<usize>();
    }
    assert!(found > 100, "{found}");
}
