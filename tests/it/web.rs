//! gRPC-Web over HTTP/1.1, as a console in a browser calls.

use std::net::SocketAddr;

use auditlog::proto::auditlog::v1::{ListEventsResponse, RecordEventResponse};
use http::{HeaderMap, Method, Request, Response};
use hyper::body::Bytes;
use prost::Message;
use rstest::rstest;

use crate::{harness::*, http1};

const T: &str = "tenants/acme";
const CONSOLE: &str = "https://console.example.com";

/// What came back of a gRPC-Web call.
#[derive(Debug)]
pub struct WebReply {
    pub http: u16,
    pub headers: HeaderMap,
    pub messages: Vec<Bytes>,
    /// The trailers, from the last frame of the body; of a reply without messages, from its head.
    pub trailers: String,
}

impl WebReply {
    pub fn code(&self) -> Option<i32> {
        let in_body = self.trailers.lines().find_map(|line| line.strip_prefix("grpc-status:"));
        let in_head = self.headers.get("grpc-status").map(|value| value.to_str().unwrap());
        in_body.or(in_head).map(|code| code.trim().parse().unwrap())
    }
}

/// Calls `AuditLogService`'s `method`.
pub async fn call(address: SocketAddr, method: &str, message: &impl Message, headers: &[(&str, &str)]) -> WebReply {
    reply(http1::send(address, request(method, message, headers)).await)
}

/// The request of a call.
pub fn request(method: &str, message: &impl Message, headers: &[(&str, &str)]) -> Request<Vec<u8>> {
    let encoded = message.encode_to_vec();
    let mut body = vec![0];
    body.extend(u32::try_from(encoded.len()).unwrap().to_be_bytes());
    body.extend(encoded);
    let mut request = Request::post(format!("/auditlog.v1.AuditLogService/{method}"))
        .header("host", "localhost")
        .header("content-type", "application/grpc-web+proto")
        .header("x-grpc-web", "1");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body).unwrap()
}

/// Parts a reply into its frames.
pub fn reply(response: Response<Bytes>) -> WebReply {
    let (head, mut body) = response.into_parts();
    let (mut messages, mut trailers) = (Vec::new(), String::new());
    while head.status.is_success() && body.len() >= 5 {
        let length = u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize;
        let frame = body.split_to(5 + length);
        match frame[0] {
            0x80 => trailers = String::from_utf8(frame[5..].to_vec()).unwrap(),
            _ => messages.push(frame.slice(5..)),
        }
    }
    WebReply { http: head.status.as_u16(), headers: head.headers, messages, trailers }
}

const ROOT: [(&str, &str); 2] =
    [("x-audit-subject", "root"), ("x-audit-permissions", "audit.get@*,audit.list@*,audit.create@*")];

#[rstest]
#[tokio::test]
async fn a_web_call_is_a_call(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let recorded = call(app.address, "RecordEvent", &item(T, event("k", "1"), ""), &ROOT).await;
    assert_eq!((recorded.http, recorded.code()), (200, Some(0)), "{recorded:?}");
    let receipt = RecordEventResponse::decode(recorded.messages[0].clone()).unwrap().receipt.unwrap();
    assert_eq!(receipt.leaf_index, Some(0));
    // Over HTTP/2 on the same address, plain gRPC sees it.
    assert_eq!(app.get(&Caller::root(), &receipt.name).await.unwrap().leaf_index, Some(0));
    let listed = call(app.address, "ListEvents", &list(T), &ROOT).await;
    assert_eq!(ListEventsResponse::decode(listed.messages[0].clone()).unwrap().events.len(), 1);
    // An error is one here too, with our details and the call's name.
    let refused = call(app.address, "ListEvents", &list(T), &[]).await;
    assert_eq!((refused.http, refused.code()), (200, Some(16)), "{refused:?}");
    assert!(refused.headers.contains_key("x-request-id"));
    assert!(recorded.headers.keys().all(|name| !name.as_str().starts_with("access-control-")), "{recorded:?}");
}

#[rstest]
#[tokio::test]
async fn what_is_no_web_call_gets_nothing_over_http_1(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    app.record(&Caller::root(), T, event("k", "1")).await.unwrap();
    assert_eq!(http1::get(app.address, "/metrics").await, (400, String::new()));
    let grpc = Request::post("/auditlog.v1.AuditLogService/ListEvents")
        .header("host", "localhost")
        .header("content-type", "application/grpc")
        .body("")
        .unwrap();
    assert_eq!(http1::send(app.address, grpc).await.status(), 400);
}

/// What a browser asks before a page of `origin` may call.
pub fn preflight(origin: &str) -> Request<&'static str> {
    Request::builder()
        .method(Method::OPTIONS)
        .uri("/auditlog.v1.AuditLogService/ListEvents")
        .header("host", "localhost")
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type,x-grpc-web,x-audit-subject")
        .body("")
        .unwrap()
}

#[rstest]
#[tokio::test]
async fn only_pages_of_an_allowed_origin_may_call(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start_with(backend, |config| config.cors.allowed_origins = [CONSOLE.to_owned()].into()).await;
    let allowed = http1::send(app.address, preflight(CONSOLE)).await;
    assert_eq!(allowed.status(), 200);
    assert_eq!(allowed.headers()["access-control-allow-origin"], CONSOLE);
    assert_eq!(allowed.headers()["access-control-allow-methods"], "POST");
    assert_eq!(allowed.headers()["access-control-allow-headers"], "content-type,x-grpc-web,x-audit-subject");
    let stranger = http1::send(app.address, preflight("https://evil.example.com")).await;
    assert!(!stranger.headers().contains_key("access-control-allow-origin"), "{stranger:?}");

    let with_origin = |origin| [ROOT[0], ROOT[1], ("origin", origin)];
    let called = call(app.address, "ListEvents", &list(T), &with_origin(CONSOLE)).await;
    assert_eq!(called.code(), Some(0), "{called:?}");
    assert_eq!(called.headers["access-control-allow-origin"], CONSOLE);
    let exposed = called.headers["access-control-expose-headers"].to_str().unwrap();
    assert!(exposed.contains("grpc-status") && exposed.contains("x-request-id"), "{exposed}");
    for origin in ["https://evil.example.com", "http://console.example.com", "null"] {
        let called = call(app.address, "ListEvents", &list(T), &with_origin(origin)).await;
        assert_eq!((called.code(), called.messages.len()), (Some(7), 0), "{origin}: {called:?}");
        assert!(!called.headers.contains_key("access-control-allow-origin"), "{called:?}");
    }
}

/// A page that had its own name point at this address sends the name along, and without a rule it would be believed.
#[rstest]
#[tokio::test]
async fn without_allowed_origins_no_page_may_call(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let headers = [ROOT[0], ROOT[1], ("origin", "http://rebound.example.com")];
    let called = call(app.address, "RecordEvent", &item(T, event("k", "1"), ""), &headers).await;
    assert_eq!(called.code(), Some(7), "{called:?}");
    assert!(app.walk(&Caller::root(), list(T)).await.is_empty());
}

#[rstest]
#[tokio::test]
async fn an_old_connection_is_asked_to_go(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let max_age = std::time::Duration::from_millis(500);
    let app = TestApp::start_with(backend, |config| config.connection.max_age = Some(max_age)).await;
    // A server that lets a connection grow old keeps it open until its client goes; this one ends it by itself.
    let stream = tokio::net::TcpStream::connect(app.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, String>(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("/").header("host", "localhost").body(String::new()).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 400);
    connection.await.unwrap().unwrap();
    // Calls go on, on new connections.
    app.record(&Caller::root(), T, event("k", "1")).await.unwrap();
}
