//! Too much, too slow, or nothing at all: each gets its answer, and the others do not suffer.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use auditlog::proto::auditlog::v1::{EventFilter, ExportCsvRequest, audit_log_service_client::AuditLogServiceClient};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{Code, Status, Streaming, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt as _;

use crate::harness::*;

const T: &str = "tenants/acme";

fn somebody(subject: &str) -> Caller {
    ["audit.get@*", "audit.list@*", "audit.export@*", "audit.create@*"]
        .into_iter()
        .fold(Caller::new(subject), Caller::permission)
}

/// A client with a connection of its own, whose streams hold no more than 64 KiB that nobody reads.
async fn narrow_client(app: &TestApp) -> Client {
    let endpoint = Endpoint::from_shared(format!("http://{}", app.address)).unwrap().initial_stream_window_size(65_535);
    AuditLogServiceClient::new(endpoint.connect().await.unwrap())
}

/// A log whose export is larger than what a connection takes unread.
async fn record_much(app: &TestApp) {
    let much = |n: usize| {
        let mut event = event("k", &n.to_string());
        event.message = "x".repeat(4000);
        item("", event, "")
    };
    for _ in 0..2 {
        app.batch(&Caller::root(), T, (0..400).map(much).collect()).await.unwrap();
    }
}

async fn export(
    client: &mut Client,
    caller: &Caller,
) -> Result<Streaming<auditlog::proto::google::api::HttpBody>, Status> {
    let request = ExportCsvRequest { parent: T.to_owned(), ..Default::default() };
    Ok(client.export_csv(caller.call(request)).await?.into_inner())
}

#[track_caller]
fn assert_limited<T: std::fmt::Debug>(result: Result<T, Status>, text: &str) -> Duration {
    let status = assert_error(result, Code::ResourceExhausted, "RATE_LIMITED");
    assert!(status.message().contains(text), "{status:?}");
    status.get_details_retry_info().and_then(|info| info.retry_delay).expect("a RetryInfo with a delay")
}

#[tokio::test]
async fn who_calls_too_often_waits_and_others_do_not() {
    let app = TestApp::start_with(Backend::Sqlite, |config| config.traffic.caller_rate = 3).await;
    let (flood, other) = (somebody("flood"), somebody("other"));
    let begun = Instant::now();
    let mut passed = 0;
    let wait = loop {
        match app.list(&flood, list(T)).await {
            Ok(_) => passed += 1,
            refused => break assert_limited(refused, "more than 3 calls a second"),
        }
    };
    assert!(passed as f64 <= 3.0 * (begun.elapsed().as_secs_f64() + 1.0) + 1.0, "{passed} passed");
    assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1), "{wait:?}");
    app.list(&other, list(T)).await.unwrap();
    let mut health = HealthClient::new(app.channel.clone());
    for _ in 0..20 {
        health.check(HealthCheckRequest::default()).await.unwrap();
    }
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_ended_with_a_reason() {
    let app = TestApp::start_with(Backend::Sqlite, |config| config.traffic.call_time = Duration::from_nanos(1)).await;
    // A thousand events take longer than the millisecond that timers are exact to.
    let events = (0..1000).map(|n| item("", event("k", &n.to_string()), "")).collect();
    let result = app.batch(&Caller::root(), T, events).await;
    let status = assert_error(result, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    assert!(status.message().contains("the time that a call may take"), "{status:?}");
}

#[tokio::test]
async fn exports_of_one_caller_and_of_all_are_counted_while_they_run() {
    let app = TestApp::start_with(Backend::Sqlite, |config| {
        config.traffic.caller_exports = 1;
        config.traffic.exports = 2;
    })
    .await;
    record_much(&app).await;
    let mut client = narrow_client(&app).await;
    let (ann, bob, eve) = (somebody("ann"), somebody("bob"), somebody("eve"));
    let first = export(&mut client, &ann).await.unwrap();
    assert_limited(export(&mut client, &ann).await, "more than 1 exports of one caller");
    let mut second = export(&mut client, &bob).await.unwrap();
    assert_limited(export(&mut client, &eve).await, "too many exports are under way");
    while second.message().await.unwrap().is_some() {}
    export(&mut client, &eve).await.unwrap();
    drop(first);
}

#[tokio::test]
async fn an_export_that_nobody_reads_ends_and_its_connection_with_it() {
    let app = TestApp::start_with(Backend::Sqlite, |config| {
        config.traffic.export_stall = Duration::from_millis(100);
        config.traffic.caller_exports = 1;
    })
    .await;
    record_much(&app).await;
    let (mut client, ann) = (narrow_client(&app).await, somebody("ann"));
    let mut unread = export(&mut client, &ann).await.unwrap();
    // Its end is in the log, and its place is free, although not a byte was read.
    let ended = tokio::time::timeout(Duration::from_secs(20), async {
        while !has_ended_an_export(&app).await {
            between_looks().await;
        }
    });
    ended.await.unwrap();
    let end = loop {
        match unread.message().await {
            Ok(Some(_)) => (),
            Ok(None) => panic!("it looks complete"),
            Err(status) => break status,
        }
    };
    assert_ne!(end.code(), Code::Ok);
    let mut whole = export(&mut narrow_client(&app).await, &ann).await.unwrap();
    while whole.message().await.unwrap().is_some() {}
}

#[tokio::test]
async fn a_reader_that_stops_costs_the_others_on_its_connection_nothing() {
    const STALL: Duration = Duration::from_secs(2);
    let app = TestApp::start_with(Backend::Sqlite, |config| config.traffic.export_stall = STALL).await;
    record_much(&app).await;
    let mut client = narrow_client(&app).await;
    let mut slow = export(&mut client, &somebody("a")).await.unwrap();
    let mut fast = export(&mut client, &somebody("b")).await.unwrap();
    // The one reads a piece in time, each time, until the other has stood still for too long.
    let mut read = Instant::now();
    while !has_ended_an_export(&app).await {
        if read.elapsed() > STALL / 4 {
            assert!(fast.message().await.unwrap().is_some(), "the export is too small for this test");
            read = Instant::now();
        }
        between_looks().await;
    }
    while fast.message().await.unwrap().is_some() {}
    let status = loop {
        match slow.message().await {
            Ok(Some(_)) => (),
            Ok(None) => panic!("it looks complete"),
            Err(status) => break status,
        }
    };
    assert_error::<()>(Err(status), Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
}

async fn has_ended_an_export(app: &TestApp) -> bool {
    let exports = EventFilter { resource_types: vec!["audit_export".to_owned()], ..Default::default() };
    let page = app.list(&Caller::root(), filtered(T, exports)).await.unwrap();
    page.events.iter().any(|event| event.message.contains("was ended because its reader took nothing"))
}

/// The other side has closed: an end, or a reset.
async fn closes(stream: &mut TcpStream) -> bool {
    let mut bytes = [0; 1024];
    loop {
        match stream.read(&mut bytes).await {
            Ok(0) | Err(_) => return true,
            Ok(_) => (),
        }
    }
}

#[tokio::test]
async fn a_peer_that_does_not_greet_is_put_out() {
    let app =
        TestApp::start_with(Backend::Sqlite, |config| config.traffic.handshake_time = Duration::from_millis(100)).await;
    let mut silent = TcpStream::connect(app.address).await.unwrap();
    assert!(closes(&mut silent).await);
    let mut slow = TcpStream::connect(app.address).await.unwrap();
    slow.write_all(b"PRI * HTTP/2").await.unwrap();
    assert!(closes(&mut slow).await);
    app.list(&Caller::root(), list(T)).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_put_out() {
    let app =
        TestApp::start_with(Backend::Sqlite, |config| config.traffic.idle_time = Duration::from_millis(100)).await;
    let mut peer = TcpStream::connect(app.address).await.unwrap();
    // The greeting, empty settings, and the beginning of a frame that never ends.
    peer.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\x10").await.unwrap();
    assert!(closes(&mut peer).await);
}

#[tokio::test]
async fn a_connection_too_many_is_closed_and_a_free_place_is_used() {
    let app = TestApp::start_with(Backend::Sqlite, |config| config.traffic.connections = 2).await;
    app.list(&Caller::root(), list(T)).await.unwrap();
    let second = TcpStream::connect(app.address).await.unwrap();
    let mut third = TcpStream::connect(app.address).await.unwrap();
    assert!(closes(&mut third).await);
    app.list(&Caller::root(), list(T)).await.unwrap();
    drop(second);
    let again = async {
        loop {
            let client = Client::connect(format!("http://{}", app.address)).await;
            let Ok(mut client) = client else { continue };
            if client.list_events(Caller::root().call(list(T))).await.is_ok() {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), again).await.unwrap();
}

/// Begins a call and resets it, so many times, over as many connections as that takes.
pub async fn reset_streams(address: SocketAddr, count: usize) {
    let (mut reset, mut connections) = (0, 0);
    while reset < count {
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
        let running = tokio::spawn(connection);
        connections += 1;
        while reset < count {
            let Ok(ready) = sender.clone().ready().await else { break };
            sender = ready;
            let uri = format!("http://{address}/auditlog.v1.AuditLogService/ListEvents");
            let request = http::Request::post(uri).header("content-type", "application/grpc").body(()).unwrap();
            let Ok((_reply, mut body)) = sender.send_request(request, false) else { break };
            body.send_reset(h2::Reason::CANCEL);
            reset += 1;
        }
        drop(sender);
        let _ = running.await;
    }
    assert!(connections < count / 2, "{connections} connections");
}

#[tokio::test]
async fn ten_thousand_streams_that_are_reset_at_once_change_nothing() {
    let app = TestApp::start(Backend::Sqlite).await;
    reset_streams(app.address, 10_000).await;
    app.record(&Caller::root(), T, event("k", "1")).await.unwrap();
    assert_eq!(app.walk(&Caller::root(), list(T)).await.len(), 1);
}
