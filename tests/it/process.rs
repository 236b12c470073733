//! `kill -9` under load: what was acknowledged is there, and nothing is there twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use auditlog::proto::auditlog::v1::{
    AddUpdateNoteRequest, BatchRecordEventsRequest, Event, ListEventsRequest, Order, RecordEventRequest,
};
use rstest::rstest;
use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    task::JoinSet,
};

use crate::{
    calls::{Call, Reply},
    child::{ChildServer, PAST_MILLIS},
    harness::*,
    verify::{assert_holds, verify},
};

const T: &str = "tenants/acme";
const P: &str = "tenants/acme/projects/web";
const ROUNDS: usize = 8;
const BATCH: usize = 5;

/// Ids that no two calls share, over all rounds.
#[derive(Default)]
struct Ids(AtomicU64);

impl Ids {
    fn next(&self) -> String {
        id_at(PAST_MILLIS, self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// What was sent, and the reply if there was one.
type Sent = (Call, Option<Reply>);

async fn send(client: &Client, call: &Call) -> Option<Reply> {
    call.clone().send_to(client.clone(), Caller::root().call(())).await.ok()
}

/// Records until the server is gone, and tells of each acknowledgement.
async fn load(client: Client, ids: Arc<Ids>, kind: usize, acknowledged: UnboundedSender<()>) -> Vec<Sent> {
    let mut sent = Vec::new();
    loop {
        for call in next_calls(&ids, kind) {
            let reply = send(&client, &call).await;
            let gone = reply.is_none();
            sent.push((call, reply));
            if gone {
                return sent;
            }
            let _ = acknowledged.send(());
        }
    }
}

/// Unary calls, batches, and events with a note each.
fn next_calls(ids: &Ids, kind: usize) -> Vec<Call> {
    let recorded = |scope, id: &str| item(scope, event("clusterprofile", id), id);
    match kind {
        0 | 1 => vec![Call::Record(recorded(T, &ids.next()))],
        2 => {
            let requests: Vec<RecordEventRequest> = (0..BATCH).map(|_| recorded(P, &ids.next())).collect();
            vec![Call::Batch(BatchRecordEventsRequest { requests, parent: T.to_owned() })]
        }
        _ => {
            let id = ids.next();
            let note =
                AddUpdateNoteRequest { name: format!("{P}/events/{id}"), text: "why".into(), note_id: ids.next() };
            vec![Call::Record(recorded(P, &id)), Call::Note(note)]
        }
    }
}

/// Four callers at a time, until `count` acknowledgements have come; then the process is killed.
async fn round(server: &mut ChildServer, ids: &Arc<Ids>, count: usize) -> Vec<Sent> {
    let (acknowledged, mut acknowledgements) = unbounded_channel();
    let mut callers = JoinSet::new();
    for kind in 0..4 {
        callers.spawn(load(server.client().await, Arc::clone(ids), kind, acknowledged.clone()));
    }
    for _ in 0..count {
        acknowledgements.recv().await.unwrap();
    }
    server.kill();
    callers.join_all().await.concat()
}

/// Sends all of it again: what was acknowledged gets the same reply, what was not is recorded now, if it was not before.
async fn send_again(client: &Client, sent: Vec<Sent>) -> BTreeMap<String, Call> {
    let mut calls = BTreeMap::new();
    for (call, reply) in sent {
        let again = send(client, &call).await.unwrap_or_else(|| panic!("refused: {call:?}"));
        if let Some(reply) = reply {
            assert_eq!(reply.text, again.text);
        }
        calls.insert(again.text, call);
    }
    calls
}

async fn walk(client: &Client) -> Vec<Event> {
    let mut request = ListEventsRequest { order: Order::Log.into(), ..list(T) };
    let mut events = Vec::new();
    loop {
        let page = client.clone().list_events(Caller::root().call(request.clone())).await.unwrap().into_inner();
        events.extend(page.events);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return events;
        }
    }
}

fn sent_ids(call: &Call) -> Vec<String> {
    match call {
        Call::Record(request) => vec![request.event_id.clone()],
        Call::Batch(request) => request.requests.iter().map(|request| request.event_id.clone()).collect(),
        Call::Note(request) => vec![request.note_id.clone()],
        other => unreachable!("{other:?}"),
    }
}

fn stored_ids(event: &Event) -> Vec<(i64, String)> {
    let id = event.name.rsplit_once('/').unwrap().1.to_owned();
    let notes = event.update_notes.iter().map(|note| (note.leaf_index.unwrap(), note.note_id.clone()));
    [(event.leaf_index.unwrap(), id)].into_iter().chain(notes).collect()
}

#[rstest]
#[tokio::test]
async fn kill_9_under_load_loses_nothing_that_was_acknowledged(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let database = Database::create(backend);
    let ids = Arc::new(Ids::default());
    let (mut replies, mut last, mut unanswered) = (BTreeMap::new(), Vec::new(), 0);
    for number in 0..ROUNDS {
        let mut server = ChildServer::serve(&database, &[]);
        let client = server.client().await;
        // Before anything is sent again: what was acknowledged in the last round is there by itself.
        let stored: BTreeSet<String> = walk(&client).await.iter().flat_map(stored_ids).map(|(_, id)| id).collect();
        let acknowledged = last.iter().filter(|(_, reply): &&Sent| reply.is_some());
        assert!(acknowledged.flat_map(|(call, _)| sent_ids(call)).all(|id| stored.contains(&id)));
        replies.extend(send_again(&client, last).await);
        last = round(&mut server, &ids, 7 + 13 * number).await;
        unanswered += last.iter().filter(|(_, reply)| reply.is_none()).count();
    }
    let server = ChildServer::serve(&database, &[]);
    let client = server.client().await;
    replies.extend(send_again(&client, last).await);
    // Each round was cut off in the midst of calls.
    assert_eq!(unanswered, 4 * ROUNDS);

    let mut leaves: Vec<(i64, String)> = walk(&client).await.iter().flat_map(stored_ids).collect();
    leaves.sort();
    let places: Vec<i64> = leaves.iter().map(|(place, _)| *place).collect();
    assert_eq!(places, (0..i64::try_from(leaves.len()).unwrap()).collect::<Vec<_>>());
    let mut stored: Vec<String> = leaves.into_iter().map(|(_, id)| id).collect();
    stored.sort();
    let mut sent: Vec<String> = replies.values().flat_map(sent_ids).collect();
    sent.sort();
    assert_eq!(stored, sent);
    assert_holds(&verify(&database, "acme", &[]));
}
