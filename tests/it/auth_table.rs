//! Who may do what: the whole table, asked of a running service and held against a second reading of the design, with
//! claims in metadata and with the same claims in a token.
//!
//! Nothing in here calls the code that decides. The table below is written from the specification: roles with the kinds
//! of scope that they may be bound to, and one rule for each method.

use std::{collections::BTreeSet, sync::Arc};

use auditlog::{
    config::Config,
    proto::auditlog::v1::{
        AddUpdateNoteRequest, BatchRecordEventsRequest, ExportCsvRequest, GetEventRequest, ListEventsRequest,
    },
};
use rstest::rstest;
use tokio::task::JoinSet;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{calls::Call, harness::*, tokens::Mode};

const TENANT: &str = "tenants/acme";
const PROJECT: &str = "tenants/acme/projects/web";
const TARGETS: [&str; 2] = [TENANT, PROJECT];
/// Where grants hold: everywhere, where the calls go, and at neighbours whose names only begin the same, longer and shorter.
const GRANTED_AT: [&str; 7] =
    ["*", TENANT, PROJECT, "tenants/acme-2", "tenants/acm", "tenants/acme/projects/web-2", "tenants/acme/projects/we"];
const PERMISSIONS: [&[&str]; 9] = [
    &["audit.get"],
    &["audit.list"],
    &["audit.get", "audit.list"],
    &["audit.export"],
    &["audit.update"],
    &["audit.create"],
    &["audit.get", "audit.list", "audit.export"],
    &["audit.get", "audit.export", "audit.update"],
    &["audit.get", "audit.list", "audit.export", "audit.update", "audit.create"],
];

/// A role as the design describes it: its name, where it may be bound (`p`latform, `t`enant, p`r`oject), what it gives,
/// and whether it counts as a viewer of a project.
#[derive(Clone, Copy)]
struct Role(&'static str, &'static str, &'static [&'static str], bool);

const BUILT_IN: [Role; 9] = [
    Role("tenant_admin", "t", &["audit.get", "audit.list", "audit.export", "audit.update"], false),
    Role("tenant_viewer", "t", &["audit.get", "audit.list"], false),
    Role("tenant_project_admin", "t", &["audit.get", "audit.list"], false),
    Role("tenant_team_admin", "t", &["audit.get", "audit.list"], false),
    Role("tenant_user_admin", "t", &["audit.get", "audit.list"], false),
    Role("project_admin", "r", &["audit.get", "audit.list"], true),
    Role("project_editor", "r", &["audit.get", "audit.list"], true),
    Role("project_viewer", "r", &["audit.get", "audit.list"], true),
    Role("event_recorder", "ptr", &["audit.create"], false),
];

/// What `custom` puts into the configuration, and two built-in roles that it changes.
const CUSTOM: [Role; 7] = [
    Role("auditor", "t", &["audit.get", "audit.list", "audit.export"], false),
    Role("half_auditor", "t", &["audit.list"], false),
    Role("operator", "p", &["audit.get", "audit.list", "audit.update"], false),
    Role("project_scribe", "r", &["audit.get", "audit.list", "audit.export", "audit.create"], true),
    Role("project_guest", "r", &[], true),
    Role("tenant_admin", "t", &["audit.update"], false),
    Role("project_viewer", "r", &["audit.get"], true),
];

fn custom(config: &mut Config) {
    for (name, toml) in [
        ("auditor", "scope = 'tenant'\npermissions = ['audit.get', 'audit.list', 'audit.export']"),
        ("half_auditor", "scope = 'tenant'\npermissions = ['audit.list']"),
        ("operator", "scope = 'platform'\npermissions = ['audit.get', 'audit.list', 'audit.update']"),
        (
            "project_scribe",
            "scope = 'project'\nrank = 'project_editor'\n\
             permissions = ['audit.get', 'audit.list', 'audit.export', 'audit.create']",
        ),
        ("project_guest", "scope = 'project'\nrank = 'project_viewer'\npermissions = []"),
        ("tenant_admin", "permissions = ['audit.update']"),
        ("project_viewer", "permissions = ['audit.get']"),
    ] {
        config.roles.insert(name.to_owned(), toml::from_str(toml).unwrap());
    }
}

/// The claims of one caller, as `name@scope`.
#[derive(Clone, Debug, Default)]
struct Claims {
    roles: Vec<(&'static str, &'static str)>,
    permissions: Vec<(&'static str, &'static str)>,
}

impl Claims {
    fn with_role(mut self, name: &'static str, at: &'static str) -> Self {
        self.roles.push((name, at));
        self
    }

    fn with_permissions(mut self, names: &[&'static str], at: &'static str) -> Self {
        self.permissions.extend(names.iter().map(|name| (*name, at)));
        self
    }

    fn caller(&self, mode: Mode) -> Caller {
        mode.caller(&self.in_metadata())
    }

    fn in_metadata(&self) -> Caller {
        let roles = self.roles.iter().fold(Caller::new("ann"), |to, (name, at)| to.role(&format!("{name}@{at}")));
        self.permissions.iter().fold(roles, |to, (name, at)| to.permission(&format!("{name}@{at}")))
    }
}

fn covers(granted_at: &str, scope: &str) -> bool {
    granted_at == "*" || granted_at == scope || scope.strip_prefix(granted_at).is_some_and(|rest| rest.starts_with('/'))
}

fn kind(granted_at: &str) -> char {
    match granted_at.split('/').count() {
        _ if granted_at == "*" => 'p',
        2 => 't',
        _ => 'r',
    }
}

/// The second reading of the decision table.
struct Table(Vec<Role>);

impl Table {
    fn roles_on<'a>(&'a self, claims: &'a Claims, scope: &'a str) -> impl Iterator<Item = &'a Role> + 'a {
        let held = claims.roles.iter().filter(move |(_, at)| covers(at, scope));
        held.filter_map(|(name, at)| self.0.iter().find(|role| role.0 == *name && role.1.contains(kind(at))))
    }

    fn has(&self, claims: &Claims, permission: &str, scope: &str) -> bool {
        claims.permissions.iter().any(|(name, at)| *name == permission && covers(at, scope))
            || self.roles_on(claims, scope).any(|role| role.2.contains(&permission))
    }

    fn gets_and_lists(&self, claims: &Claims, scope: &str) -> bool {
        self.has(claims, "audit.get", scope) && self.has(claims, "audit.list", scope)
    }

    fn reads(&self, claims: &Claims, scope: &str) -> bool {
        let is_admin = self.roles_on(claims, TENANT).any(|role| role.0 == "tenant_admin");
        let is_viewer = scope != TENANT && self.roles_on(claims, scope).any(|role| role.3);
        is_admin || self.gets_and_lists(claims, TENANT) || (is_viewer && self.gets_and_lists(claims, scope))
    }

    fn allows(&self, claims: &Claims, asked: Asked, scope: &str) -> bool {
        match asked {
            Asked::Record | Asked::Batch => self.has(claims, "audit.create", scope),
            Asked::Get | Asked::List => self.reads(claims, scope),
            Asked::Export => self.reads(claims, scope) && self.has(claims, "audit.export", scope),
            // The log is the tenant's.
            Asked::Checkpoint | Asked::Inclusion | Asked::Consistency | Asked::Leaves => self.reads(claims, TENANT),
            Asked::NoteOnOthers => self.has(claims, "audit.update", scope),
            Asked::NoteOnOwn => self.has(claims, "audit.update", scope) || self.reads(claims, scope),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Asked {
    Record,
    Batch,
    Get,
    List,
    Export,
    NoteOnOthers,
    NoteOnOwn,
    Checkpoint,
    Inclusion,
    Consistency,
    Leaves,
}

impl Asked {
    const ALL: [Self; 11] = [
        Self::Record,
        Self::Batch,
        Self::Get,
        Self::List,
        Self::Export,
        Self::NoteOnOthers,
        Self::NoteOnOwn,
        Self::Checkpoint,
        Self::Inclusion,
        Self::Consistency,
        Self::Leaves,
    ];

    fn is_proof(self) -> bool {
        matches!(self, Self::Checkpoint | Self::Inclusion | Self::Consistency | Self::Leaves)
    }

    /// All calls can be repeated: the ids are given, and an export asks for something that only comes out as wrong once
    /// the right to export is found.
    async fn send(self, app: &TestApp, scope: &str, caller: &Caller) -> Result<(), Status> {
        let own = id_at(START_MILLIS, 10 + u64::from(scope == PROJECT));
        match self {
            Self::Checkpoint => app.checkpoint(caller, TENANT).await.map(drop),
            Self::Inclusion => app.inclusion(caller, &format!("{scope}/events/{own}"), "", 0).await.map(drop),
            Self::Consistency => app.consistency(caller, TENANT, 1, 0).await.map(drop),
            Self::Leaves => app.leaves(caller, TENANT, 0, 1).await.map(drop),
            recorded_or_read => recorded_or_read.call(scope).send(app, caller).await.map(drop),
        }
    }

    fn call(self, scope: &str) -> Call {
        let n = u64::from(scope == PROJECT);
        let own = id_at(START_MILLIS, 10 + n);
        let others = id_at(START_MILLIS, 20 + n);
        let note = |id: &str, note_id| {
            let note_id = id_at(START_MILLIS, note_id);
            Call::Note(AddUpdateNoteRequest { name: format!("{scope}/events/{id}"), text: "why".into(), note_id })
        };
        let recorded = item(scope, event("cluster", "c"), &id_at(START_MILLIS, 30 + n));
        match self {
            Self::Record => Call::Record(recorded),
            Self::Batch => Call::Batch(BatchRecordEventsRequest { requests: vec![recorded], parent: String::new() }),
            Self::Get => Call::Get(GetEventRequest { name: format!("{scope}/events/{own}") }),
            Self::List => Call::List(ListEventsRequest { page_size: 1, ..list(scope) }),
            Self::Export => Call::Export(ExportCsvRequest { parent: scope.into(), log_size: -1, ..Default::default() }),
            Self::NoteOnOwn => note(&own, 40 + n),
            Self::NoteOnOthers => note(&others, 50 + n),
            proof => unreachable!("{proof:?} is a call of the other service"),
        }
    }
}

async fn start(backend: Backend, mode: Mode, change: impl FnOnce(&mut Config)) -> TestApp {
    let app = mode.start(backend, change).await;
    let root = mode.caller(&Caller::root());
    for (n, scope) in (0..).zip(TARGETS) {
        for (id, who) in [(10 + n, "ann"), (20 + n, "ben")] {
            let mut event = event("clusterprofile", "cp");
            event.actor = Some(actor(who));
            app.record_as(&root, scope, event, &id_at(START_MILLIS, id)).await.unwrap();
        }
    }
    app
}

/// Whether the call was let through; any other answer than the ones that the table knows is a failure.
async fn is_let_through(app: &TestApp, asked: Asked, scope: &str, caller: &Caller) -> Result<(), Status> {
    match asked.send(app, scope, caller).await {
        Err(status) if status.code() == Code::InvalidArgument && matches!(asked, Asked::Export) => Ok(()),
        other => other,
    }
}

async fn check(app: Arc<TestApp>, mode: Mode, table: Arc<Table>, claims: Claims) {
    let caller = claims.caller(mode);
    for scope in TARGETS {
        for asked in Asked::ALL {
            let answer = is_let_through(&app, asked, scope, &caller).await;
            let due = table.allows(&claims, asked, scope);
            assert_eq!(answer.is_ok(), due, "{asked:?} {scope} {claims:?}: {answer:?}");
            if let Err(status) = answer {
                assert_error(Err::<(), _>(status), Code::PermissionDenied, "PERMISSION_MISSING");
            }
        }
    }
}

/// Eight callers at a time.
async fn check_all(app: TestApp, mode: Mode, table: Table, all: Vec<Claims>) {
    let (app, table) = (Arc::new(app), Arc::new(table));
    let mut running = JoinSet::new();
    for claims in all {
        if running.len() == 8 {
            running.join_next().await.unwrap().unwrap();
        }
        running.spawn(check(Arc::clone(&app), mode, Arc::clone(&table), claims));
    }
    while let Some(checked) = running.join_next().await {
        checked.unwrap();
    }
}

/// Those whose roles, if any, are not a neighbour's: with a neighbour's role, permissions do what they do without one.
fn near(all: &[Claims]) -> Vec<Claims> {
    let is_near = |claims: &&Claims| claims.roles.iter().all(|(_, at)| GRANTED_AT[..3].contains(at));
    all.iter().filter(is_near).cloned().collect()
}

/// No role, and each role (and one that there is not) at each scope.
fn one_role(roles: &[Role]) -> Vec<Claims> {
    let names: BTreeSet<&'static str> = roles.iter().map(|role| role.0).chain(["superuser"]).collect();
    let bound = names.into_iter().flat_map(|name| GRANTED_AT.map(|at| Claims::default().with_role(name, at)));
    [Claims::default()].into_iter().chain(bound).collect()
}

#[rstest]
#[tokio::test]
async fn permissions_alone_open_what_the_table_says(
    #[values(Backend::Sqlite)] backend: Backend,
    #[values(Mode::Metadata, Mode::Jwt)] mode: Mode,
) {
    let mut all = Vec::new();
    for at in GRANTED_AT {
        all.extend(PERMISSIONS.map(|names| Claims::default().with_permissions(names, at)));
    }
    // Both permissions, each from another place.
    for (get_at, list_at) in [(TENANT, PROJECT), (PROJECT, TENANT), ("*", PROJECT), ("*", TENANT)] {
        let split = Claims::default().with_permissions(&["audit.get"], get_at);
        all.push(split.with_permissions(&["audit.list"], list_at));
    }
    check_all(start(backend, mode, |_| {}).await, mode, Table(BUILT_IN.into()), all).await;
}

#[rstest]
#[tokio::test]
async fn built_in_roles_with_and_without_permissions(
    #[values(Backend::Sqlite)] backend: Backend,
    #[values(Mode::Metadata, Mode::Jwt)] mode: Mode,
) {
    let mut all = one_role(&BUILT_IN);
    for claims in near(&all) {
        for (at, sets) in [(TENANT, &[0, 1][..]), (PROJECT, &[0, 1, 3])] {
            all.extend(sets.iter().map(|set| claims.clone().with_permissions(PERMISSIONS[*set], at)));
        }
    }
    check_all(start(backend, mode, |_| {}).await, mode, Table(BUILT_IN.into()), all).await;
}

#[rstest]
#[tokio::test]
async fn roles_of_the_configuration(
    #[values(Backend::Sqlite)] backend: Backend,
    #[values(Mode::Metadata, Mode::Jwt)] mode: Mode,
) {
    let changed: BTreeSet<&str> = CUSTOM.iter().map(|role| role.0).collect();
    let kept = BUILT_IN.into_iter().filter(|role| !changed.contains(role.0));
    let roles: Vec<Role> = CUSTOM.into_iter().chain(kept).collect();
    let mut all = one_role(&CUSTOM);
    for claims in near(&all) {
        all.extend([0, 1, 3].map(|set: usize| claims.clone().with_permissions(PERMISSIONS[set], PROJECT)));
    }
    check_all(start(backend, mode, custom).await, mode, Table(roles), all).await;
}

/// The grants that a denial names, as the metadata to send.
fn claim_in(mode: Mode, status: &Status) -> Vec<(String, String)> {
    let (_, claim) = status.message().rsplit_once(": send ").expect("a claim");
    match mode {
        Mode::Metadata => claim.split(" and ").map(|part| pair(part, ": ")).collect(),
        Mode::Jwt => in_token(claim.strip_prefix("a token with ").expect("a token")),
    }
}

fn pair(text: &str, between: &str) -> (String, String) {
    let (one, other) = text.split_once(between).unwrap_or_else(|| panic!("no {between:?} in {text:?}"));
    (one.to_owned(), other.to_owned())
}

/// `A and B in the claim roles and C in the claim permissions`.
fn in_token(text: &str) -> Vec<(String, String)> {
    let (mut found, mut grants) = (Vec::new(), Vec::new());
    for part in text.split(" and ") {
        let (grant, claim) = part.split_once(" in the claim ").unwrap_or((part, ""));
        grants.push(grant);
        if !claim.is_empty() {
            found.extend(grants.drain(..).map(|grant| (format!("x-audit-{claim}"), grant.to_owned())));
        }
    }
    assert!(grants.is_empty(), "no claim is named for {grants:?} in {text:?}");
    found
}

/// A denial names the scope and the claim, and whoever sends that claim beside their others is let in.
#[rstest]
#[tokio::test]
async fn sending_the_claim_that_a_denial_names_opens_the_call(
    #[values(Backend::Sqlite)] backend: Backend,
    #[values(Mode::Metadata, Mode::Jwt)] mode: Mode,
    #[values(false, true)] customized: bool,
) {
    let app = start(backend, mode, |config| {
        if customized {
            custom(config)
        }
    })
    .await;
    let bound_to_targets = |claims: &Claims| claims.roles.iter().all(|(_, at)| TARGETS.contains(at));
    let mut all = one_role(&BUILT_IN);
    all.retain(bound_to_targets);
    all.extend(PERMISSIONS.map(|names| Claims::default().with_permissions(names, PROJECT)));
    let mut denied = 0;
    for claims in all {
        for (scope, asked) in TARGETS.into_iter().flat_map(|scope| Asked::ALL.map(|asked| (scope, asked))) {
            let Err(status) = is_let_through(&app, asked, scope, &claims.caller(mode)).await else { continue };
            denied += 1;
            let info = status.get_details_error_info().unwrap();
            let named = if asked.is_proof() { TENANT } else { scope };
            assert_eq!(info.metadata["scope"], named);
            assert!(info.metadata["permission"].starts_with("audit."), "{info:?}");
            assert!(status.message().contains(named), "{status:?}");
            let claim = claim_in(mode, &status);
            let caller = claim.iter().fold(claims.in_metadata(), |to, (key, value)| to.with(key, value));
            let opened = is_let_through(&app, asked, scope, &mode.caller(&caller)).await;
            assert!(opened.is_ok(), "{asked:?} {scope} {claims:?}: {} and then {opened:?}", status.message());
        }
    }
    assert!(denied > 150, "{denied}");
}
