//! Clients that begin and never end, or send what no client sends: each is put out, and the others are served meanwhile.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use auditlog::proto::auditlog::v1::{Event, EventFilter, ListEventsRequest};
use h2::{
    SendStream,
    client::{ResponseFuture, SendRequest},
};
use prost::{Message, bytes::Bytes};
use rstest::rstest;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
    task::{JoinHandle, JoinSet},
    time,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{harness::*, sql::Sql};

const T: &str = "tenants/acme";
/// Longer than anything here takes, on a machine that is busy.
const AT_MOST: Duration = Duration::from_secs(30);

/// An HTTP/2 connection of a client that does as it likes.
async fn connect(app: &TestApp) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(app.address).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

const LIST: &str = "auditlog.v1.AuditLogService/ListEvents";
const REFLECTION: &str = "grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/// Begins a list, and sends nothing of its message yet.
async fn begin_list(sender: &SendRequest<Bytes>, app: &TestApp, subject: &str) -> (ResponseFuture, SendStream<Bytes>) {
    begin(sender, app, LIST, subject).await
}

async fn begin(
    sender: &SendRequest<Bytes>,
    app: &TestApp,
    method: &str,
    subject: &str,
) -> (ResponseFuture, SendStream<Bytes>) {
    begin_as(sender, app, GRPC, method, subject).await
}

/// What is sent, and what is wanted.
type Format = [&'static str; 2];
const GRPC: Format = ["application/grpc", "application/grpc"];
/// Whose frames are written anew for the reply, in base64.
const WEB_TEXT: Format = ["application/grpc-web+proto", "application/grpc-web-text+proto"];

async fn begin_as(
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

fn reader(subject: &str) -> Caller {
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

fn list_message() -> Bytes {
    framed(&list(T))
}

/// A message as it is sent.
fn framed(request: &impl Message) -> Bytes {
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

/// Of each reply as many bytes as its reader makes room for are sent, and the rest waits.
#[rstest]
#[case(GRPC, 0)]
#[case(GRPC, 1)]
#[case(GRPC, 65_535)]
#[case(WEB_TEXT, 0)]
#[tokio::test]
async fn who_does_not_read_replies_gets_no_more_of_them(#[case] format: Format, #[case] window: u32) {
    let app = TestApp::start(Backend::Sqlite).await;
    let large = Event { message: "m".repeat(4000), ..event("k", "1") };
    for _ in 0..2 {
        app.batch(&Caller::root(), T, vec![item("", large.clone(), ""); 900]).await.unwrap();
    }
    let stream = TcpStream::connect(app.address).await.unwrap();
    let (sender, connection) =
        h2::client::Builder::new().initial_window_size(window).handshake::<_, Bytes>(stream).await.unwrap();
    tokio::spawn(connection);
    let mut unread = Vec::new();
    let refused = loop {
        let (reply, mut message) = begin_as(&sender, &app, format, LIST, "ann").await;
        message.send_data(list_message(), true).unwrap();
        let reply = time::timeout(AT_MOST, reply).await.unwrap().unwrap();
        match Status::from_header_map(reply.headers()) {
            Some(status) => break status,
            None => unread.push(reply),
        }
        assert!(unread.len() < 1000, "no end of replies that nobody reads");
    };
    let status = assert_error::<()>(Err(refused), Code::ResourceExhausted, "RATE_LIMITED");
    assert!(status.message().contains("have not been read"), "{status:?}");
    // Others are not concerned, nor are replies that are small, and with the replies their room comes back.
    app.list(&reader("bob"), list(T)).await.unwrap();
    let small = ListEventsRequest { page_size: 1, ..list(T) };
    app.list(&reader("ann"), small).await.unwrap();
    drop(unread);
    let served = async { while app.list(&reader("ann"), list(T)).await.is_err() {} };
    time::timeout(AT_MOST, served).await.unwrap();
}

const EXPORT: &str = "auditlog.v1.AuditLogService/ExportCsv";

/// The service has made all of it and handed it to its transport. There is room for it at the reader's end, as the reader says,
/// who then takes no byte from the connection.
#[tokio::test]
async fn an_export_has_its_place_until_it_is_sent() {
    // More than the kernel takes of a connection unread, in exports of so few bytes that the transport takes each as a whole.
    const EXPORTS: usize = 100;
    let app = TestApp::start_with(Backend::Sqlite, |config| {
        config.traffic.exports = 2 * EXPORTS;
        config.traffic.caller_exports = 1;
    })
    .await;
    let large = Event { message: "m".repeat(4000), ..event("k", "1") };
    app.batch(&Caller::root(), T, vec![item("", large, ""); 60]).await.unwrap();
    let (sender, is_deaf) = connect_deaf(&app).await;
    is_deaf.store(true, Ordering::Release);
    let mut unread = Vec::new();
    for n in 0..EXPORTS {
        let (reply, mut message) = begin(&sender, &app, EXPORT, &format!("user{n}")).await;
        message.send_data(framed(&export_of(T)), true).unwrap();
        unread.push(reply);
    }
    let exports = EventFilter { resource_types: vec!["audit_export".into()], ..Default::default() };
    let begun = ListEventsRequest { page_size: 1000, ..filtered(T, exports) };
    let begun = async || app.list(&Caller::root(), begun.clone()).await.unwrap().events.len();
    time::timeout(AT_MOST, async { while begun().await < EXPORTS {} }).await.unwrap();
    let last = reader(&format!("user{}", EXPORTS - 1)).permission("audit.export@*");
    let export = async || app.export(&last, export_of(T)).await;
    // It ends within a moment, for all that the service has to do with it.
    for _ in 0..100 {
        let refused = assert_error(export().await.map(drop), Code::ResourceExhausted, "RATE_LIMITED");
        assert!(refused.message().contains("more than 1 exports of one caller"), "{refused:?}");
    }
    is_deaf.store(false, Ordering::Release);
    let served = async { while export().await.is_err() {} };
    time::timeout(AT_MOST, served).await.unwrap();
}

/// A connection that has room for everything, and takes nothing while the flag is set.
async fn connect_deaf(app: &TestApp) -> (SendRequest<Bytes>, Arc<AtomicBool>) {
    const ROOM: u32 = (1 << 31) - 1;
    let (stream, is_deaf) = (TcpStream::connect(app.address).await.unwrap(), Arc::new(AtomicBool::new(false)));
    let stream = Deaf { stream, is_deaf: Arc::clone(&is_deaf) };
    let mut settings = h2::client::Builder::new();
    settings.initial_window_size(ROOM).initial_connection_window_size(ROOM);
    let (sender, connection) = settings.handshake::<_, Bytes>(stream).await.unwrap();
    tokio::spawn(connection);
    (sender, is_deaf)
}

/// Passes nothing on of what it is sent while its flag is set.
struct Deaf {
    stream: TcpStream,
    is_deaf: Arc<AtomicBool>,
}

impl AsyncRead for Deaf {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_deaf.load(Ordering::Acquire) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Deaf {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[rstest]
#[tokio::test]
async fn an_export_of_which_nobody_reads_a_byte_costs_its_connection(#[values(GRPC, WEB_TEXT)] format: Format) {
    let app =
        TestApp::start_with(Backend::Sqlite, |config| config.traffic.export_stall = Duration::from_millis(100)).await;
    app.record(&Caller::root(), T, event("k", "1")).await.unwrap();
    let (connection, _unread) = unread_export(&app, format).await;
    // Whether in an error or not: it ends.
    let _ = time::timeout(AT_MOST, connection).await.unwrap().unwrap();
}

/// An export of ann's on a connection of its own, by somebody who makes no room for a byte of it.
async fn unread_export(
    app: &TestApp,
    format: Format,
) -> (JoinHandle<Result<(), h2::Error>>, http::Response<h2::RecvStream>) {
    let stream = TcpStream::connect(app.address).await.unwrap();
    let (sender, connection) =
        h2::client::Builder::new().initial_window_size(0).handshake::<_, Bytes>(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let (reply, mut message) = begin_as(&sender, app, format, EXPORT, "ann").await;
    message.send_data(framed(&export_of(T)), true).unwrap();
    let reply = time::timeout(AT_MOST, reply).await.unwrap().unwrap();
    assert!(Status::from_header_map(reply.headers()).is_none(), "{reply:?}");
    (connection, reply)
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
    time::timeout(AT_MOST, async { while queued(&app).await != ROOM - refused + 1 {} }).await.unwrap();
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
