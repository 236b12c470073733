//! What every call passes on its way in, from the outside to the inside.

use std::sync::Arc;

use http::{Request, Response};
use tonic::body::Body;
use tonic_web::GrpcWebLayer;
use tower::{
    layer::util::Identity,
    util::{Either, MapRequestLayer, MapResponseLayer, option_layer},
};
use tower_http::cors::CorsLayer;

use super::{
    access_log::AccessLogLayer,
    catch_panic::CatchPanicLayer,
    door::DoorLayer,
    listener::ConnectionInfo,
    origin::{OriginLayer, Origins},
    request_id::RequestIdLayer,
    traffic::{Traffic, TrafficLayer},
    unreadable::UnreadableLayer,
    until_sent::hold_until_sent,
    witness::WitnessLayer,
};
use crate::{
    auth::{Authenticator, authenticate::AuthenticateLayer},
    metrics::Metrics,
    self_audit::SelfAudit,
};

/// Puts what the connection knows of its other end where [`AuthenticateLayer`] looks for it.
type IntroducePeerLayer = MapRequestLayer<fn(Request<Body>) -> Request<Body>>;

/// Keeps what is held for a reply until that is sent.
type HoldLayer = MapResponseLayer<fn(Response<Body>) -> Response<Body>>;

/// The layers, the outermost first.
pub type Stack = (
    Either<CorsLayer, Identity>,
    HoldLayer,
    GrpcWebLayer,
    RequestIdLayer,
    AccessLogLayer,
    CatchPanicLayer,
    OriginLayer,
    IntroducePeerLayer,
    AuthenticateLayer,
    TrafficLayer,
    DoorLayer,
    WitnessLayer,
    UnreadableLayer,
);

/// The layers around all services, health and reflection included.
pub fn stack(
    metrics: Metrics,
    origins: Origins,
    authenticator: Authenticator,
    traffic: Arc<Traffic>,
    self_audit: SelfAudit,
) -> Stack {
    (
        // Outermost, because a preflight is no call, and because a refusal must be readable to a page that may call.
        option_layer(origins.cors()),
        // Around the next one, which writes a reply's bytes anew.
        MapResponseLayer::new(hold_until_sent),
        // Turns gRPC-Web into gRPC, so that nothing below knows of it; gRPC passes as it is.
        GrpcWebLayer::new(),
        // First of a call, because everything below names the call by it: the span, the log, an opaque error. The reply has it too.
        RequestIdLayer,
        // Around whatever may fail, so that a call that panics, or is refused early, or is dropped, has its line as well.
        AccessLogLayer { metrics },
        // A bug must cost one call, not the connection with all the others on it. Inside the span, so that the log says
        // which call it was, and the line above says INTERNAL.
        CatchPanicLayer,
        // Before anybody is believed: a page that may not call may not claim to be somebody.
        OriginLayer { origins },
        // Before the next one, which asks for it.
        MapRequestLayer::new(introduce_peer),
        // It refuses nobody, it only finds out who calls; health and reflection ask for nobody.
        AuthenticateLayer { authenticator },
        // Each caller has a share, so it comes after we know who calls; and before any work is done for the call.
        TrafficLayer { traffic },
        // Behind the limits, because strangers count in the total, too; and before anybody reads the message.
        DoorLayer,
        // For whatever is denied or read from here on.
        WitnessLayer { self_audit },
        // Next to the services, whose transport answers by itself what it cannot read; the layers above see our answer.
        UnreadableLayer,
    )
}

fn introduce_peer(mut request: Request<Body>) -> Request<Body> {
    let peer = request.extensions().get::<ConnectionInfo>().map(|connection| connection.peer.clone());
    if let Some(peer) = peer {
        request.extensions_mut().insert(peer);
    }
    request
}
