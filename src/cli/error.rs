//! Why a command did not do what was asked, in one line, and with which exit code.
//!
//! Exit codes: 0 when all went well, 2 when the command line or the settings are wrong, 3 when `verify` has found something
//! that does not hold, 130 and 143 when a signal ended the process at once, 1 for everything else.

use std::{
    error::Error,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use crate::{
    app::AppError,
    auth::jwt::JwtError,
    checkpoint_key::KeyFileError,
    client::{CallFailed, ClientError},
    config::ConfigError,
    merkle::CheckpointError,
    model::Printable,
    telemetry::{self, TelemetryError},
    verify::VerifyError,
};

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the descriptor set is binary: redirect it, as in `auditlog descriptor > auditlog.binpb`")]
    BinaryToTerminal,
    #[error("there is no address to ask at: set AUDITLOG_ADMIN_LISTEN as for the service")]
    NoAdminAddress,
    #[error("the service is not ready")]
    NotReady,
    #[error(
        "there is nothing to sign a token with: set AUDITLOG_JWT_SECRET_FILE (--jwt-secret-file), or give --private-key-file"
    )]
    NoSigningKey,
    #[error(transparent)]
    Jwt(#[from] JwtError),
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    #[error(transparent)]
    App(#[from] AppError),
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    #[error("--tenant: {0:?} is no tenant id, which is like [A-Za-z0-9][A-Za-z0-9._~-]{{0,127}}")]
    Tenant(String),
    #[error("--verifier-key is for {found}, which is not the log of tenants/{tenant}")]
    KeyOfOtherLog { found: String, tenant: String },
    #[error("{}: the checkpoint is of {found}, which is not the log of tenants/{tenant}", .file.display())]
    OtherLog { file: PathBuf, found: String, tenant: String },
    #[error("{}: {error}", .file.display())]
    Checkpoint { file: PathBuf, error: CheckpointError },
    #[error(
        "there is no log of tenants/{0}, or nothing is recorded in it: check the tenant, and the database or the address; \
         --allow-empty accepts it"
    )]
    NoSuchLog(String),
    #[error("there is no {}: leave --checkpoint out the first time, when --write-checkpoint makes it", .0.display())]
    NoSavedCheckpoint(PathBuf),
    #[error("--write-checkpoint takes --address: a checkpoint is signed, and only the service has the key")]
    OnlyServiceSigns,
    #[error(
        "--verifier-key is missing: give the key that the operator has printed with `auditlog key show`, or --unsigned, \
         which checks the file against a manifest that anybody may have made"
    )]
    NoVerifierKey,
    #[error("--address is missing: where is the service?")]
    NoAddress,
    #[error("{0} has no effect {1}: leave it out")]
    NoEffect(&'static str, &'static str),
    #[error("--address and --database-url are two logs: name one")]
    TwoLogs,
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the service at {address}: {failed}")]
    Call { address: String, failed: Box<CallFailed> },
    #[error("the export cannot be completed: {0}")]
    Export(String),
    #[error("{} is complete; what was left to do failed", .file.display())]
    Untidy {
        file: PathBuf,
        #[source]
        error: Box<CliError>,
    },
    #[error("{} {problem}", .file.display())]
    Output { file: PathBuf, problem: &'static str },
    #[error("the service lists events of {0} without an end, behind the checkpoint that is to be verified")]
    Endless(String),
    #[error("the file cannot be checked, although it is the one that the manifest is about: {0}")]
    Unread(String),
    #[error("it does not hold: {0} finding(s)")]
    DoesNotHold(u64),
    #[error("cannot {what} {}", .file.display())]
    File { what: &'static str, file: PathBuf, source: io::Error },
    #[error("cannot {0}")]
    Io(&'static str, #[source] io::Error),
    #[error("cannot record the sample events")]
    Demo(#[source] Box<dyn Error + Send + Sync>),
}

impl CliError {
    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_)
            | Self::BinaryToTerminal
            | Self::NoAdminAddress
            | Self::NoSigningKey
            | Self::Jwt(_)
            | Self::Tenant(_)
            | Self::KeyOfOtherLog { .. }
            | Self::OtherLog { .. }
            | Self::NoSavedCheckpoint(_)
            | Self::OnlyServiceSigns
            | Self::NoVerifierKey
            | Self::NoEffect(..)
            | Self::TwoLogs
            | Self::NoAddress
            | Self::Output { .. } => ExitCode::from(2),
            Self::DoesNotHold(_) => ExitCode::from(3),
            _ => ExitCode::FAILURE,
        }
    }
}

/// Tells the error on stderr.
pub(super) fn end(result: Result<(), CliError>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    let line = one_line(&error);
    telemetry::briefly(move || {
        // Not `eprintln!`, which panics when stderr is closed.
        let _ = writeln!(io::stderr(), "auditlog: {line}");
    });
    error.exit_code()
}

/// The error and its causes, leaving out those whose text the one before has said already.
pub(super) fn one_line(error: &dyn Error) -> String {
    let mut line = flat(error);
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = flat(error);
        if !line.ends_with(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line
}

/// In words of ours and, where a service has answered, of its own.
fn flat(error: &dyn Error) -> String {
    let text = error.to_string();
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Printable(&lines.join(" ")).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_with_causes_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] io::Error);
        assert_eq!(one_line(&Outer(io::Error::other("inner\n  more"))), "outer: inner more");
        assert_eq!(one_line(&Outer(io::Error::other("Zoë\r\u{1b}[8m"))), r"outer: Zoë\r\u{1b}[8m");
        assert_eq!(one_line(&CliError::Config(ConfigError::UrlTwice)), ConfigError::UrlTwice.to_string());
    }
}
