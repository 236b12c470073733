//! Clients that begin and never end, or send what no client sends: each is put out, and the others are served meanwhile.

use std::time::Duration;

use h2::{
    SendStream,
    client::{ResponseFuture, SendRequest},
};
use prost::{Message, bytes::Bytes};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{harness::*, sql::Sql};

const T: &str = "tenants/acme";
/// Longer than anything here takes, on a machine that is busy.
pub const AT_MOST: Duration = Duration::from_secs(30);

/// An HTTP/2 connection of a client that does as it likes.
async fn connect(app: &TestApp) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(app.address).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

pub const LIST: &str = "auditlog.v1.AuditLogService/ListEvents";
const REFLECTION: &str = "grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/// Begins a list, and sends nothing of its message yet.
async fn begin_list(sender: &SendRequest<Bytes>, app: &TestApp, subject: &str) -> (ResponseFuture, SendStream<Bytes>) {
    begin(sender, app, LIST, subject).await
}

pub async fn begin(
    sender: &SendRequest<Bytes>,
    app: &TestApp,
    method: &str,
    subject: &str,
) -> (ResponseFuture, SendStream<Bytes>) {
    begin_as(sender, app, GRPC, method, subject).await
}

/// What is sent, and what is wanted.
pub type Format = [&'static str; 2];
pub const GRPC: Format = ["application/grpc", "application/grpc"];
/// Whose frames are written anew for the reply, in base64.
pub const WEB_TEXT: Format = ["application/grpc-web+proto", "application/grpc-web-text+proto"];

pub async fn begin_as(
    sender: &SendRequest<Bytes>,
    app: &TestApp,
    [sent, wanted]: Format,
    method: &str,
    subject: &str,
) -> (ResponseFuture, SendStream<Bytes>) {
    let mut sender = sender.clone().ready().await.unwrap();
    let request = http::Request::post(format!("http://{}/{method}", app.address))
        .header("content-type", sent)
        .header("accept", wanted)
        .header("te", "trailers")
        .header("x-audit-subject", subject)
        .header("x-audit-permissions", "audit.get@*,audit.list@*,audit.export@*")
        .body(())
        .unwrap();
    sender.send_request(request, false).unwrap()
}

pub fn reader(subject: &str) -> Caller {
    Caller::new(subject).permission("audit.get@*").permission("audit.list@*")
}

/// Calls again and again, until it is refused.
async fn until_refused(app: &TestApp, caller: &Caller) -> Status {
    let refused = async {
        loop {
            if let Err(status) = app.list(caller, list(T)).await {
                return status;
            }
        }
    };
    time::timeout(AT_MOST, refused).await.unwrap()
}

#[tokio::test]
async fn a_call_that_was_begun_has_a_place_and_others_have_theirs() {
    let app = TestApp::start_with(Backend::Sqlite, |config| {
        config.traffic.caller_calls = 2;
        config.traffic.calls = 3;
    })
    .await;
    let (ann, bob) = (reader("ann"), reader("bob"));
    let sender = connect(&app).await;
    let first = begin_list(&sender, &app, "ann").await;
    let second = begin_list(&sender, &app, "ann").await;
    let own = assert_error::<()>(Err(until_refused(&app, &ann).await), Code::ResourceExhausted, "RATE_LIMITED");
    assert!(own.message().contains("more than 2 calls of one caller at a time"), "{own:?}");
    assert!(own.get_details_retry_info().is_some_and(|info| info.retry_delay > Some(Duration::ZERO)));
    app.list(&bob, list(T)).await.unwrap();
    let third = begin_list(&sender, &app, "bob").await;
    let all = assert_error::<()>(Err(until_refused(&app, &bob).await), Code::ResourceExhausted, "RATE_LIMITED");
    assert!(all.message().contains("too many calls are under way"), "{all:?}");
    assert!(all.get_details_retry_info().is_some_and(|info| info.retry_delay > Some(Duration::ZERO)));

    // Places come back with the calls: one that is answered, one that is reset, one whose stream is dropped.
    let (reply, mut message) = first;
    message.send_data(list_message(), true).unwrap();
    assert_eq!(time::timeout(AT_MOST, reply).await.unwrap().unwrap().status(), 200);
    let (_, mut message) = second;
    message.send_reset(h2::Reason::CANCEL);
    drop(third);
    for caller in [ann, bob] {
        let served = async {
            while let Err(refused) = app.list(&caller, list(T)).await {
                assert_error::<()>(Err(refused), Code::ResourceExhausted, "RATE_LIMITED");
            }
        };
        time::timeout(AT_MOST, served).await.unwrap();
    }
}

pub fn list_message() -> Bytes {
    framed(&list(T))
}

/// A message as it is sent.
pub fn framed(request: &impl Message) -> Bytes {
    let request = request.encode_to_vec();
    [&[0][..], &u32::try_from(request.len()).unwrap().to_be_bytes(), &request].concat().into()
}

/// The error that a reply begins with, if it is one.
async fn error_of(reply: ResponseFuture) -> Option<Status> {
    let reply = time::timeout(AT_MOST, reply).await.unwrap().unwrap();
    Status::from_header_map(reply.headers())
}

#[tokio::test]
async fn a_stranger_is_turned_away_before_the_message_comes() {
    // Nothing but their being strangers ends the call.
    let app = TestApp::start_with(Backend::Sqlite, |config| config.traffic.call_time = 100 * AT_MOST).await;
    let (reply, _message) = begin_list(&connect(&app).await, &app, "").await;
    assert_error::<()>(Err(error_of(reply).await.unwrap()), Code::Unauthenticated, "CREDENTIALS_INVALID");
}

#[tokio::test]
async fn streams_without_a_caller_are_counted_and_leave_the_rest_alone() {
    let app = TestApp::start_with(Backend::Sqlite, |config| config.traffic.connection_calls = 2000).await;
    let sender = connect(&app).await;
    let mut open = Vec::new();
    let refused = loop {
        let (reply, message) = begin(&sender, &app, REFLECTION, "").await;
        match error_of(reply).await {
            Some(status) => break status,
            None => open.push(message),
        }
    };
    assert_eq!((open.len(), refused.code()), (1024, Code::ResourceExhausted));
    app.list(&reader("ann"), list(T)).await.unwrap();
    drop(open);
    let served = async {
        loop {
            let (reply, _message) = begin(&sender, &app, REFLECTION, "").await;
            if error_of(reply).await.is_none() {
                break;
            }
        }
    };
    time::timeout(AT_MOST, served).await.unwrap();
}

#[tokio::test]
async fn a_call_whose_message_never_comes_is_ended() {
    let app =
        TestApp::start_with(Backend::Sqlite, |config| config.traffic.call_time = Duration::from_millis(200)).await;
    let sender = connect(&app).await;
    let (reply, _message) = begin_list(&sender, &app, "ann").await;
    assert_error::<()>(Err(error_of(reply).await.unwrap()), Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn metadata_over_the_limit_is_refused_and_the_connection_goes_on() {
    let app = TestApp::start(Backend::Sqlite).await;
    let large = Caller::root().with("x-large", &"x".repeat(20 * 1024));
    assert!(app.list(&large, list(T)).await.is_err());
    let many = (0..500).fold(Caller::root(), |caller, n| caller.with("x-many", &format!("{n} {}", "x".repeat(50))));
    assert!(app.list(&many, list(T)).await.is_err());
    let enough = Caller::root().with("x-large", &"x".repeat(12 * 1024));
    app.list(&enough, list(T)).await.unwrap();
}

/// One frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The greeting of a client, with empty settings.
fn greeting() -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[])].concat()
}

/// Whether the other end closes before it has taken all of `frames`, and `most` of them at most.
async fn is_put_out(app: &TestApp, first: Vec<u8>, again: &[u8], most: usize) -> bool {
    let (mut from, mut to) = TcpStream::connect(app.address).await.unwrap().into_split();
    let ends = tokio::spawn(async move {
        let mut bytes = [0; 4096];
        while matches!(from.read(&mut bytes).await, Ok(1..)) {}
    });
    let floods = async {
        to.write_all(&[greeting(), first].concat()).await.unwrap();
        for _ in 0..most {
            if to.write_all(again).await.is_err() {
                return true;
            }
        }
        ends.await.is_ok()
    };
    time::timeout(AT_MOST, floods).await.unwrap_or(false)
}

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const PING: u8 = 6;

#[tokio::test]
async fn headers_that_never_end_put_their_sender_out() {
    let app = TestApp::start(Backend::Sqlite).await;
    // A literal field that is not put into the table: a name and a value of some length.
    let field = [&[0, 1, b'a', 127, 0x81, 0x7d][..], &[b'x'; 16_000]].concat();
    let (first, again) = (frame(HEADERS, 0, 1, &[0x83]), frame(CONTINUATION, 0, 1, &field[..16_000]));
    assert!(is_put_out(&app, first, &again, 4096).await, "64 MiB of headers were taken");
    app.list(&Caller::root(), list(T)).await.unwrap();
}

#[tokio::test]
async fn a_frame_larger_than_allowed_puts_its_sender_out() {
    let app = TestApp::start(Backend::Sqlite).await;
    assert!(is_put_out(&app, frame(PING, 0, 0, &[0; 100_000]), &frame(PING, 0, 0, &[0; 8]), 1).await);
    app.list(&Caller::root(), list(T)).await.unwrap();
}

/// With the store locked, one caller fills their share of the queue; then another comes.
#[tokio::test]
async fn another_caller_has_room_in_a_flooded_queue_and_is_in_the_next_transaction() {
    const ROOM: usize = 200;
    const BATCH: usize = 25;
    let database = Database::create(Backend::Postgres);
    let app = TestApp::start_on(database.clone(), |config| {
        config.append.queue_events = ROOM;
        config.limits.batch_events = BATCH;
        watched(config);
    })
    .await;
    app.record(&recorder("flood"), T, event("k", "before")).await.unwrap();
    let mut lock = Sql::open(&database);
    lock.run("BEGIN; LOCK TABLE events, tree_heads IN ACCESS EXCLUSIVE MODE");
    let mut flood = JoinSet::new();
    for n in 0..ROOM {
        let (mut client, call) = (app.client.clone(), recorder("flood").call(item(T, event("k", &n.to_string()), "")));
        flood.spawn(async move { client.record_event(call).await });
    }
    // What does not fit is refused at once, so the rest of them are in the queue when all of these are known.
    let mut refused = 0;
    while refused < ROOM / 4 {
        let answer = time::timeout(AT_MOST, flood.join_next()).await.unwrap().unwrap().unwrap();
        assert_error(answer, Code::ResourceExhausted, "QUEUE_FULL");
        refused += 1;
    }
    let (mut client, call) = (app.client.clone(), recorder("ann").call(item(T, event("k", "hers"), "")));
    let hers = tokio::spawn(async move { client.record_event(call).await });
    time::timeout(AT_MOST, async {
        while queued(&app).await != ROOM - refused + 1 {
            between_looks().await;
        }
    })
    .await
    .unwrap();
    lock.run("COMMIT");
    let receipt = hers.await.unwrap().unwrap().into_inner().receipt.unwrap();
    // Before it: the first event, the transaction that was under way, and the flood's share of the next.
    let most = i64::try_from(1 + BATCH + BATCH).unwrap();
    assert!(receipt.leaf_index.unwrap() <= most, "{receipt:?}");
    while let Some(answer) = flood.join_next().await {
        answer.unwrap().unwrap();
    }
    assert_eq!(app.walk(&Caller::root(), list(T)).await.len(), 1 + ROOM - refused + 1);
}

fn recorder(subject: &str) -> Caller {
    Caller::new(subject).permission("audit.create@*")
}

/// How many events wait or are being stored.
async fn queued(app: &TestApp) -> usize {
    app.metric("auditlog_append_queue_events").await as usize
}
