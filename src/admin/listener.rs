//! Connections for probes: few at a time, and none for long. Whoever holds more would take the file descriptors that the API needs.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::serve::Listener;
use futures_util::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time,
};

/// The most connections at a time; for one more the oldest is closed, so that whoever keeps them all turns no probe away.
const MOST: usize = 128;
/// How long a connection lasts. Who probes connects again.
const AGE: Duration = Duration::from_secs(60);

/// Accepts them.
pub(super) struct Doorkeeper {
    listener: TcpListener,
    /// Of each visit, the oldest first. The visit ends when its own is dropped.
    places: VecDeque<oneshot::Sender<()>>,
    most: usize,
    age: Duration,
    /// When the log was told last that there are too many.
    told: Option<Instant>,
}

impl Doorkeeper {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self { listener, places: VecDeque::new(), most: MOST, age: AGE, told: None }
    }

    fn place(&mut self) -> oneshot::Receiver<()> {
        self.places.retain(|place| !place.is_closed());
        if self.places.len() >= self.most {
            self.tell();
            self.places.pop_front();
        }
        let (place, lost) = oneshot::channel();
        self.places.push_back(place);
        lost
    }

    /// Once in a while: whoever floods shall not fill the log.
    fn tell(&mut self) {
        if self.told.is_none_or(|told| told.elapsed() >= self.age) {
            tracing::warn!(limit = self.most, "the oldest connection to admin.listen was closed, there were too many");
            self.told = Some(Instant::now());
        }
    }
}

impl Listener for Doorkeeper {
    type Io = Visit;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Visit, SocketAddr) {
        // axum's own way waits where there are no file descriptors.
        let (stream, address) = Listener::accept(&mut self.listener).await;
        (Visit::new(stream, self.place(), self.age), address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection with an end.
pub(super) struct Visit {
    stream: TcpStream,
    end: BoxFuture<'static, ()>,
    has_ended: bool,
}

impl Visit {
    fn new(stream: TcpStream, lost: oneshot::Receiver<()>, age: Duration) -> Self {
        // Either way it is over.
        let end = async move { drop(time::timeout(age, lost).await) };
        Self { stream, end: Box::pin(end), has_ended: false }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.has_ended = self.has_ended || self.end.as_mut().poll(cx).is_ready();
        if self.has_ended { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }
}

impl AsyncRead for Visit {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_end(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Visit {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_end(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    async fn doorkeeper(most: usize, age: Duration) -> (Doorkeeper, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (Doorkeeper { most, age, ..Doorkeeper::new(listener) }, address)
    }

    #[tokio::test]
    async fn a_visitor_who_says_nothing_is_put_out() {
        let (mut doorkeeper, address) = doorkeeper(MOST, Duration::from_millis(10)).await;
        let _peer = TcpStream::connect(address).await.unwrap();
        let (mut silent, _) = doorkeeper.accept().await;
        for _ in 0..2 {
            assert_eq!(silent.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        }
    }

    #[tokio::test]
    async fn one_too_many_takes_the_place_of_the_oldest_and_a_free_place_is_used() {
        let (mut doorkeeper, address) = doorkeeper(2, AGE).await;
        let mut visits = Vec::new();
        for _ in 0..2 {
            let peer = TcpStream::connect(address).await.unwrap();
            visits.push((doorkeeper.accept().await.0, peer));
        }
        let (left, _) = visits.pop().unwrap();
        drop(left);
        visits.push({
            let peer = TcpStream::connect(address).await.unwrap();
            (doorkeeper.accept().await.0, peer)
        });
        let (mut oldest, _peer) = visits.remove(0);
        assert!(futures_util::poll!(Box::pin(oldest.read_u8())).is_pending(), "there was a free place");
        let _peer = TcpStream::connect(address).await.unwrap();
        let _newest = doorkeeper.accept().await;
        assert_eq!(oldest.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(futures_util::poll!(Box::pin(visits[0].0.read_u8())).is_pending(), "it is not the oldest");
    }
}
