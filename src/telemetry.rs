//! Logs: to stderr, for people on a terminal and for machines elsewhere.

use std::{
    env,
    io::{self, IsTerminal as _},
};

use tracing_subscriber::{EnvFilter, fmt};

use crate::config::{LogConfig, LogFormat};

/// Why logging cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The level is none. `config` refuses such before.
    #[error("log.level")]
    Level(#[from] tracing_subscriber::filter::ParseError),
    /// Something else logs already.
    #[error("logging was set up before: {0}")]
    Twice(Box<dyn std::error::Error + Send + Sync>),
}

/// Begins to log, for the rest of the process. Call it once.
pub fn init(config: &LogConfig) -> Result<(), TelemetryError> {
    let subscriber = fmt().with_writer(io::stderr).with_env_filter(EnvFilter::try_new(&config.level)?);
    match is_json(config.format) {
        true => subscriber.json().flatten_event(true).try_init(),
        false => subscriber.with_ansi(wants_colour()).try_init(),
    }
    .map_err(TelemetryError::Twice)
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
