//! Why the settings cannot be taken.

use std::{io, net::SocketAddr, path::PathBuf};

use crate::auth::{PolicyError, jwt::JwtError};

use super::environment::variable;

/// Why the settings cannot be taken. Each text names the setting and, where there is one, the way out.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The configuration file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The configuration file holds what is no TOML, no setting or no value.
    #[error("{}:{line}: {problem}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        problem: String,
    },
    /// An environment variable holds no value of its setting.
    #[error("environment variable {name}: {problem}")]
    Variable {
        /// The variable.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A flag holds a password.
    #[error(
        "--database-url holds a password, and flags are seen by everybody on the machine: set AUDITLOG_DATABASE_URL, or \
         put the URL into a file and name it by AUDITLOG_DATABASE_URL_FILE"
    )]
    SecretInFlag,
    /// The file that should hold the database URL cannot be read.
    #[error("cannot read {}, which database.url_file (AUDITLOG_DATABASE_URL_FILE) names", path.display())]
    UrlFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database is told twice.
    #[error(
        "database.url (AUDITLOG_DATABASE_URL) and database.url_file (AUDITLOG_DATABASE_URL_FILE) are both set in one place: unset one"
    )]
    UrlTwice,
    /// A value that cannot be, by itself or beside another one.
    #[error("{setting} ({}): {problem}", variable(setting))]
    Value {
        /// The key in the file, with its table.
        setting: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Anybody who reaches the address could claim to be anybody.
    #[error(
        "auth.mode is metadata, which believes what callers say about themselves, and listen is {0}, which others can \
         reach: listen on loopback, such as 127.0.0.1:50051; or demand client certificates by AUDITLOG_TLS_CLIENT_CA_FILE; \
         or, if only a trusted gateway can reach that address, set AUDITLOG_AUTH_TRUST_NETWORK=true ([auth] trust_network \
         = true)"
    )]
    Exposed(SocketAddr),
    /// Nothing to check a token with.
    #[error(
        "auth.mode is jwt, and there is no key to check tokens with: set AUDITLOG_JWT_SECRET_FILE, \
         AUDITLOG_JWT_PUBLIC_KEY_FILE or AUDITLOG_JWT_JWKS"
    )]
    NoKeys,
    /// Every certificate of the authority could speak for everybody.
    #[error(
        "auth.mode is metadata and client certificates are demanded: set AUDITLOG_TLS_CLIENT_SUBJECTS ([tls] \
         client_subjects) to the DNS or URI names of those that may vouch for callers"
    )]
    NoVouchers,
    /// Foreign grants that cannot be read.
    #[error(transparent)]
    Jwt(#[from] JwtError),
    /// A role that cannot be.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

impl ConfigError {
    pub(super) fn value(setting: &'static str, problem: impl Into<String>) -> Self {
        Self::Value { setting, problem: problem.into() }
    }
}
