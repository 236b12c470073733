//! One call, as the services see it.

use tonic::{Request, Response, Status};
use tracing::{Span, field::display};

use super::{
    listener::{CallOnConnection, ConnectionInfo},
    request_id::RequestId,
    status::Failure,
};
use crate::{
    auth::{Authentication, Principal},
    metrics::Metrics,
    model::{Scope, TraceId},
    telemetry::trace_parent::TraceParent,
};

/// What the layers found out about a call.
pub struct Call {
    request_id: RequestId,
    authentication: Option<Authentication>,
    trace_parent: Option<TraceParent>,
    metrics: Option<Metrics>,
    connection: Option<ConnectionInfo>,
}

impl Call {
    /// Parts a request into what the layers left in it and its message.
    pub fn open<M>(request: Request<M>) -> (Self, M) {
        let (_, mut extensions, message) = request.into_parts();
        let authentication = extensions.remove();
        (
            Self {
                request_id: RequestId::of(&extensions),
                authentication,
                trace_parent: extensions.remove(),
                metrics: extensions.remove(),
                connection: extensions.remove(),
            },
            message,
        )
    }

    /// Who calls; the log line gets it too. A call that came around the layer that finds out is a fault of ours.
    pub fn principal(&self) -> Result<&Principal, Failure> {
        let missing = || Failure::internal("no layer has authenticated the call");
        let principal = self.authentication.as_ref().ok_or_else(missing)?;
        let principal = principal.as_ref().map_err(|error| error.clone())?;
        Span::current().record("principal", &principal.actor.id);
        Ok(principal)
    }

    /// Tells the log line what the call is about.
    pub fn concerns(&self, scope: &Scope) {
        Span::current().record("scope", display(scope));
    }

    /// The trace from which the call came, if it told one.
    pub fn trace_id(&self) -> Option<TraceId> {
        self.trace_parent.map(|parent| parent.trace_id)
    }

    /// Has the call counted on its connection beyond the reply's head, for as long as what this returns is kept.
    pub fn goes_on(&self) -> Option<CallOnConnection> {
        self.connection.as_ref().map(ConnectionInfo::begin_call)
    }

    /// The name of the call.
    pub fn request_id(&self) -> &RequestId {
        &self.request_id
    }

    /// The reply on the wire.
    pub fn reply<T>(&self, result: Result<T, Failure>) -> Result<Response<T>, Status> {
        result.map(Response::new).map_err(|failure| self.fail(failure))
    }

    /// The answer to a call that failed, which is counted here if it was refused at the door.
    pub fn fail(&self, failure: Failure) -> Status {
        if let Some(metrics) = &self.metrics {
            failure.count(metrics.calls());
        }
        failure.into_status(&self.request_id)
    }
}
