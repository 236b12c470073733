//! The settings, from where they are written down to one checked [`Config`].
//!
//! Four layers: defaults < `auditlog.toml` < environment < flags. [`settings`] is the one table that serves the last three:
//! each field is a key of the file, a flag, and (by rule, not by hand) an environment variable.

mod database_url;
mod environment;
mod error;
mod file;
#[cfg(any(test, fuzzing))]
pub mod laws;
mod resolve;
pub mod settings;
mod validate;
pub mod values;

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use crate::{
    auth::RoleSettings,
    model::{Limits, TrafficLimits},
};

pub use crate::auth::{ClaimNames, JwtConfig};
pub use environment::{setting_ids, variable};
pub use error::ConfigError;
pub use settings::Settings;
pub use values::{AuthMode, LogFormat};

/// All settings, resolved. `Default` gives the documented defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where gRPC is served.
    pub listen: SocketAddr,
    /// `[admin]`.
    pub admin: AdminConfig,
    /// `[connection]`.
    pub connection: ConnectionConfig,
    /// `[cors]`.
    pub cors: CorsConfig,
    /// `[database]`.
    pub database: DatabaseConfig,
    /// `[append]`.
    pub append: AppendConfig,
    /// `[audit]`.
    pub audit: AuditConfig,
    /// `[auth]`.
    pub auth: AuthConfig,
    /// `[checkpoint]`.
    pub checkpoint: CheckpointConfig,
    /// `[jwt]`.
    pub jwt: JwtConfig,
    /// `[tls]`; `None`: without TLS.
    pub tls: Option<TlsConfig>,
    /// `[notes]`.
    pub notes: NotesConfig,
    /// `[limits]` of what a request holds.
    pub limits: Limits,
    /// `[limits]` of how much may come.
    pub traffic: TrafficLimits,
    /// `[roles.NAME]`, by name.
    pub roles: BTreeMap<String, RoleSettings>,
    /// `[log]`.
    pub log: LogConfig,
    /// `[shutdown]`.
    pub shutdown: ShutdownConfig,
}

/// For those who watch the service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdminConfig {
    /// Where `/livez`, `/readyz` and `/metrics` are, over plain HTTP; `None`: nowhere.
    pub listen: Option<SocketAddr>,
}

/// How connections are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionConfig {
    /// How old one may get, more than zero; `None`: any age.
    pub max_age: Option<Duration>,
}

/// Which web pages may call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CorsConfig {
    /// Their origins, each `scheme://host` or `scheme://host:port`.
    pub allowed_origins: BTreeSet<String>,
}

/// Where events are stored.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseConfig {
    /// A URL such as `sqlite://auditlog.db`. It may hold a password: show [`Self::public_url`] instead.
    pub url: String,
    /// The most connections that are open at a time for reading, at least 1.
    pub pool_size: u32,
    /// How long a statement may take, or wait for a lock; more than zero.
    pub statement_timeout: Duration,
    /// How long a start waits for a server that is away.
    pub start_wait: Duration,
    /// Whether a start brings the schema up to date.
    pub migrate: bool,
}

/// How events wait to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendConfig {
    /// How many threads append, each with a connection of its own, at least 1. On SQLite it is always one.
    pub workers: usize,
    /// The most events that wait, not below `limits.batch_events`.
    pub queue_events: usize,
}

/// What the service records of those who use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditConfig {
    /// Whether denied calls become events.
    pub denied: bool,
    /// Whether reads become events.
    pub reads: bool,
    /// How often, at most, the same denial or read does; more than zero.
    pub interval: Duration,
}

/// How callers are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthConfig {
    /// Where the claims come from.
    pub mode: AuthMode,
    /// Whether the network keeps strangers out, so that claims may be believed beyond loopback.
    pub trust_network: bool,
}

/// How checkpoints are signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointConfig {
    /// The key's file.
    pub key_file: PathBuf,
    /// What the names of the tenants' logs begin with.
    pub origin: String,
}

/// How connections are encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// PEM file with the certificate, and those that lead to its authority.
    pub cert_file: PathBuf,
    /// PEM file with its private key.
    pub key_file: PathBuf,
    /// PEM file with the authorities of client certificates; `None`: none are asked for.
    pub client_ca_file: Option<PathBuf>,
    /// The DNS and URI names of those client certificates that may vouch; empty: any.
    pub client_subjects: BTreeSet<String>,
}

/// Which events take update notes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotesConfig {
    /// Their resource types.
    pub resource_types: BTreeSet<String>,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// A level, or directives as `tracing_subscriber::EnvFilter` reads them.
    pub level: String,
    /// For people or for machines.
    pub format: LogFormat,
}

/// How the service ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShutdownConfig {
    /// How long it goes on after it has said that it is going, so that load balancers notice.
    pub delay: Duration,
    /// How long calls in flight may take to finish after that.
    pub grace: Duration,
}

/// What [`Config::load`] found.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// The configuration file that was read, if there was one.
    pub file: Option<PathBuf>,
    /// Environment variables that begin like ours and are none, in order. Kubernetes makes such; a typing error too.
    pub unknown_variables: Vec<String>,
}

impl Config {
    /// Reads all layers: `flags`, the variables of `environment`, and the file that `--config` (`file`) or
    /// `AUDITLOG_CONFIG` names, else `auditlog.toml` in the working directory if it is there.
    ///
    /// Each value is checked by itself; whether they fit together says [`Self::validate`].
    pub fn load(
        flags: Settings,
        file: Option<PathBuf>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Loaded, ConfigError> {
        refuse_secrets(&flags)?;
        let environment = environment::read(environment)?;
        let (settings, file) = file::read(file.or(environment.file))?;
        let [flags, variables, file_settings] = [flags, environment.settings, settings].map(with_one_url);
        let config = flags?.over(variables?).over(file_settings?).resolve()?;
        Ok(Loaded { config, file, unknown_variables: environment.unknown })
    }
}

/// Where a layer named two databases, nobody could tell which one it means.
fn with_one_url(layer: Settings) -> Result<Settings, ConfigError> {
    match (&layer.database.url, &layer.database.url_file) {
        (Some(_), Some(_)) => Err(ConfigError::UrlTwice),
        _ => Ok(layer),
    }
}

/// Flags are seen by everybody on the machine, and remembered by shells.
fn refuse_secrets(flags: &Settings) -> Result<(), ConfigError> {
    match &flags.database.url {
        Some(url) if database_url::has_password(url) => Err(ConfigError::SecretInFlag),
        _ => Ok(()),
    }
}

impl DatabaseConfig {
    /// The URL without a password and without a query, for people and logs.
    pub fn public_url(&self) -> String {
        database_url::without_secrets(&self.url)
    }
}

impl fmt::Debug for DatabaseConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseConfig")
            .field("url", &self.public_url())
            .field("pool_size", &self.pool_size)
            .field("statement_timeout", &self.statement_timeout)
            .field("start_wait", &self.start_wait)
            .field("migrate", &self.migrate)
            .finish()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 50051).into(),
            admin: AdminConfig::default(),
            connection: ConnectionConfig::default(),
            cors: CorsConfig::default(),
            database: DatabaseConfig::default(),
            append: AppendConfig { workers: 2, queue_events: 4096 },
            audit: AuditConfig { denied: true, reads: false, interval: Duration::from_secs(60) },
            auth: AuthConfig { mode: AuthMode::Metadata, trust_network: false },
            checkpoint: CheckpointConfig { key_file: "checkpoint.key".into(), origin: "auditlog.local".to_owned() },
            jwt: JwtConfig::default(),
            tls: None,
            notes: NotesConfig { resource_types: ["clusterprofile".to_owned()].into() },
            limits: Limits::default(),
            traffic: TrafficLimits::default(),
            roles: BTreeMap::new(),
            log: LogConfig { level: "info".to_owned(), format: LogFormat::Auto },
            shutdown: ShutdownConfig { delay: Duration::ZERO, grace: Duration::from_secs(25) },
        }
    }
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self {
            url: "sqlite://auditlog.db".to_owned(),
            pool_size: 8,
            statement_timeout: Duration::from_secs(10),
            start_wait: Duration::from_secs(30),
            migrate: true,
        }
    }
}

#[cfg(test)]
mod tests;
