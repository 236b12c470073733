//! The gRPC side: the only room with tonic services.
//!
//! A call comes in through the [`stack`]: it gets a name, a span and a principal. The [`service`] parts it into scopes,
//! rights, fields and the use case; [`decode`] and [`encode`] stand between the protobuf messages and the model; and
//! whatever goes wrong becomes an answer in [`status`].

mod access_log;
mod call;
mod catch_panic;
mod decode;
mod door;
mod encode;
mod export_stream;
mod fresh_id;
#[cfg(any(test, fuzzing))]
pub mod laws;
mod listener;
mod methods;
mod origin;
mod page_token;
mod proof_service;
mod request_id;
mod service;
mod stack;
mod stall;
mod status;
mod traffic;
mod unreadable;
mod until_sent;
mod witness;

use std::{sync::Arc, time::Duration};

use tokio::net::TcpListener;
use tonic::{
    body::Body,
    service::Routes,
    transport::{Error, Server, server::Router},
};
use tonic_health::pb::health_server::{Health, HealthServer};
use tower::{
    ServiceExt as _,
    layer::util::{Identity, Stack as Stacked},
};

use crate::{
    auth::{Authenticator, Authorizer},
    export::Exporter,
    ingest::Ingest,
    metrics::Metrics,
    model::{Clock, Limits, NoteRules},
    proof::Prover,
    proto::{
        self,
        auditlog::v1::{
            audit_log_service_server::{self, AuditLogServiceServer},
            proof_service_server::{self, ProofServiceServer},
        },
    },
    query::Query,
    self_audit::SelfAudit,
    store::Store,
};

pub use listener::{Tls, TlsError, TlsFiles};
pub use methods::{error_reasons, paths as method_paths};
pub use origin::Origins;
pub use traffic::Traffic;

/// The services' full names, as in paths, reflection and health checks.
pub const SERVICE_NAMES: [&str; 2] = [audit_log_service_server::SERVICE_NAME, proof_service_server::SERVICE_NAME];

/// A peer that is gone without a word is found out after this and [`KEEPALIVE_TIMEOUT`]; it also keeps proxies from
/// taking a quiet connection for a dead one, which many do after a minute.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// How long a peer may take to answer a keepalive.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Streams that a peer has reset before they were taken up; with one more it is a flood, and the connection is closed.
const MAX_RESET_STREAMS: usize = 20;
/// Streams that were reset because of the peer's own mistakes; as above.
const MAX_MISTAKEN_STREAMS: usize = 1024;

/// The one method whose messages are large.
const BATCHES: &str = "/auditlog.v1.AuditLogService/BatchRecordEvents";
/// The most bytes of a message to health and reflection, which hold a name.
const PLUMBING_BYTES: usize = 4096;

/// What the services need.
#[derive(Clone)]
pub struct Api {
    /// Decides who may do what.
    pub authorizer: Arc<Authorizer>,
    /// Records.
    pub ingest: Ingest,
    /// Reads.
    pub query: Query,
    /// Exports.
    pub exporter: Exporter,
    /// Proves.
    pub prover: Prover<Store>,
    /// How much a request may hold.
    pub limits: Limits,
    /// Which events take notes.
    pub notes: Arc<NoteRules>,
    /// Counts.
    pub metrics: Metrics,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// How much is under way.
    pub traffic: Arc<Traffic>,
}

/// How connections are served.
#[derive(Clone)]
pub struct Transport {
    /// Which web pages may call.
    pub origins: Origins,
    /// How old a connection may get.
    pub max_age: Option<Duration>,
    /// Where callers' claims come from.
    pub authenticator: Authenticator,
    /// How connections are encrypted; `None`: not at all.
    pub tls: Option<Arc<Tls>>,
    /// Records denied calls and reads.
    pub self_audit: SelfAudit,
}

/// The server as it is served: all services inside the [`stack`]. Tests serve it over an in-memory duplex.
pub type ApiRouter = Router<Stacked<stack::Stack, Identity>>;

/// Serves the API on what `listener` accepts, until `shutdown`, and then until the last call has ended.
///
/// # Errors
/// Only if a connection cannot be set up; a failed accept is passed over.
pub async fn serve(
    api: Api,
    transport: Transport,
    health: HealthServer<impl Health>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let incoming = listener::connections(listener, transport.tls.clone(), *api.traffic.limits());
    router(api, transport, health).serve_with_incoming_shutdown(incoming, shutdown).await
}

/// All services inside the stack, with the transport's settings.
pub fn router(api: Api, transport: Transport, health: HealthServer<impl Health>) -> ApiRouter {
    let server = Server::builder();
    let server = match transport.max_age {
        // Without a grace: with one, tonic 0.14 cuts the connection and never asks its client to go.
        Some(age) => server.max_connection_age(age),
        None => server,
    };
    let limits = *api.traffic.limits();
    // Settings are at most 64 Mi.
    let small = |limit: usize| u32::try_from(limit).unwrap_or(u32::MAX);
    let Transport { origins, authenticator, self_audit, .. } = transport;
    server
        // Browsers speak gRPC-Web over HTTP/1.1 as well; everything else in HTTP/1.1 is refused.
        .accept_http1(true)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(small(limits.connection_calls))
        .http2_max_header_list_size(small(limits.header_bytes))
        .http2_max_pending_accept_reset_streams(Some(MAX_RESET_STREAMS))
        .http2_max_local_error_reset_streams(Some(MAX_MISTAKEN_STREAMS))
        .layer(stack::stack(api.metrics.clone(), origins, authenticator, Arc::clone(&api.traffic), self_audit))
        .add_routes(routes(api, health))
}

/// The most bytes of a message of ours, which is a batch. Messages have twice our own limit, so that one which is somewhat too large gets
/// an answer that names the field and the limit, and not the transport's OUT_OF_RANGE.
pub fn largest_message(limits: &Limits) -> usize {
    2 * limits.batch_bytes
}

fn routes(api: Api, health: HealthServer<impl Health>) -> Routes {
    let (small, large) = (2 * api.limits.single_bytes(), largest_message(&api.limits));
    let batches = AuditLogServiceServer::new(api.clone()).max_decoding_message_size(large);
    let reason = "the descriptor sets are compiled in, and every test that starts a server has read them";
    let routes = Routes::new(AuditLogServiceServer::new(api.clone()).max_decoding_message_size(small))
        .add_service(ProofServiceServer::new(api).max_decoding_message_size(small))
        .add_service(health.max_decoding_message_size(PLUMBING_BYTES))
        .add_service(reflection().build_v1().expect(reason).max_decoding_message_size(PLUMBING_BYTES))
        .add_service(reflection().build_v1alpha().expect(reason).max_decoding_message_size(PLUMBING_BYTES));
    let batches = batches.map_request(|request: http::Request<_>| request.map(Body::new));
    routes.into_axum_router().route_service(BATCHES, batches).into()
}

/// With the comments of our contract, and with what the details of its errors are made of, so that grpcurl shows both.
fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}
