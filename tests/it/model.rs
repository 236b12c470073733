//! Random logs against an independent model of what a walk must give.

use std::sync::atomic::{AtomicU32, Ordering};

use auditlog::proto::auditlog::v1::{
    ActionType, Actor, ActorType, Event, EventFilter, ListEventsRequest, Order, RecordEventRequest,
};
use proptest::{
    collection::vec,
    prelude::*,
    sample::{select, subsequence},
    test_runner::{Config, TestRunner},
};
use rstest::rstest;
use tokio::{runtime::Handle, task::block_in_place};

use crate::harness::*;

const PROJECTS: [Option<&str>; 3] = [None, Some("web"), Some("db")];
const TYPES: [&str; 3] = ["cluster", "role", "clusterprofile"];
const IDS: [&str; 3] = ["1", "2", "3"];
const ACTORS: [&str; 3] = ["ann", "bob", ""];
const ACTIONS: [ActionType; 3] = [ActionType::Create, ActionType::Update, ActionType::Delete];
const ACTOR_TYPES: [ActorType; 2] = [ActorType::User, ActorType::System];
/// All times lie within so many milliseconds, so that most of them tie.
const SPAN: i64 = 6;

/// An event to be, and its place in the log by its place in the list.
#[derive(Clone, Debug)]
struct Spec {
    project: Option<&'static str>,
    action: ActionType,
    kind: &'static str,
    resource: &'static str,
    actor: &'static str,
    millis: i64,
    /// What orders ties, unique in the log.
    tie: u64,
}

#[derive(Clone, Debug)]
struct Case {
    specs: Vec<Spec>,
    project: Option<&'static str>,
    filter: EventFilter,
    order: Order,
    page_size: i32,
}

impl Spec {
    fn actor_type(&self) -> ActorType {
        if self.actor.is_empty() { ActorType::System } else { ActorType::User }
    }

    fn request(&self, tenant: &str) -> RecordEventRequest {
        let actor = Actor { r#type: self.actor_type().into(), id: self.actor.to_owned(), name: String::new() };
        let event = Event { action_type: self.action.into(), actor: Some(actor), ..event(self.kind, self.resource) };
        item(&scope(tenant, self.project), event, &self.id())
    }

    fn id(&self) -> String {
        id_at(self.millis, self.tie)
    }
}

fn scope(tenant: &str, project: Option<&str>) -> String {
    project.map_or_else(|| tenant.to_owned(), |project| format!("{tenant}/projects/{project}"))
}

/// One value as likely as another, or mostly the first.
fn one_of<T: Copy + std::fmt::Debug + 'static>(values: &'static [T; 3], first: u32) -> impl Strategy<Value = T> {
    prop_oneof![first => Just(values[0]), 1 => Just(values[1]), 1 => Just(values[2])]
}

fn any_spec(first: u32) -> impl Strategy<Value = Spec> {
    let words = (one_of(&PROJECTS, first), one_of(&TYPES, first), one_of(&IDS, first), one_of(&ACTORS, first));
    (words, select(&ACTIONS), 0..SPAN, any::<u16>()).prop_map(|(words, action, offset, tie)| {
        let (project, kind, resource, actor) = words;
        Spec { project, action, kind, resource, actor, millis: START_MILLIS + offset, tie: tie.into() }
    })
}

fn any_specs(first: u32, count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Spec>> {
    vec(any_spec(first), count).prop_map(|mut specs| {
        for (place, spec) in specs.iter_mut().enumerate() {
            spec.tie = spec.tie * 256 + place as u64;
        }
        specs
    })
}

fn some<T: Clone + std::fmt::Debug + 'static>(values: &'static [T]) -> impl Strategy<Value = Vec<T>> {
    let pair = || subsequence(values, 2);
    let twice = pair().prop_map(|pair| [pair.clone(), pair].concat());
    prop_oneof![3 => Just(Vec::new()), 2 => subsequence(values, 1), 1 => pair(), 1 => twice]
}

fn any_bound() -> impl Strategy<Value = Option<prost_types::Timestamp>> {
    let bound = (-1..=SPAN, select(vec![0, 1, 500_000, 999_999])).prop_map(|(offset, nanos)| {
        let whole = timestamp(START_MILLIS + offset);
        prost_types::Timestamp { nanos: whole.nanos + nanos, ..whole }
    });
    prop_oneof![2 => Just(None), 1 => bound.prop_map(Some)]
}

fn any_filter() -> impl Strategy<Value = EventFilter> {
    let words =
        (some(&ACTIONS), some(&TYPES), some(&IDS), some(&ACTORS[..2]), some(&ACTOR_TYPES), some(&PROJECTS[1..]));
    let bounds = (any_bound(), any_bound(), prop_oneof![4 => Just(false), 1 => Just(true)], 0..20i64);
    (words, bounds).prop_map(
        |((actions, types, ids, actors, actor_types, projects), (start, end, tenant_only, leaf))| {
            let owned = |values: Vec<&str>| values.into_iter().map(str::to_owned).collect();
            EventFilter {
                action_types: actions.into_iter().map(Into::into).collect(),
                resource_types: owned(types),
                start_time: start,
                end_time: end,
                resource_ids: owned(ids),
                actor_ids: owned(actors),
                actor_types: actor_types.into_iter().map(Into::into).collect(),
                project_ids: owned(projects.into_iter().flatten().collect()),
                tenant_only,
                start_leaf_index: (leaf - 8).max(0),
            }
        },
    )
}

fn any_case() -> impl Strategy<Value = Case> {
    let orders = select(vec![Order::Unspecified, Order::NewestFirst, Order::OldestFirst, Order::Log]);
    let sizes = prop_oneof![1..=5i32, Just(0), Just(1000)];
    (any_specs(1, 0..60), select(&PROJECTS), any_filter(), orders, sizes).prop_map(
        |(specs, project, mut filter, order, page_size)| {
            if project.is_some() {
                filter.project_ids.clear();
            }
            Case { specs, project, filter, order, page_size }
        },
    )
}

/// Several values of one field, which few events have; the same one may be named twice, and one that none has.
fn any_sparse_case() -> impl Strategy<Value = Case> {
    let values = vec(1..4usize, 2..5);
    let actions = some(&ACTIONS);
    let orders = select(vec![Order::NewestFirst, Order::OldestFirst, Order::Log]);
    (any_specs(12, 60..250), 0..4, values, actions, orders, 1..8i32).prop_map(
        |(specs, field, values, actions, order, page_size)| {
            let named = |names: [&str; 3]| {
                values.iter().map(|&value| [&names[1..], &["none"]].concat()[value - 1].to_owned()).collect()
            };
            let action_types = actions.into_iter().map(Into::into).collect();
            let mut filter = EventFilter { action_types, ..EventFilter::default() };
            match field {
                0 => filter.resource_ids = named(IDS),
                1 => filter.resource_types = named(TYPES),
                2 => filter.actor_ids = named(["ann", "bob", "eve"]),
                _ => filter.project_ids = named(["none", "web", "db"]),
            }
            Case { specs, project: None, filter, order, page_size }
        },
    )
}

/// What the contract says, in the plainest words: which events match.
fn matches(place: usize, spec: &Spec, case: &Case) -> bool {
    let filter = &case.filter;
    let nanos = |time: &prost_types::Timestamp| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    let time = i128::from(spec.millis) * 1_000_000;
    let is_any = |values: &[String], value: &str| values.is_empty() || values.iter().any(|one| one == value);
    let is_any_of = |values: &[i32], value: i32| values.is_empty() || values.contains(&value);
    (case.project.is_none() || spec.project == case.project)
        && is_any_of(&filter.action_types, spec.action.into())
        && is_any(&filter.resource_types, spec.kind)
        && is_any(&filter.resource_ids, spec.resource)
        && is_any(&filter.actor_ids, spec.actor)
        && is_any_of(&filter.actor_types, spec.actor_type().into())
        && (filter.project_ids.is_empty() || spec.project.is_some_and(|project| is_any(&filter.project_ids, project)))
        && !(filter.tenant_only && spec.project.is_some())
        && filter.start_time.as_ref().is_none_or(|start| time >= nanos(start))
        && filter.end_time.as_ref().is_none_or(|end| time < nanos(end))
        && place as i64 >= filter.start_leaf_index
}

/// And in which order.
fn expected(case: &Case) -> Vec<String> {
    let matching = case.specs.iter().enumerate().filter(|(place, spec)| matches(*place, spec, case));
    let mut specs: Vec<&Spec> = matching.map(|(_, spec)| spec).collect();
    match case.order {
        Order::Log => {}
        Order::OldestFirst => specs.sort_by_key(|spec| (spec.millis, spec.tie)),
        Order::NewestFirst | Order::Unspecified => {
            specs.sort_by_key(|spec| std::cmp::Reverse((spec.millis, spec.tie)));
        }
    }
    specs.into_iter().map(Spec::id).collect()
}

/// Each case is a tenant of its own.
fn fresh_tenant() -> String {
    static CASES: AtomicU32 = AtomicU32::new(0);
    format!("tenants/t{}", CASES.fetch_add(1, Ordering::Relaxed))
}

fn id_of(name: &str) -> String {
    name.rsplit('/').next().unwrap().to_owned()
}

async fn check(app: &TestApp, case: &Case) -> Result<(), TestCaseError> {
    let (root, tenant) = (Caller::root(), fresh_tenant());
    if !case.specs.is_empty() {
        let requests = case.specs.iter().map(|spec| spec.request(&tenant));
        app.batch(&root, &tenant, requests.collect()).await.unwrap();
    }
    let parent = scope(&tenant, case.project);
    let request =
        ListEventsRequest { filter: Some(case.filter.clone()), ..ordered(&parent, case.order, case.page_size) };
    let walked: Vec<_> = app.walk(&root, request).await.iter().map(|event| id_of(&event.name)).collect();
    prop_assert_eq!(&walked, &expected(case));
    let export = auditlog::proto::auditlog::v1::ExportCsvRequest {
        filter: Some(case.filter.clone()),
        order: case.order.into(),
        ..export_of(&parent)
    };
    prop_assert_eq!(app.export(&root, export).await.unwrap().ids(), walked);
    Ok(())
}

/// As many cases as there is time for.
async fn check_all(app: &TestApp, cases: impl Strategy<Value = Case>) {
    let config = Config { cases: 64, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let check = |case| block_in_place(|| Handle::current().block_on(check(app, &case)));
    TestRunner::new(config).run(&cases, check).unwrap();
}

/// Pages inspect few events, so that most walks take several that end early.
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_and_an_export_give_what_the_model_says(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start_with(backend, |config| config.limits.inspected_events = 7).await;
    check_all(&app, any_case()).await;
}

/// Where a page's first look finds too little, it goes on with a walk for each value; some pages end early nevertheless.
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_rare_values_give_what_the_model_says(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start_with(backend, |config| config.limits.inspected_events = 45).await;
    check_all(&app, any_sparse_case()).await;
}
