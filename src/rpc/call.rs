//! One call, as the services see it.

use tonic::{Request, Response, Status};
use tracing::{Span, field::display};

use super::{
    listener::{CallOnConnection, ConnectionInfo},
    request_id::RequestId,
    status::Failure,
    witness::Witness,
};
use crate::{
    auth::{Authentication, Permit, Principal, authorize::Recorded},
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
    witness: Option<Witness>,
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
                witness: extensions.remove(),
            },
            message,
        )
    }

    /// Who calls. A call that came around the layer that finds out is a fault of ours.
    pub fn principal(&self) -> Result<&Principal, Failure> {
        let missing = || Failure::internal("no layer has authenticated the call");
        let principal = self.authentication.as_ref().ok_or_else(missing)?;
        Ok(principal.as_ref().map_err(|error| error.clone())?)
    }

    /// Tells the log line what the call is about.
    pub fn concerns(&self, scope: &Scope) {
        Span::current().record("scope", display(scope));
    }

    /// The trace from which the call came, if it told one.
    pub fn trace_id(&self) -> Option<TraceId> {
        self.trace_parent.map(|parent| parent.trace_id)
    }

    /// Has it recorded that the call reads, if reads are to be. What was read must not be shown if this fails. To be asked
    /// after the read: a log that has begun meanwhile is noticed then.
    pub async fn reads<A: Recorded>(&self, permit: &Permit<A>) -> Result<(), Failure> {
        let Some(witness) = &self.witness else { return Ok(()) };
        witness.read(permit, &self.request_id).await.map_err(Failure::of_own_event)
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

    /// The answer to a call that failed. One that was refused at the door is counted here, and a denied one recorded.
    pub fn fail(&self, failure: Failure) -> Status {
        if let (Failure::Denied(denied), Some(witness)) = (&failure, &self.witness) {
            witness.denied(denied, &self.request_id);
        }
        if let Some(metrics) = &self.metrics {
            failure.count(metrics.calls());
        }
        failure.into_status(&self.request_id)
    }
}
