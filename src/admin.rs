//! The address for probes and for Prometheus: `/livez`, `/readyz`, `/metrics`, plain HTTP/1.1.
//!
//! Nothing here shows an event, a name or a caller, so it may be bound where the cluster's own tools reach it, whatever
//! the rules for the API's address are. It answers from the first moment of the start to the last of the shutdown.

mod listener;

use std::{fmt, io, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{
    net::TcpListener,
    sync::{OnceCell, watch},
    task::JoinHandle,
};

use self::listener::Doorkeeper;
use crate::metrics::{self, Metrics};

/// Puts the numbers that are read and not counted, such as the queue's depth, into the metrics.
pub type Sample = Box<dyn Fn(&Metrics) + Send + Sync>;

/// What is answered from.
#[derive(Clone)]
pub struct Admin {
    /// Whether calls are served, as the health service tells.
    pub ready: watch::Receiver<bool>,
    /// What was counted.
    pub metrics: Metrics,
    /// There is nothing to sample before the service has started.
    pub sample: Arc<OnceCell<Sample>>,
}

/// The running server; it ends when this is dropped.
#[derive(Debug)]
pub struct AdminServer {
    local_addr: SocketAddr,
    serving: JoinHandle<io::Result<()>>,
}

impl Admin {
    /// Binds `address` and serves.
    pub async fn serve(self, address: SocketAddr) -> io::Result<AdminServer> {
        let listener = TcpListener::bind(address).await?;
        let local_addr = listener.local_addr()?;
        tracing::info!(address = %local_addr, "probes and metrics");
        let serving = tokio::spawn(async move { axum::serve(Doorkeeper::new(listener), self.router()).await });
        Ok(AdminServer { local_addr, serving })
    }

    fn router(self) -> Router {
        Router::new()
            .route("/livez", get(async || "alive\n"))
            .route("/readyz", get(readiness))
            .route("/metrics", get(scrape))
            .with_state(self)
    }
}

impl AdminServer {
    /// The address that is listened on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn readiness(State(admin): State<Admin>) -> Response {
    match *admin.ready.borrow() {
        true => "ready\n".into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response(),
    }
}

async fn scrape(State(admin): State<Admin>) -> Response {
    if let Some(sample) = admin.sample.get() {
        sample(&admin.metrics);
    }
    match admin.metrics.encode() {
        Ok(text) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(fmt::Error) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
