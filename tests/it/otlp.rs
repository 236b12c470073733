//! Traces on their way to a collector: the program as a child process, and a real OTLP receiver.

use std::{fs, net::SocketAddr};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{ResourceSpans, Span, span::SpanKind},
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

use crate::{
    child::{ChildServer, auditlog},
    harness::*,
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

struct Collector(mpsc::UnboundedSender<ResourceSpans>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for spans in request.into_inner().resource_spans {
            self.0.send(spans).unwrap();
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn collector() -> (SocketAddr, mpsc::UnboundedReceiver<ResourceSpans>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, received) = mpsc::unbounded_channel();
    let service = TraceServiceServer::new(Collector(sender));
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)));
    (address, received)
}

fn text<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    let value = attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref()?;
    match value.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

/// Records one event in the caller's trace, and lets the program end.
async fn record_and_end(server: ChildServer, traceparent: &str) -> String {
    let mut client = server.client().await;
    let caller = Caller::root().with("traceparent", traceparent);
    client.record_event(caller.call(item("tenants/acme", event("k", "1"), ""))).await.unwrap();
    drop(client);
    server.signal("TERM");
    let (code, log) = server.end().await;
    assert_eq!(code, Some(0), "{log}");
    log
}

#[tokio::test(flavor = "multi_thread")]
async fn the_callers_trace_goes_on_in_ours_and_all_is_sent_before_the_end() {
    let (address, mut received) = collector().await;
    let endpoint = format!("http://{address}");
    // The batch would go out an hour later: what arrives was sent because the program ended.
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_SERVICE_NAME", "audit-of-acme"),
        ("OTEL_BSP_SCHEDULE_DELAY", "3600000"),
    ];
    let log = record_and_end(
        ChildServer::serve(&Database::create(Backend::Sqlite), &variables),
        &format!("00-{TRACE}-{SPAN}-01"),
    )
    .await;

    let spans = received.try_recv().unwrap();
    let resource = spans.resource.unwrap();
    assert_eq!(text(&resource.attributes, "service.name"), Some("audit-of-acme"));
    let spans: Vec<Span> = spans.scope_spans.into_iter().flat_map(|scope| scope.spans).collect();
    let call = spans.iter().find(|span| span.name == "auditlog.v1.AuditLogService/RecordEvent").expect("a call's span");
    assert_eq!(hex(&call.trace_id), TRACE);
    assert_eq!(hex(&call.parent_span_id), SPAN);
    assert_eq!(call.kind(), SpanKind::Server);
    assert_eq!(text(&call.attributes, "rpc.system"), Some("grpc"));
    assert!(call.attributes.iter().any(|attribute| attribute.key == "rpc.grpc.status_code"));
    // The log can be joined to the trace.
    let line = log.lines().find(|line| line.contains("call ended")).unwrap();
    assert!(line.contains(TRACE) && line.contains(SPAN), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_that_its_caller_does_not_record_is_not_sent() {
    let (address, mut received) = collector().await;
    let endpoint = format!("http://{address}");
    let variables = [("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", endpoint.as_str())];
    record_and_end(
        ChildServer::serve(&Database::create(Backend::Sqlite), &variables),
        &format!("00-{TRACE}-{SPAN}-00"),
    )
    .await;
    while let Ok(spans) = received.try_recv() {
        let sent = spans.scope_spans.into_iter().flat_map(|scope| scope.spans);
        assert!(sent.into_iter().all(|span| hex(&span.trace_id) != TRACE));
    }
}

/// The program needs nothing that lies about, and leaves nothing but its database.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_unless_asked_for_and_an_empty_folder_is_enough() {
    let (address, mut received) = collector().await;
    let endpoint = format!("http://{address}");
    let folder = tempfile::tempdir().unwrap();
    let mut command = auditlog(folder.path());
    command.env_clear().envs([("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint), ("OTEL_SDK_DISABLED", "true")]);
    command.env("AUDITLOG_LISTEN", "127.0.0.1:0");
    let server = ChildServer::spawn(command);
    let files = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string());
    let is_ours = |name: String| name.starts_with("auditlog.db") || name == "checkpoint.key";
    assert!(files.into_iter().all(|name| is_ours(name.unwrap())));
    record_and_end(server, &format!("00-{TRACE}-{SPAN}-01")).await;
    assert!(received.try_recv().is_err());
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
