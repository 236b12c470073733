//! The memory of a server that exports much, flat for a fast reader, a slow one, and one that leaves; and of one whose
//! callers reset what they begin.

#![cfg(target_os = "linux")]

use auditlog::proto::{
    auditlog::v1::{BatchRecordEventsRequest, Event, EventFilter, Order},
    google::api::HttpBody,
};
use rstest::rstest;
use sha2::{Digest as _, Sha256};
use tonic::Streaming;

use crate::{
    child::{ChildServer, PAST_MILLIS},
    harness::*,
    sql::Sql,
    traffic::reset_streams,
};

const T: &str = "tenants/acme";
const BATCHES: u64 = 16;
const EVENTS: u64 = BATCHES * 1000;
/// A batch of a thousand stays below 4 MiB.
const MESSAGE_BYTES: usize = 4000;
/// Far less than the 64 MB of all messages.
const BOUND: u64 = 32 * 1024 * 1024;

/// How much the server has grown since it was last asked, at most.
struct Gauge<'a> {
    server: &'a ChildServer,
    before: u64,
    most: u64,
}

impl<'a> Gauge<'a> {
    fn new(server: &'a ChildServer) -> Self {
        let before = server.resident_bytes();
        Self { server, before, most: before }
    }

    fn read(&mut self) {
        self.most = self.most.max(self.server.resident_bytes());
    }

    #[track_caller]
    fn check(self, of: &str) {
        self.check_within(BOUND, of);
    }

    #[track_caller]
    fn check_within(mut self, bound: u64, of: &str) {
        self.read();
        let grown = self.most - self.before;
        assert!(grown < bound, "{of} made the server grow by {grown} bytes");
    }
}

async fn fill(client: &Client) {
    let large = || Event { message: "🦀".repeat(MESSAGE_BYTES / 4), ..event("k", "1") };
    let batch = |batch: u64| {
        let id = move |n: u64| id_at(PAST_MILLIS + i64::try_from(n).unwrap(), n);
        let requests = (0..1000).map(|n| item("", large(), &id(batch * 1000 + n))).collect();
        let mut client = client.clone();
        async move {
            let request = BatchRecordEventsRequest { requests, parent: T.to_owned() };
            client.batch_record_events(Caller::root().call(request)).await.unwrap();
        }
    };
    for pair in 0..BATCHES / 2 {
        tokio::join!(batch(pair * 2), batch(pair * 2 + 1));
    }
}

async fn export(client: &Client) -> Streaming<HttpBody> {
    client.clone().export_csv(Caller::root().call(export_of(T))).await.unwrap().into_inner()
}

async fn read_whole(mut stream: Streaming<HttpBody>, gauge: &mut Gauge<'_>) {
    let (mut bytes, mut hash) = (0, Sha256::new());
    while let Some(piece) = stream.message().await.unwrap() {
        bytes += piece.data.len();
        hash.update(&piece.data);
        gauge.read();
    }
    assert!(bytes > MESSAGE_BYTES * usize::try_from(EVENTS).unwrap());
    let trailing = stream.trailers().await.unwrap().unwrap();
    assert_eq!(trailing.get("x-audit-sha256").unwrap(), hex::encode(hash.finalize()).as_str());
}

/// Asks until the log tells that an export was cancelled.
async fn wait_for_cancellation(client: &Client, count: usize, gauge: &mut Gauge<'_>) {
    let filter =
        EventFilter { resource_types: vec!["audit_export".into()], action_types: vec![2], ..Default::default() };
    for _ in 0..1000 {
        let told = client.clone().list_events(Caller::root().call(filtered(T, filter.clone()))).await.unwrap();
        gauge.read();
        if told.into_inner().events.len() == count {
            return;
        }
        between_looks().await;
    }
    panic!("the log never told");
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exports_do_not_make_the_server_grow(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let database = Database::create(backend);
    // One of them is read by nobody for as long as all the others take.
    let server = ChildServer::serve(&database, &[("AUDITLOG_LIMITS_EXPORT_STALL", "1h")]);
    let client = server.client().await;
    fill(&client).await;

    // Somebody who takes one piece and then lets the rest wait, and is not waited for.
    let mut gauge = Gauge::new(&server);
    let mut slow = export(&server.client().await).await;
    slow.message().await.unwrap().unwrap();
    let whole = export(&client).await;
    read_whole(whole, &mut gauge).await;
    gauge.check("an export beside one that nobody reads on");

    let mut gauge = Gauge::new(&server);
    for _ in 0..8 {
        let mut left = export(&client).await;
        left.message().await.unwrap().unwrap();
    }
    wait_for_cancellation(&client, 8, &mut gauge).await;
    gauge.check("exports that were abandoned");

    // The slow one has lost nothing.
    let mut gauge = Gauge::new(&server);
    let mut rows = 0;
    while let Some(piece) = slow.message().await.unwrap() {
        rows += piece.data.iter().filter(|byte| **byte == b'\n').count();
        gauge.read();
    }
    assert_eq!(rows as u64, EVENTS);
    gauge.check("an export that was read slowly");
}

/// Events that are small, with a hundred notes of 4 KiB each: all of them are more than a page has room for.
fn add_notes(database: &Database) {
    let ids = match database.backend {
        Backend::Sqlite => "printf('%08x-0000-7000-8000-%012x', leaf_index, n)",
        Backend::Postgres => {
            "(lpad(to_hex(leaf_index), 8, '0') || '-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid"
        }
    };
    let text = match database.backend {
        Backend::Sqlite => "printf('%.*c', 4096, 'x')",
        Backend::Postgres => "repeat('x', 4096)",
    };
    Sql::open(database).run(&format!(
        "WITH RECURSIVE number (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n < 99) \
         INSERT INTO update_notes SELECT tenant_id, event_id, {ids}, 1000000 + leaf_index * 100 + n, record_time, \
         'user', 'ann', '', {text}, salt, body_commitment, leaf_hash FROM events, number"
    ));
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notes_that_a_page_has_no_room_for_are_not_read(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    const NOTED: usize = 192;
    let database = Database::create(backend);
    let server = ChildServer::serve(&database, &[]);
    let mut client = server.client().await;
    let batch = BatchRecordEventsRequest { parent: T.to_owned(), requests: vec![item("", event("k", "1"), ""); NOTED] };
    client.batch_record_events(Caller::root().call(batch)).await.unwrap();
    add_notes(&database);
    client.list_events(Caller::root().call(ordered(T, Order::NewestFirst, 1))).await.unwrap();
    let mut gauge = Gauge::new(&server);
    for _ in 0..4 {
        let page = client.list_events(Caller::root().call(list(T))).await.unwrap().into_inner();
        assert!(page.events.len() < NOTED && page.events[0].update_notes.len() == 100);
        gauge.read();
    }
    // The notes of few events and the copies of them take 28 MB, and more where one page after the other is read by another thread;
    // those of all events 79, and their copies as much again.
    gauge.check_within(3 * BOUND / 2, "pages of events with many notes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_reset_do_not_make_the_server_grow_while_others_are_served() {
    let server = ChildServer::serve(&Database::create(Backend::Sqlite), &[]);
    let mut client = server.client().await;
    let mut gauge = Gauge::new(&server);
    let flood = tokio::spawn(reset_streams(server.address, 10_000));
    while !flood.is_finished() {
        client.list_events(Caller::root().call(list(T))).await.unwrap();
        gauge.read();
    }
    flood.await.unwrap();
    gauge.check("streams that were reset");
}
