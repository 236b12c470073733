//! Plain HTTP/1.1 to a service, as a browser, a probe or Prometheus speaks it.

use std::net::SocketAddr;

use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// Sends one request on a connection of its own, and reads the whole reply.
pub async fn send(address: SocketAddr, request: Request<impl Into<Bytes>>) -> Response<Bytes> {
    send_over(TcpStream::connect(address).await.unwrap(), request).await
}

/// The same, on this connection.
pub async fn send_over(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<impl Into<Bytes>>,
) -> Response<Bytes> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = request.map(|body| Full::new(body.into()));
    let (head, body) = sender.send_request(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    drop(sender);
    // A server that goes away with the connection still open is no matter here.
    let _ = connection.await.unwrap();
    Response::from_parts(head, body)
}

/// The status and the text at `path`.
pub async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let request = Request::get(path).header("host", address.to_string()).body("").unwrap();
    let response = send(address, request).await;
    (response.status().as_u16(), String::from_utf8(response.body().to_vec()).unwrap())
}
