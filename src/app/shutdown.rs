//! The end of the service, in order.

use std::io;

use tokio::{
    sync::oneshot,
    task::{JoinError, JoinHandle},
    time,
};

use crate::{
    config::ShutdownConfig,
    ingest::{Hung, Ingest, Workers},
};

use super::{AppError, health::Health};

/// Lets the delay and the grace pass, and takes no more calls in between.
pub(super) async fn drain(
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
    stop: oneshot::Sender<()>,
    health: Health,
    shutdown: ShutdownConfig,
) -> Result<(), AppError> {
    tracing::info!(delay = ?shutdown.delay, grace = ?shutdown.grace, "shutting down");
    time::sleep(shutdown.delay).await;
    drop(stop);
    health.end_watches().await;
    let abort = serving.abort_handle();
    match time::timeout(shutdown.grace, serving).await {
        Ok(ended) => flatten(ended),
        Err(_) => {
            tracing::warn!("the grace has passed; what is still open is cut off");
            abort.abort();
            Ok(())
        }
    }
}

/// Has all committed and answered that was accepted, unless the store hangs.
pub(super) async fn finish(ingest: &Ingest, workers: Workers) -> Result<(), AppError> {
    ingest.close();
    let joined = workers.join().await;
    if let Err(Hung(workers)) = joined {
        let unanswered = ingest.waiting();
        tracing::error!(
            workers,
            unanswered,
            "the database does not answer, or is too slow; what is unanswered may be stored or not"
        );
    }
    Ok(joined?)
}

pub(super) fn flatten(ended: Result<Result<(), tonic::transport::Error>, JoinError>) -> Result<(), AppError> {
    Ok(ended.map_err(io::Error::other)??)
}
