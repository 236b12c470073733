//! Sending events.

use std::time::Duration;

use futures_util::Stream;
use tonic::{
    Request, Response, Status,
    metadata::MetadataMap,
    transport::{Channel, Endpoint},
};

use crate::proto::auditlog::v1::{BatchRecordEventsRequest, audit_log_service_client::AuditLogServiceClient};

use super::{
    batch::{self, BatchLimits},
    credentials::Credentials,
    error::ClientError,
    event::NewEvent,
    receipt::Receipt,
    record_all::RecordAll,
    retry::RetryPolicy,
    tls::ClientTls,
};

/// How long to wait for a connection before another attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often to ask a silent peer whether it is still there, so that a lost connection is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Records events. It is cheap to clone, and its clones share one connection, which comes back by itself when it breaks.
#[derive(Clone, Debug)]
pub struct Emitter {
    client: AuditLogServiceClient<Channel>,
    claims: MetadataMap,
    retry: RetryPolicy,
    limits: BatchLimits,
}

impl Emitter {
    /// Connects to an address such as `http://127.0.0.1:50051`, or `https://auditlog.example.com` with the authorities that
    /// the system trusts.
    ///
    /// # Errors
    /// If the address is none, nobody answers there (it is tried once), or the credentials cannot be sent.
    pub async fn connect(address: &str, credentials: Credentials) -> Result<Self, ClientError> {
        Self::connect_with(address, credentials, ClientTls::new()).await
    }

    /// Connects with TLS as `tls` says; the address begins with `https://`.
    ///
    /// # Errors
    /// As [`Self::connect`], if `tls` holds what is no certificate or key, and if it says something that an address without
    /// `https://` would leave undone.
    pub async fn connect_with(address: &str, credentials: Credentials, tls: ClientTls) -> Result<Self, ClientError> {
        let channel = endpoint(address, tls)?.connect().await.map_err(connect_failed(address))?;
        Self::over(channel, credentials)
    }

    /// Connects at the first call. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// If the address is none, or the credentials cannot be sent.
    pub fn connect_lazy(address: &str, credentials: Credentials) -> Result<Self, ClientError> {
        Self::over(endpoint(address, ClientTls::new())?.connect_lazy(), credentials)
    }

    /// Uses a channel that was set up elsewhere, over a socket of another kind, for example.
    ///
    /// # Errors
    /// If the credentials cannot be sent.
    pub fn over(channel: Channel, credentials: Credentials) -> Result<Self, ClientError> {
        let client = AuditLogServiceClient::new(channel);
        Ok(Self {
            client,
            claims: credentials.metadata()?,
            retry: RetryPolicy::default(),
            limits: BatchLimits::default(),
        })
    }

    /// Tries as long as `retry` says, instead of the default.
    pub fn with_retry(self, retry: RetryPolicy) -> Self {
        Self { retry, ..self }
    }

    /// Puts no more into a batch than `limits` say, instead of the default: for a service whose settings allow another size.
    pub fn with_batch_limits(self, limits: BatchLimits) -> Self {
        Self { limits: BatchLimits { events: limits.events.max(1), ..limits }, ..self }
    }

    pub(super) fn batch_limits(&self) -> BatchLimits {
        self.limits
    }

    /// Records one event at `parent`: `tenants/{t}` or `tenants/{t}/projects/{p}`. When it returns a receipt, the event
    /// is durable and can be found.
    ///
    /// # Errors
    /// [`ClientError::Call`]: the service refused it, or stayed out of reach until the deadline. Where nobody knows whether it
    /// was recorded ([`ClientError::may_be_recorded`]), send the same event again.
    pub async fn record(&self, parent: &str, event: &NewEvent) -> Result<Receipt, ClientError> {
        let send =
            |mut client: AuditLogServiceClient<Channel>, request| async move { client.record_event(request).await };
        let reply = self.call(event.request(parent), send).await?;
        Receipt::read(reply.receipt)
    }

    /// Records at most 1000 events of at most 4 MiB ([`Self::with_batch_limits`]), all or none. The receipts are in the order of the events. No event
    /// is no call.
    ///
    /// # Errors
    /// As [`Self::record`], for all events together; and [`ClientError::BatchTooLarge`].
    pub async fn record_batch(&self, parent: &str, events: &[NewEvent]) -> Result<Vec<Receipt>, ClientError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        batch::check(parent, events, self.limits)?;
        let requests = events.iter().map(|event| event.batch_item(parent)).collect();
        let request = BatchRecordEventsRequest { requests, parent: parent.to_owned() };
        let send = |mut client: AuditLogServiceClient<Channel>, request| async move {
            client.batch_record_events(request).await
        };
        let reply = self.call(request, send).await?;
        if reply.receipts.len() != events.len() {
            return Err(ClientError::Reply("their number differs"));
        }
        reply.receipts.into_iter().map(|receipt| Receipt::read(Some(receipt))).collect()
    }

    /// Records any number of events, in batches, one after the other: each item of the result is one batch, recorded as
    /// a whole or not at all. A batch takes the events that are ready and waits for no more, so a slow source is not
    /// held up. Nothing happens until the result is polled.
    ///
    /// ```no_run
    /// use auditlog::client::{Emitter, NewEvent};
    /// use tokio_stream::StreamExt as _;
    ///
    /// # async fn example(emitter: Emitter) -> Result<(), Box<dyn std::error::Error>> {
    /// let events = (0..5000).map(|n| NewEvent::create("cluster", format!("c-{n}")).actor_user("ann"));
    /// let mut batches = emitter.record_all("tenants/acme", tokio_stream::iter(events));
    /// while let Some(receipts) = batches.next().await {
    ///     println!("{} recorded", receipts?.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// A batch that failed gives its events back, and the next item is the next batch: to stop is the caller's choice.
    ///
    /// Whoever stops early takes the events back that were taken from the source: [`RecordAll::into_pending`].
    pub fn record_all<S: Stream<Item = NewEvent>>(&self, parent: &str, events: S) -> RecordAll<S> {
        RecordAll::new(self, parent, events)
    }

    async fn call<Q, R, F>(
        &self,
        message: Q,
        send: impl Fn(AuditLogServiceClient<Channel>, Request<Q>) -> F,
    ) -> Result<R, ClientError>
    where
        Q: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let attempt = |limit| send(self.client.clone(), self.request(message.clone(), limit));
        Ok(self.retry.run(attempt).await?.into_inner())
    }

    fn request<Q>(&self, message: Q, limit: Duration) -> Request<Q> {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.claims.clone();
        request.set_timeout(limit);
        request
    }
}

/// The service at `address`; over TLS where that begins with `https://`.
pub(crate) fn endpoint(address: &str, tls: ClientTls) -> Result<Endpoint, ClientError> {
    let endpoint = Endpoint::from_shared(address.to_owned()).map_err(connect_failed(address))?;
    let endpoint = match endpoint.uri().scheme_str() {
        Some("https") => endpoint.tls_config(tls.config()).map_err(connect_failed(address))?,
        // What the caller believes to be encrypted must not go in the clear.
        _ if tls.is_asked_for() => return Err(ClientError::NotEncrypted { address: address.to_owned() }),
        _ => endpoint,
    };
    Ok(endpoint.connect_timeout(CONNECT_TIMEOUT).http2_keep_alive_interval(KEEP_ALIVE))
}

fn connect_failed(address: &str) -> impl FnOnce(tonic::transport::Error) -> ClientError {
    let address = address.to_owned();
    move |source| ClientError::Connect { address, source }
}
