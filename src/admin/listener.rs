//! Connections for probes: few at a time, and none for long. Whoever holds more would take the file descriptors that the API needs.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{self, Sleep},
};

/// The most connections at a time; one more is closed.
pub(super) const MOST: usize = 128;
/// How long a connection lasts. Who probes connects again.
const AGE: Duration = Duration::from_secs(60);

/// Accepts them.
pub(super) struct Doorkeeper {
    listener: TcpListener,
    room: Arc<Semaphore>,
    age: Duration,
}

impl Doorkeeper {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self { listener, room: Arc::new(Semaphore::new(MOST)), age: AGE }
    }
}

impl Listener for Doorkeeper {
    type Io = Visit;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Visit, SocketAddr) {
        loop {
            // axum's own way waits where there are no file descriptors.
            let (stream, address) = Listener::accept(&mut self.listener).await;
            match Arc::clone(&self.room).try_acquire_owned() {
                Ok(place) => return (Visit { stream, end: Box::pin(time::sleep(self.age)), _place: place }, address),
                Err(_) => tracing::warn!(limit = MOST, "a connection too many to admin.listen was closed"),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection with an end.
pub(super) struct Visit {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Visit {
    fn poll_end(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
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

    #[tokio::test]
    async fn a_visitor_who_says_nothing_is_put_out_and_makes_room() {
        let mut doorkeeper = Doorkeeper::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        doorkeeper.age = Duration::from_millis(10);
        let address = doorkeeper.local_addr().unwrap();
        let _peers = [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
        let (silent, _) = doorkeeper.accept().await;
        let (other, _) = doorkeeper.accept().await;
        assert_eq!(doorkeeper.room.available_permits(), MOST - 2);
        assert_eq!({ silent }.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(doorkeeper.room.available_permits(), MOST - 1);
        drop(other);
        assert_eq!(doorkeeper.room.available_permits(), MOST);
    }

    #[tokio::test]
    async fn one_too_many_is_closed_and_a_free_place_is_used() {
        let mut doorkeeper = Doorkeeper::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        doorkeeper.room = Arc::new(Semaphore::new(1));
        let address = doorkeeper.local_addr().unwrap();
        let _first = TcpStream::connect(address).await.unwrap();
        let (visit, _) = doorkeeper.accept().await;
        let mut second = TcpStream::connect(address).await.unwrap();
        let accepting = tokio::spawn(async move { doorkeeper.accept().await.1 });
        assert_eq!(second.read(&mut [0]).await.unwrap(), 0);
        drop(visit);
        let third = TcpStream::connect(address).await.unwrap();
        assert_eq!(accepting.await.unwrap(), third.local_addr().unwrap());
    }
}
