//! The load: unary gRPC calls over HTTP/2, with as little of a client as can be, because it shares the machine with what
//! it measures.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use prost::{Message, bytes::Bytes};
use tokio::time;

use crate::http2::{Connection, Reply};

/// Calls come from several services, each with a connection of its own: so many calls on each, until there are eight.
const CALLS_OF_A_CONNECTION: usize = 4;
const MOST_CONNECTIONS: usize = 8;

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

    /// Of both, one after the other.
    pub fn with(mut self, other: Self) -> Self {
        self.calls += other.calls;
        self.bytes += other.bytes;
        self.seconds += other.seconds;
        self.latencies.0.extend(other.latencies.0);
        self
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
        runtime.block_on(self.drive())
    }

    async fn drive(self) -> Outcome {
        let mut connections = Vec::new();
        for _ in 0..self.in_flight.div_ceil(CALLS_OF_A_CONNECTION).min(MOST_CONNECTIONS) {
            connections.push(self.connect().await);
        }
        let (count, start) = (connections.len(), Instant::now());
        let on_each = connections.into_iter().enumerate().map(|(n, connection)| {
            let callers = (n..self.in_flight).step_by(count).map(|caller| Caller::new(&self, caller, start)).collect();
            Share { load: &self, connection, callers, start, outcome: Outcome::default() }.drive()
        });
        let mut outcome = join_all(on_each).await.into_iter().reduce(Outcome::with).expect("a connection");
        outcome.seconds = start.elapsed().as_secs_f64();
        outcome
    }

    async fn connect(&self) -> Connection {
        let (authority, path) = (self.address.to_string(), format!("/auditlog.v1.AuditLogService/{}", self.method));
        let fields = [
            (":path", &*path),
            (":authority", &authority),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("x-audit-subject", self.subject),
            ("x-audit-subject-type", "service"),
            ("x-audit-roles", "event_recorder@*,tenant_admin@tenants/bench"),
        ];
        Connection::open(self.address, &fields).await
    }
}

/// Makes one call after the other.
struct Caller {
    /// Which body is next.
    at: usize,
    /// When the next call is due, or the one under way was. Where calls come at a rate, one that had to wait for its
    /// predecessor has been waiting since it was due.
    due: Instant,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Waits,
    Done,
}

impl Caller {
    fn new(load: &Load, caller: usize, start: Instant) -> Self {
        let due = start + load.pause * u32::try_from(caller).unwrap_or(0);
        Self { at: caller, due, state: State::Idle }
    }
}

/// The callers of one connection.
struct Share<'a> {
    load: &'a Load,
    connection: Connection,
    callers: Vec<Caller>,
    start: Instant,
    outcome: Outcome,
}

impl Share<'_> {
    async fn drive(mut self) -> Outcome {
        let mut replies = Vec::new();
        while self.callers.iter().any(|caller| caller.state != State::Done) {
            self.call_what_is_due();
            self.connection.flush().await;
            let next = self.callers.iter().filter(|caller| caller.state == State::Idle).map(|caller| caller.due).min();
            let read = self.connection.replies(&mut replies);
            match next {
                Some(next) => _ = time::timeout_at(next.into(), read).await,
                None => read.await,
            }
            let now = Instant::now();
            replies.drain(..).for_each(|reply| self.replied(&reply, now));
        }
        self.outcome
    }

    fn call_what_is_due(&mut self) {
        let now = Instant::now();
        for (n, caller) in self.callers.iter_mut().enumerate() {
            if caller.state == State::Idle && caller.due <= now {
                let body = self.load.bodies[caller.at % self.load.bodies.len()].clone();
                self.connection.call(n, body);
                caller.state = State::Waits;
            }
        }
    }

    fn replied(&mut self, reply: &Reply, now: Instant) {
        let (caller, load) = (&mut self.callers[reply.caller], self.load);
        self.outcome.calls += 1;
        self.outcome.bytes += reply.bytes;
        let took = now.saturating_duration_since(caller.due);
        self.outcome.latencies.0.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        caller.at += load.in_flight;
        let step = load.pause * u32::try_from(load.in_flight).unwrap_or(1);
        caller.due = if step.is_zero() { now } else { caller.due + step };
        caller.state = if now - self.start >= load.time { State::Done } else { State::Idle };
    }
}
