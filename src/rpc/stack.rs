//! What every call passes on its way in, from the outside to the inside.

use super::{
    access_log::AccessLogLayer, catch_panic::CatchPanicLayer, request_id::RequestIdLayer, unreadable::UnreadableLayer,
};
use crate::auth::authenticate::AuthenticateLayer;

/// The layers, the outermost first.
pub type Stack = (RequestIdLayer, AccessLogLayer, CatchPanicLayer, AuthenticateLayer, UnreadableLayer);

/// The layers around all services, health and reflection included.
pub fn stack() -> Stack {
    (
        // First, because everything below names the call by it: the span, the log, an opaque error. The reply has it too.
        RequestIdLayer,
        // Around whatever may fail, so that a call that panics, or is refused early, or is dropped, has its line as well.
        AccessLogLayer,
        // A bug must cost one call, not the connection with all the others on it. Inside the span, so that the log says
        // which call it was, and the line above says INTERNAL.
        CatchPanicLayer,
        // It refuses nobody, it only finds out who calls; what a service does without a principal is decided there, and
        // health and reflection ask for none.
        AuthenticateLayer,
        // Next to the services, whose transport answers by itself what it cannot read; the layers above see our answer.
        UnreadableLayer,
    )
}
