//! A hostile service: the true one, behind somebody who changes what is asked of it and what it answers.

use std::{net::SocketAddr, sync::Arc};

use axum::body::Body;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use prost::{Message, bytes::Bytes};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    service::Routes,
    transport::{Channel, Server},
};
use tower::{Service as _, ServiceExt as _};

use super::TestApp;

/// What becomes of each message of a method: `ListEvents`, for example.
type Rewrite = Arc<dyn Fn(&str, Vec<u8>) -> Vec<u8> + Send + Sync>;

/// All that is done with a call.
#[derive(Clone)]
struct Changes {
    asked: Rewrite,
    answered: Rewrite,
    ended: fn(&mut HeaderMap),
}

/// The bytes of before each message: whether it is compressed, which none is, and how long it is.
const PREFIX: usize = 5;

/// The address of a service that does with each question and each answer what it is told.
pub async fn rewriting(
    app: &TestApp,
    asked: impl Fn(&str, Vec<u8>) -> Vec<u8> + Send + Sync + 'static,
    answered: impl Fn(&str, Vec<u8>) -> Vec<u8> + Send + Sync + 'static,
) -> SocketAddr {
    serve(app, Changes { asked: Arc::new(asked), answered: Arc::new(answered), ended: |_| () }).await
}

/// The address of a service that does with the end of each reply what it is told.
pub async fn ending(app: &TestApp, ended: fn(&mut HeaderMap)) -> SocketAddr {
    let same: Rewrite = Arc::new(|_, bytes| bytes);
    serve(app, Changes { asked: Arc::clone(&same), answered: same, ended }).await
}

async fn serve(app: &TestApp, changes: Changes) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let channel = app.channel.clone();
    let forward = move |request| forward(channel.clone(), changes.clone(), request);
    let routes = Routes::from(axum::Router::new().fallback(forward));
    tokio::spawn(Server::builder().add_routes(routes).serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

/// The message that `bytes` are, with `change` made to it.
pub fn rewrite<M: Message + Default>(bytes: &[u8], change: impl FnOnce(&mut M)) -> Vec<u8> {
    let mut message = M::decode(bytes).unwrap();
    change(&mut message);
    message.encode_to_vec()
}

async fn forward(mut channel: Channel, changes: Changes, request: Request<Body>) -> Response<Body> {
    let Changes { asked, answered, ended } = changes;
    let (head, body) = request.into_parts();
    let method = head.uri.path().rsplit('/').next().unwrap().to_owned();
    let body = each_message(&body.collect().await.unwrap().to_bytes(), |message| asked(&method, message));
    let request = Request::from_parts(head, tonic::body::Body::new(Full::new(body)));
    let reply = channel.ready().await.unwrap().call(request).await.unwrap();
    let (head, body) = reply.into_parts();
    let body = body.collect().await.unwrap();
    let mut trailers = body.trailers().cloned();
    trailers.iter_mut().for_each(ended);
    let trailers = trailers.map(Ok);
    let body = each_message(&body.to_bytes(), |message| answered(&method, message));
    Response::from_parts(head, Body::new(Full::new(body).with_trailers(async { trailers })))
}

fn each_message(mut body: &[u8], change: impl Fn(Vec<u8>) -> Vec<u8>) -> Bytes {
    let mut changed = Vec::new();
    while let Some((prefix, rest)) = body.split_first_chunk::<PREFIX>() {
        let (message, rest) = rest.split_at(u32::from_be_bytes(prefix[1..].try_into().unwrap()) as usize);
        let message = change(message.to_vec());
        changed.push(prefix[0]);
        changed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        changed.extend(message);
        body = rest;
    }
    changed.into()
}
