//! Clients that take nothing of what they have asked for: what waits for them in memory is counted, and ended in time.

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
use futures_util::task::AtomicWaker;
use h2::client::SendRequest;
use prost::bytes::Bytes;
use rstest::rstest;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    task::JoinHandle,
    time,
};
use tonic::{Code, Status};

use crate::{
    abuse::{AT_MOST, Format, GRPC, LIST, WEB_TEXT, begin, begin_as, framed, list_message, reader},
    harness::*,
};

const T: &str = "tenants/acme";

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
    const EXPORTS: usize = 80;
    // Of few callers: with many, two of them might share what one is allowed.
    const EACH: usize = 16;
    let app = TestApp::start_with(Backend::Sqlite, |config| {
        config.traffic.exports = 2 * EXPORTS;
        config.traffic.caller_exports = EACH;
    })
    .await;
    let large = Event { message: "m".repeat(4000), ..event("k", "1") };
    app.batch(&Caller::root(), T, vec![item("", large, ""); 60]).await.unwrap();
    let (sender, ear) = connect_deaf(&app).await;
    // All are begun before any message goes, and the messages go at once: a server that cannot write reads no more of a connection.
    let mut unread = Vec::new();
    for n in 0..EXPORTS {
        unread.push(begin(&sender, &app, EXPORT, &format!("user{}", n / EACH)).await);
    }
    for (_, message) in &mut unread {
        message.send_data(framed(&export_of(T)), true).unwrap();
    }
    let exports = EventFilter { resource_types: vec!["audit_export".into()], ..Default::default() };
    let begun = ListEventsRequest { page_size: 1000, ..filtered(T, exports) };
    let begun = async || app.list(&Caller::root(), begun.clone()).await.unwrap().events.len();
    let all_begun = time::timeout(AT_MOST, async { while begun().await < EXPORTS {} }).await;
    assert!(all_begun.is_ok(), "only {} of {EXPORTS} have begun", begun().await);
    let last = reader(&format!("user{}", (EXPORTS - 1) / EACH)).permission("audit.export@*");
    let export = async || app.export(&last, export_of(T)).await;
    // They end within a moment, for all that the service has to do with them.
    for _ in 0..100 {
        let refused = assert_error(export().await.map(drop), Code::ResourceExhausted, "RATE_LIMITED");
        assert!(refused.message().contains("more than 16 exports of one caller"), "{refused:?}");
    }
    ear.open();
    let served = async { while export().await.is_err() {} };
    time::timeout(AT_MOST, served).await.unwrap();
}

/// A connection that has room for everything, and takes nothing until its ear is opened.
async fn connect_deaf(app: &TestApp) -> (SendRequest<Bytes>, Arc<Ear>) {
    const ROOM: u32 = (1 << 31) - 1;
    let (stream, ear) = (TcpStream::connect(app.address).await.unwrap(), Arc::new(Ear::default()));
    let stream = Deaf { stream, ear: Arc::clone(&ear) };
    let mut settings = h2::client::Builder::new();
    settings.initial_window_size(ROOM).initial_connection_window_size(ROOM);
    let (sender, connection) = settings.handshake::<_, Bytes>(stream).await.unwrap();
    tokio::spawn(connection);
    (sender, ear)
}

/// What a [`Deaf`] one waits for.
#[derive(Default)]
struct Ear {
    is_open: AtomicBool,
    waker: AtomicWaker,
}

impl Ear {
    fn open(&self) {
        self.is_open.store(true, Ordering::Release);
        self.waker.wake();
    }
}

struct Deaf {
    stream: TcpStream,
    ear: Arc<Ear>,
}

impl AsyncRead for Deaf {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.ear.waker.register(cx.waker());
        match self.ear.is_open.load(Ordering::Acquire) {
            true => Pin::new(&mut self.stream).poll_read(cx, buf),
            false => Poll::Pending,
        }
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

/// Where the connection goes on, what was made of an export waits there after its end, too.
#[tokio::test]
async fn ended_exports_of_which_nobody_reads_a_byte_are_not_without_number() {
    let app = TestApp::start_with(Backend::Sqlite, |config| {
        config.traffic.export_stall = Duration::from_millis(1);
        config.traffic.caller_exports = 1;
        config.traffic.call_time = 100 * AT_MOST;
    })
    .await;
    app.record(&Caller::root(), T, event("k", "1")).await.unwrap();
    let stream = TcpStream::connect(app.address).await.unwrap();
    let (sender, connection) =
        h2::client::Builder::new().initial_window_size(0).handshake::<_, Bytes>(stream).await.unwrap();
    tokio::spawn(connection);
    let _keeps_it_open = begin(&sender, &app, LIST, "bob").await;
    let mut unread = Vec::new();
    let refused = loop {
        let (reply, mut message) = begin(&sender, &app, EXPORT, "ann").await;
        message.send_data(framed(&export_of(T)), true).unwrap();
        let reply = time::timeout(AT_MOST, reply).await.unwrap().unwrap();
        match Status::from_header_map(reply.headers()) {
            Some(status) if status.message().contains("more than 1 exports") => (),
            Some(status) => break status,
            None => unread.push(reply),
        }
        assert!(unread.len() < 100, "no end of exports that nobody reads");
    };
    let status = assert_error::<()>(Err(refused), Code::ResourceExhausted, "RATE_LIMITED");
    assert!(status.message().contains("have not been read"), "{status:?}");
    drop(unread);
    let ann = reader("ann").permission("audit.export@*");
    let served = async { while app.export(&ann, export_of(T)).await.is_err() {} };
    time::timeout(AT_MOST, served).await.unwrap();
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
