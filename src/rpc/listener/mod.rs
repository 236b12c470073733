//! Connections, from the listener to the transport: counted, encrypted if so set, and never held for ever by a peer who
//! says nothing.

mod connection;
mod tls;

use std::{io, sync::Arc, time::Duration};

use futures_util::{
    Stream, StreamExt as _,
    stream::{self, FuturesUnordered},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
    time,
};

use crate::{auth::Peer, model::TrafficLimits};

use self::connection::Io;
pub use self::{
    connection::{CallOnConnection, Connection, ConnectionInfo},
    tls::{Tls, TlsError, TlsFiles},
};

/// The pause after a connection that could not be accepted, for lack of file descriptors say, because the next attempt
/// would fail at once as well.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections, for as long as it is asked for the next one.
struct Acceptor {
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    limits: TrafficLimits,
    room: Arc<Semaphore>,
    /// Each in a task of its own: a slow one must not hold up the others.
    handshakes: FuturesUnordered<JoinHandle<Option<Connection>>>,
}

/// The connections that are ready to be served. It ends never, and yields no error.
pub fn connections(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    limits: TrafficLimits,
) -> impl Stream<Item = io::Result<Connection>> {
    let room = Arc::new(Semaphore::new(limits.connections));
    let acceptor = Acceptor { listener, tls, limits, room, handshakes: FuturesUnordered::new() };
    stream::unfold(acceptor, |mut acceptor| async { Some((Ok(acceptor.next().await), acceptor)) })
}

impl Acceptor {
    async fn next(&mut self) -> Connection {
        loop {
            let ready = tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => self.begin(stream),
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        time::sleep(ACCEPT_PAUSE).await;
                        None
                    }
                },
                Some(shaken) = self.handshakes.next() => shaken.ok().flatten(),
            };
            if let Some(connection) = ready {
                return connection;
            }
        }
    }

    /// A connection beyond the limit is closed, so that its client may try elsewhere.
    fn begin(&mut self, stream: TcpStream) -> Option<Connection> {
        let Ok(place) = Arc::clone(&self.room).try_acquire_owned() else {
            tracing::warn!(limit = self.limits.connections, "a connection more than limits.connections was closed");
            return None;
        };
        // Small replies must not wait for the acknowledgement of earlier ones. It fails if the peer has gone.
        stream.set_nodelay(true).ok()?;
        match &self.tls {
            None => Some(Connection::new(Io::Plain(stream), Peer::default(), place, &self.limits)),
            Some(tls) => {
                let shaking = shake_hands(Arc::clone(tls), stream, place, self.limits);
                self.handshakes.push(tokio::spawn(shaking));
                None
            }
        }
    }
}

async fn shake_hands(
    tls: Arc<Tls>,
    stream: TcpStream,
    place: OwnedSemaphorePermit,
    limits: TrafficLimits,
) -> Option<Connection> {
    match time::timeout(limits.handshake_time, tls.accept(stream)).await {
        Ok(Ok((stream, peer))) => Some(Connection::new(Io::Tls(Box::new(stream)), peer, place, &limits)),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            None
        }
        Err(_) => {
            tracing::debug!("a TLS handshake took too long");
            None
        }
    }
}
