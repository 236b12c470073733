//! The load: unary gRPC calls over HTTP/2, with as little of a client as can be, because it shares the machine with what
//! it measures.

use std::{
    cell::RefCell,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use h2::client::SendRequest;
use http::Request;
use prost::{Message, bytes::Bytes};
use tokio::{net::TcpStream, task::LocalSet, time};

/// Calls of one method, over and over.
pub struct Load {
    pub address: SocketAddr,
    /// Who calls.
    pub subject: &'static str,
    /// Such as `RecordEvent`.
    pub method: &'static str,
    /// Request messages, framed by [`framed`]; they are sent in turn.
    pub bodies: Vec<Bytes>,
    pub in_flight: usize,
    /// The least time between two calls of all that are in flight; zero for as fast as they go.
    pub pause: Duration,
    /// When to stop; each caller makes one call at least.
    pub time: Duration,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub calls: usize,
    pub seconds: f64,
    /// Of all replies.
    pub bytes: usize,
    pub latencies: Latencies,
}

/// How long each call took, in microseconds.
#[derive(Clone, Debug, Default)]
pub struct Latencies(pub Vec<u32>);

impl Outcome {
    pub fn per_second(&self) -> f64 {
        self.calls as f64 / self.seconds
    }
}

impl Latencies {
    /// What `share` of the calls stayed below, in milliseconds.
    pub fn percentile(&self, share: f64) -> f64 {
        let mut latencies = self.0.clone();
        latencies.sort_unstable();
        let at = (latencies.len() as f64 * share) as usize;
        f64::from(latencies.get(at.min(latencies.len().saturating_sub(1))).copied().unwrap_or(0)) / 1000.0
    }
}

/// A message with its gRPC prefix.
pub fn framed(message: &impl Message) -> Bytes {
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.encoded_len()).expect("a small message").to_be_bytes());
    frame.extend(message.encode_to_vec());
    frame.into()
}

impl Load {
    /// Runs the load, on this thread alone.
    pub fn run(self) -> Outcome {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(LocalSet::new().run_until(self.drive()))
    }

    /// What each call begins with.
    fn head(&self) -> Request<()> {
        Request::post(format!("http://{}/auditlog.v1.AuditLogService/{}", self.address, self.method))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("x-audit-subject", self.subject)
            .header("x-audit-subject-type", "service")
            .header("x-audit-roles", "event_recorder@*,tenant_admin@tenants/bench")
            .body(())
            .expect("a request")
    }

    async fn drive(self) -> Outcome {
        let connections = self.in_flight.div_ceil(64).min(4);
        let mut senders = Vec::new();
        for _ in 0..connections {
            senders.push(connect(self.address).await);
        }
        let (load, outcome) = (Rc::new(self), Rc::new(RefCell::new(Outcome::default())));
        let start = Instant::now();
        let callers = (0..load.in_flight).map(|caller| {
            let sender = senders[caller % connections].clone();
            tokio::task::spawn_local(call_until_end(Rc::clone(&load), sender, caller, start, Rc::clone(&outcome)))
        });
        for caller in callers.collect::<Vec<_>>() {
            caller.await.expect("a call failed");
        }
        let mut outcome = outcome.take();
        outcome.seconds = start.elapsed().as_secs_f64();
        outcome
    }
}

async fn connect(address: SocketAddr) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.expect("the service listens");
    stream.set_nodelay(true).expect("a TCP stream");
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(8 << 20).initial_connection_window_size(64 << 20);
    let (sender, connection) = builder.handshake(stream).await.expect("HTTP/2");
    tokio::task::spawn_local(async move {
        let _ = connection.await;
    });
    sender
}

async fn call_until_end(
    load: Rc<Load>,
    sender: SendRequest<Bytes>,
    caller: usize,
    start: Instant,
    outcome: Rc<RefCell<Outcome>>,
) {
    let mut due = start + load.pause * u32::try_from(caller).unwrap_or(0);
    let step = load.pause * u32::try_from(load.in_flight).unwrap_or(1);
    let mut at = caller;
    let head = load.head();
    loop {
        if !step.is_zero() {
            time::sleep_until(due.into()).await;
        }
        // Where calls come at a rate, one that had to wait for its predecessor has been waiting since it was due.
        let begun = if step.is_zero() { Instant::now() } else { due };
        let bytes = call(sender.clone(), head.clone(), load.bodies[at % load.bodies.len()].clone()).await;
        let mut outcome = outcome.borrow_mut();
        outcome.calls += 1;
        outcome.bytes += bytes;
        outcome.latencies.0.push(u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX));
        (at, due) = (at + load.in_flight, due + step);
        if start.elapsed() >= load.time {
            return;
        }
    }
}

/// One call, which must succeed. Gives the length of the reply.
async fn call(sender: SendRequest<Bytes>, head: Request<()>, body: Bytes) -> usize {
    let mut sender = sender.ready().await.expect("an open connection");
    let (response, mut stream) = sender.send_request(head, false).expect("a free stream");
    stream.send_data(body, true).expect("an open stream");
    let response = response.await.expect("a reply");
    let refused = response.headers().get("grpc-message").cloned();
    assert!(response.headers().get("grpc-status").is_none(), "{refused:?}");
    let mut body = response.into_body();
    let mut len = 0;
    while let Some(chunk) = body.data().await {
        let chunk = chunk.expect("a reply's body");
        body.flow_control().release_capacity(chunk.len()).expect("it was received");
        len += chunk.len();
    }
    let trailers = body.trailers().await.expect("an open stream").expect("trailers");
    assert_eq!(trailers["grpc-status"], "0", "{:?}", trailers.get("grpc-message"));
    len
}
