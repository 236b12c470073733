//! SIGTERM and SIGINT: the first asks the service to end, the second ends it.

use std::{io, process};

use tokio::signal::unix::{self, SignalKind};
use tracing::info;

use super::CliError;

/// Both signals, caught from now on.
pub(super) struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
}

/// Which one came.
#[derive(Clone, Copy, Debug)]
pub(super) enum StopSignal {
    Terminate,
    Interrupt,
}

impl Signals {
    /// Catches both. They are caught from the first moment on because the first process of a container is not ended by
    /// a signal that nobody handles.
    pub(super) fn catch() -> Result<Self, CliError> {
        let catch = |kind| unix::signal(kind).map_err(|error: io::Error| CliError::Io("catch signals", error));
        Ok(Self { terminate: catch(SignalKind::terminate())?, interrupt: catch(SignalKind::interrupt())? })
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> StopSignal {
        tokio::select! {
            _ = self.terminate.recv() => StopSignal::Terminate,
            _ = self.interrupt.recv() => StopSignal::Interrupt,
        }
    }

    /// Resolves at the first signal. From then on the next one ends the process at once.
    pub(super) async fn first(mut self) {
        let signal = self.next().await;
        info!(signal = signal.name(), "shutting down; a second signal ends the process at once");
        tokio::spawn(async move { self.next().await.end_process() });
    }
}

impl StopSignal {
    /// Ends the process as a shell reports a process that the signal ended: 128 and the signal's number.
    pub(super) fn end_process(self) -> ! {
        process::exit(match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }
}
