//! The log's way to stderr, on a thread of its own. Written where they arise, lines would stop all of the service as soon as nobody
//! takes them from the pipe: each thread would wait in the middle of a call, and health with them.

use std::{
    io,
    sync::{OnceLock, mpsc},
    thread,
    time::Duration,
};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// How many lines may wait to be written: a few MiB. What comes beyond is lost, and counted.
const MOST_WAITING: usize = 8192;

/// How long the end waits for whoever reads the lines; the guard gives up after 1.1 s by itself.
const LAST_LINES: Duration = Duration::from_millis(1500);

static LOST: OnceLock<ErrorCounter> = OnceLock::new();

/// Where lines go, and what writes those that wait when it is dropped.
pub(super) fn to_stderr() -> (NonBlocking, WorkerGuard) {
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(MOST_WAITING).thread_name("log");
    let (lines, guard) = builder.finish(io::stderr());
    LOST.get_or_init(|| lines.error_counter());
    (lines, guard)
}

/// Writes what waits. The guard tells of its own failure on stdout, which may be as stuck as stderr.
pub(super) fn finish(guard: WorkerGuard) {
    briefly(move || drop(guard));
}

/// Does what may have to wait for whoever reads this process's output, and goes on without it where that takes too long. For the
/// end of the process alone: the thread may be left behind.
pub fn briefly(what: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel::<()>();
    let doing = thread::Builder::new().spawn(move || {
        what();
        drop(done);
    });
    if doing.is_ok() {
        // Done, or too late: there is nothing more to do about it.
        let _ = ended.recv_timeout(LAST_LINES);
    }
}

/// How many lines this process has lost.
pub fn lost() -> u64 {
    LOST.get().map_or(0, |lost| lost.dropped_lines() as u64)
}
