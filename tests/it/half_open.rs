//! Requests that are begun and left open: what lies there is what was sent and no more, and each caller has a share of it.

use std::net::SocketAddr;

use auditlog::proto::auditlog::v1::Event;
use futures_util::future::select_all;
use h2::{
    SendStream,
    client::{ResponseFuture, SendRequest},
};
use prost::bytes::{BufMut as _, Bytes, BytesMut};
use tokio::{net::TcpStream, time};
use tonic::{Code, Status};

use crate::{abuse::AT_MOST, child::ChildServer, harness::*};

const T: &str = "tenants/acme";
const MIB: usize = 1024 * 1024;

/// Begins a batch on a connection of its own, as somebody who may do nothing, sends this and does not end it.
async fn leave_open(address: SocketAddr, subject: &str, sent: Bytes) -> (ResponseFuture, SendStream<Bytes>) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut sender: SendRequest<Bytes> = sender.ready().await.unwrap();
    let request = http::Request::post(format!("http://{address}/auditlog.v1.AuditLogService/BatchRecordEvents"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("x-audit-subject", subject)
        .body(())
        .unwrap();
    let (reply, mut body) = sender.send_request(request, false).unwrap();
    body.send_data(sent, false).unwrap();
    (reply, body)
}

/// The beginning of a message of so many bytes.
fn beginning(length: usize, of: &[u8]) -> Bytes {
    let mut sent = BytesMut::new();
    sent.put_u8(0);
    sent.put_u32(u32::try_from(length).unwrap());
    sent.extend_from_slice(of);
    sent.freeze()
}

/// An empty event takes two bytes on the wire, and hundreds once it is decoded.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_left_open_is_not_decoded() {
    const CALLS: u64 = 20;
    let server = ChildServer::serve(&Database::create(Backend::Sqlite), &[]);
    let mut client = server.client().await;
    client.list_events(Caller::root().call(list(T))).await.unwrap();
    let before = server.resident_bytes();
    let events = [0x0a, 0].repeat(1 << 16);
    let mut open = Vec::new();
    for _ in 0..CALLS {
        open.push(leave_open(server.address, "nobody", beginning(events.len(), &events)).await);
    }
    let mut most = 0;
    for _ in 0..300 {
        client.list_events(Caller::root().call(list(T))).await.unwrap();
        most = most.max(server.resident_bytes());
    }
    // Decoded, they would take 45 MB each.
    let grown = most.saturating_sub(before);
    assert!(grown < 32 * MIB as u64, "{CALLS} calls of 128 KiB took {} MiB", grown >> 20);
}

#[tokio::test]
async fn who_leaves_much_open_gets_no_more_of_it_and_others_do() {
    let app = TestApp::start(Backend::Sqlite).await;
    let large = beginning(8 * MIB, &vec![0; 7 * MIB]);
    let mut open = Vec::new();
    for _ in 0..10 {
        open.push(leave_open(app.address, "ann", large.clone()).await);
    }
    let (replies, bodies): (Vec<_>, Vec<_>) = open.into_iter().unzip();
    let (first, _, others) = time::timeout(AT_MOST, select_all(replies)).await.unwrap();
    let refused = Status::from_header_map(first.unwrap().headers()).unwrap();
    let refused = assert_error::<()>(Err(refused), Code::ResourceExhausted, "RATE_LIMITED");
    assert!(refused.message().contains("still coming in"), "{refused:?}");

    let large = Event { message: "x".repeat(1000), ..event("k", "1") };
    let batch = || vec![item("", large.clone(), ""); 1000];
    app.batch(&Caller::root(), T, batch()).await.unwrap();
    drop((others, bodies));
    // What was left is given back.
    let ann = Caller::new("ann").permission("audit.create@*");
    let taken = async {
        while let Err(refused) = app.batch(&ann, T, batch()).await {
            assert_error::<()>(Err(refused), Code::ResourceExhausted, "RATE_LIMITED");
        }
    };
    time::timeout(AT_MOST, taken).await.unwrap();
}

#[tokio::test]
async fn a_message_that_says_that_it_is_too_large_is_refused_before_it_is_there() {
    const LARGEST: usize = 2 * 4 * MIB;
    let app = TestApp::start(Backend::Sqlite).await;
    for length in [LARGEST + 1, u32::MAX as usize] {
        let (reply, _open) = leave_open(app.address, "ann", beginning(length, &[0; 100])).await;
        let reply = time::timeout(AT_MOST, reply).await.unwrap().unwrap();
        let refused = Status::from_header_map(reply.headers()).unwrap();
        let refused = assert_error::<()>(Err(refused), Code::InvalidArgument, "FIELD_INVALID");
        assert!(refused.message().contains(&length.to_string()), "{refused:?}");
    }
}

/// As much as the setting may be; it is more than a caller has room for otherwise.
#[tokio::test]
async fn a_batch_beyond_the_largest_setting_is_told_the_limit() {
    const LIMIT: usize = 64 * MIB;
    let app = TestApp::start_with(Backend::Sqlite, |config| config.limits.batch_bytes = LIMIT).await;
    let huge = Event { message: "x".repeat(LIMIT), ..event("k", "1") };
    let refused = app.batch(&Caller::root(), T, vec![item("", huge, "")]).await;
    let refused = assert_error(refused, Code::InvalidArgument, "FIELD_INVALID");
    assert!(refused.message().contains(&LIMIT.to_string()), "{refused:?}");
}
