//! One connection.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::task::AtomicWaker;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep, sleep_until},
};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::{auth::Peer, model::TrafficLimits};

/// The bytes with which an HTTP/2 client begins.
const PREFACE_BYTES: usize = 24;

/// What bytes go through.
pub(super) enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection that ends itself when its peer lets it stand still.
pub struct Connection {
    io: Io,
    info: ConnectionInfo,
    greeted: usize,
    last: Instant,
    idle_time: Duration,
    timer: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

/// What is known of a connection; among the extensions of each of its requests.
#[derive(Clone)]
pub struct ConnectionInfo {
    /// The other end.
    pub peer: Peer,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    calls: AtomicUsize,
    is_closed: AtomicBool,
    waker: AtomicWaker,
}

/// Counts one call of a connection until it is dropped.
pub struct CallOnConnection(Arc<State>);

impl Connection {
    pub(super) fn new(io: Io, peer: Peer, place: OwnedSemaphorePermit, limits: &TrafficLimits) -> Self {
        let info = ConnectionInfo { peer, state: Arc::default() };
        let (last, idle_time) = (Instant::now(), limits.idle_time);
        let timer = Box::pin(sleep_until(last + limits.handshake_time));
        Self { io, info, greeted: 0, last, idle_time, timer, _place: place }
    }

    /// Time counts from the last byte, but up to the end of the greeting from the start: who sends it drop by drop shall
    /// not win time. The timer is put forward only when it goes off, because bytes come often and it goes off seldom.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.info.state.waker.register(cx.waker());
        if self.info.state.is_closed.load(Ordering::Acquire) {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "its calls stood still"));
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let end = self.last + self.idle_time;
            if self.greeted < PREFACE_BYTES || end <= Instant::now() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the peer let the connection stand still"));
            }
            self.timer.as_mut().reset(end);
        }
        Ok(())
    }

    /// Passes on what the other side said; where it had nothing to say, looks at the time.
    fn watched<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match result {
            Poll::Pending => match self.check(cx) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            },
            ready => {
                self.last = Instant::now();
                ready
            }
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        if self.greeted < PREFACE_BYTES {
            self.greeted += buf.filled().len() - before;
            if self.greeted >= PREFACE_BYTES {
                let end = Instant::now() + self.idle_time;
                self.timer.as_mut().reset(end);
            }
        }
        self.watched(cx, read)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Io::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        };
        self.watched(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Io::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        };
        self.watched(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(stream) => stream.is_write_vectored(),
            Io::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            // A socket has nothing to flush.
            Io::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Io::Tls(stream) => {
                let flushed = Pin::new(stream).poll_flush(cx);
                if flushed.is_pending() { self.watched(cx, flushed) } else { flushed }
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Tls(stream) => {
                let shut = Pin::new(stream).poll_shutdown(cx);
                if shut.is_pending() { self.watched(cx, shut) } else { shut }
            }
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = ConnectionInfo;

    fn connect_info(&self) -> ConnectionInfo {
        self.info.clone()
    }
}

impl ConnectionInfo {
    /// Counts a call until what this returns is dropped.
    pub fn begin_call(&self) -> CallOnConnection {
        self.state.calls.fetch_add(1, Ordering::AcqRel);
        CallOnConnection(Arc::clone(&self.state))
    }
}

impl CallOnConnection {
    /// Ends the connection, if no other call is on it.
    pub fn close_if_alone(&self) -> bool {
        let is_alone = self.0.calls.load(Ordering::Acquire) <= 1;
        if is_alone {
            self.0.is_closed.store(true, Ordering::Release);
            self.0.waker.wake();
        }
        is_alone
    }
}

impl Drop for CallOnConnection {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::AcqRel);
    }
}
