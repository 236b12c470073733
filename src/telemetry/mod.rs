//! Logs: to stderr, for people on a terminal and for machines elsewhere. And traces, for those who ask for them.

mod call_span;
mod lines;
mod otlp;
pub mod trace_parent;

use std::{
    env,
    io::{self, IsTerminal as _},
    sync::atomic::Ordering,
};

use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::{
    EnvFilter, Layer as _,
    fmt::{self, MakeWriter},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::config::{LogConfig, LogFormat};

pub use call_span::{begin_call, end_call};
pub use lines::{briefly, lost as lines_lost};

/// Why logging cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The level is none. `config` refuses such before.
    #[error("log.level")]
    Level(#[from] tracing_subscriber::filter::ParseError),
    /// Something else logs already.
    #[error("logging was set up before: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
    /// Traces shall be exported, and the variables do not say how.
    #[error("cannot export traces as the OTEL_ variables ask: {0}")]
    Otlp(#[from] otlp::OtlpError),
}

/// What runs beside the service until the process ends.
#[derive(Debug)]
#[must_use = "what is left to write and to export is lost if it is not shut down"]
pub struct Telemetry {
    exporter: Option<otlp::Exporter>,
    lines: Lines,
}

/// Writes the log's lines until the process ends.
#[derive(Debug)]
#[must_use = "what is left to write is lost if it is not finished"]
pub struct Lines(WorkerGuard);

impl Telemetry {
    /// Sends what is left of the traces; the log goes on. Blocks, for as long as the variables give an export.
    pub fn shut_down(self) -> Lines {
        if let Some(exporter) = self.exporter {
            exporter.shut_down();
        }
        self.lines
    }
}

impl Lines {
    /// Writes what is left of the log. Blocks, for a second and a half where nobody reads it.
    pub fn finish(self) {
        lines::finish(self.0);
    }
}

/// Begins to log, for the rest of the process, which waits for whoever reads it. Call it once.
pub fn init_logs(config: &LogConfig) -> Result<(), TelemetryError> {
    subscriber(config, io::stderr, None)
}

/// Begins to log without ever waiting for whoever reads it, and to export traces if the `OTEL_` variables ask for it. Call it once,
/// in a runtime that outlives the [`Telemetry`].
pub fn init(config: &LogConfig) -> Result<Telemetry, TelemetryError> {
    let exporter = otlp::Exporter::from_environment()?;
    let (writer, lines) = lines::to_stderr();
    subscriber(config, writer, exporter.as_ref())?;
    call_span::EXPORTED.store(exporter.is_some(), Ordering::Relaxed);
    Ok(Telemetry { exporter, lines: Lines(lines) })
}

/// Without an exporter there is no layer for it: traces that nobody wants cost nothing.
fn subscriber(
    config: &LogConfig,
    writer: impl for<'w> MakeWriter<'w> + Send + Sync + 'static,
    exporter: Option<&otlp::Exporter>,
) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(&config.level)?;
    let lines = match is_json(config.format) {
        // Not the one of tracing-subscriber: it parses and prints a span's fields anew for each one that is recorded later,
        // logged or not, and that took a quarter of the time of recording an event.
        true => json_subscriber::layer().with_writer(writer).flatten_event(true).with_span_list(false).boxed(),
        false => fmt::layer().with_writer(writer).with_ansi(wants_colour()).boxed(),
    };
    let logs = lines.with_filter(filter);
    Ok(tracing_subscriber::registry().with(logs).with(exporter.map(otlp::Exporter::layer)).try_init()?)
}

fn is_json(format: LogFormat) -> bool {
    match format {
        LogFormat::Auto => !io::stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    }
}

/// `NO_COLOR` as <https://no-color.org> has it.
fn wants_colour() -> bool {
    io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
