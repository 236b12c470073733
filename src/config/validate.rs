//! From settings to a configuration: reading what they point to, and holding one against the other.

use std::{fs, path::PathBuf, time::Duration};

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::{auth::Policy, model::Limits};

use super::{
    AdminConfig, AppendConfig, AuthConfig, AuthMode, CheckpointConfig, Config, ConnectionConfig, CorsConfig,
    DatabaseConfig, LogConfig, NotesConfig, ShutdownConfig, database_url,
    error::ConfigError,
    settings::{
        AdminSettings, AppendSettings, AuthSettings, CheckpointSettings, ConnectionSettings, CorsSettings,
        DatabaseSettings, LimitsSettings, LogSettings, NotesSettings, Settings, ShutdownSettings,
    },
    values::{HumanDuration, Limit, SecretUrl},
};

/// The databases there are.
const SCHEMES: [&str; 3] = ["sqlite", "postgres", "postgresql"];

impl Config {
    /// Whether the settings fit together and may be served with.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_sizes()?;
        Policy::new(&self.roles)?;
        self.validate_exposure()
    }

    fn validate_sizes(&self) -> Result<(), ConfigError> {
        let limits = &self.limits;
        let at_least = |setting, value: usize, name: &str, least: usize| match value >= least {
            true => Ok(()),
            false => Err(ConfigError::value(setting, format!("{value} is less than {name}, which is {least}"))),
        };
        at_least("limits.batch_bytes", limits.batch_bytes, "limits.event_bytes", limits.event_bytes)?;
        at_least("append.queue_events", self.append.queue_events, "limits.batch_events", limits.batch_events)
    }

    fn validate_exposure(&self) -> Result<(), ConfigError> {
        let believes_callers = self.auth.mode == AuthMode::Metadata;
        // `to_canonical`: ::ffff:127.0.0.1 is loopback too.
        let is_reachable = !self.listen.ip().to_canonical().is_loopback();
        match believes_callers && is_reachable && !self.auth.trust_network {
            true => Err(ConfigError::Exposed(self.listen)),
            false => Ok(()),
        }
    }
}

impl Settings {
    /// What is not set has its default.
    pub(super) fn resolve(self) -> Result<Config, ConfigError> {
        let default = Config::default();
        Ok(Config {
            listen: self.listen.unwrap_or(default.listen),
            admin: self.admin.resolve(),
            connection: self.connection.resolve()?,
            cors: self.cors.resolve()?,
            database: self.database.resolve(default.database)?,
            append: self.append.resolve(default.append),
            auth: self.auth.resolve(default.auth),
            checkpoint: self.checkpoint.resolve(default.checkpoint),
            notes: self.notes.resolve(default.notes),
            limits: self.limits.resolve(default.limits),
            roles: self.roles,
            log: self.log.resolve(default.log)?,
            shutdown: self.shutdown.resolve(default.shutdown),
        })
    }
}

impl AdminSettings {
    fn resolve(self) -> AdminConfig {
        AdminConfig { listen: self.listen }
    }
}

impl ConnectionSettings {
    fn resolve(self) -> Result<ConnectionConfig, ConfigError> {
        let max_age = self.max_age.map(|age| age.0);
        match max_age.is_some_and(|age| age.is_zero()) {
            true => Err(ConfigError::value("connection.max_age", "must be more than zero; leave it unset for any age")),
            false => Ok(ConnectionConfig { max_age }),
        }
    }
}

impl CorsSettings {
    fn resolve(self) -> Result<CorsConfig, ConfigError> {
        let allowed_origins = self.allowed_origins.map(|names| names.0).unwrap_or_default();
        match allowed_origins.iter().find(|origin| !is_origin(origin)) {
            Some(origin) => Err(ConfigError::value(
                "cors.allowed_origins",
                format!("{origin:?} is no origin such as https://console.example.com; name each one, without a path"),
            )),
            None => Ok(CorsConfig { allowed_origins }),
        }
    }
}

/// As a browser writes it: in lower case, without a default port, a path or a slash at the end.
fn is_origin(text: &str) -> bool {
    let Ok(uri) = text.parse::<http::Uri>() else { return false };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return false };
    let default_port = match scheme {
        "https" => 443,
        "http" => 80,
        _ => return false,
    };
    let is_bare = authority.port_u16() != Some(default_port) && !authority.as_str().contains('@');
    is_bare && text == format!("{scheme}://{authority}").to_lowercase()
}

impl DatabaseSettings {
    fn resolve(self, default: DatabaseConfig) -> Result<DatabaseConfig, ConfigError> {
        let statement_timeout = or_default(self.statement_timeout, default.statement_timeout);
        if statement_timeout.is_zero() {
            return Err(ConfigError::value("database.statement_timeout", "must be more than zero"));
        }
        Ok(DatabaseConfig {
            url: resolve_url(self.url, self.url_file)?.unwrap_or(default.url),
            pool_size: self.pool_size.map_or(default.pool_size, Into::into),
            statement_timeout,
            start_wait: or_default(self.start_wait, default.start_wait),
            migrate: self.migrate.unwrap_or(default.migrate),
        })
    }
}

fn resolve_url(url: Option<SecretUrl>, file: Option<PathBuf>) -> Result<Option<String>, ConfigError> {
    match (url, file) {
        (Some(_), Some(_)) => Err(ConfigError::UrlTwice),
        (Some(url), None) => checked_url("database.url", url.expose()).map(Some),
        (None, Some(path)) => match fs::read_to_string(&path) {
            Ok(text) => checked_url("database.url_file", text.trim()).map(Some),
            Err(source) => Err(ConfigError::UrlFile { path, source }),
        },
        (None, None) => Ok(None),
    }
}

fn checked_url(setting: &'static str, url: &str) -> Result<String, ConfigError> {
    let has_rest = |scheme: &&str| url.len() > scheme.len() + "://".len();
    match database_url::scheme(url).filter(has_rest) {
        Some(scheme) if SCHEMES.contains(&scheme) => Ok(url.to_owned()),
        Some(scheme) => Err(ConfigError::value(
            setting,
            format!("there is no support for {scheme}://; use sqlite://FILE or postgres://…"),
        )),
        None => Err(ConfigError::value(
            setting,
            "must be a URL such as sqlite://auditlog.db or postgres://user@host/database",
        )),
    }
}

impl AppendSettings {
    fn resolve(self, default: AppendConfig) -> AppendConfig {
        AppendConfig {
            workers: self.workers.map_or(default.workers, |workers| workers.get() as usize),
            queue_events: self.queue_events.map_or(default.queue_events, Limit::get),
        }
    }
}

impl AuthSettings {
    fn resolve(self, default: AuthConfig) -> AuthConfig {
        AuthConfig {
            mode: self.mode.unwrap_or(default.mode),
            trust_network: self.trust_network.unwrap_or(default.trust_network),
        }
    }
}

impl CheckpointSettings {
    fn resolve(self, default: CheckpointConfig) -> CheckpointConfig {
        CheckpointConfig {
            key_file: self.key_file.unwrap_or(default.key_file),
            origin: self.origin.map_or(default.origin, |origin| origin.0),
        }
    }
}

impl NotesSettings {
    fn resolve(self, default: NotesConfig) -> NotesConfig {
        NotesConfig { resource_types: self.resource_types.map_or(default.resource_types, |names| names.0) }
    }
}

impl LimitsSettings {
    fn resolve(self, default: Limits) -> Limits {
        let or = |limit: Option<Limit>, default| limit.map_or(default, Limit::get);
        Limits {
            resource_type_bytes: or(self.resource_type_bytes, default.resource_type_bytes),
            id_bytes: or(self.id_bytes, default.id_bytes),
            name_bytes: or(self.name_bytes, default.name_bytes),
            message_bytes: or(self.message_bytes, default.message_bytes),
            note_bytes: or(self.note_bytes, default.note_bytes),
            changes: or(self.changes, default.changes),
            change_value_bytes: or(self.change_value_bytes, default.change_value_bytes),
            attributes: or(self.attributes, default.attributes),
            attribute_key_bytes: or(self.attribute_key_bytes, default.attribute_key_bytes),
            attribute_value_bytes: or(self.attribute_value_bytes, default.attribute_value_bytes),
            event_bytes: or(self.event_bytes, default.event_bytes),
            batch_events: or(self.batch_events, default.batch_events),
            batch_bytes: or(self.batch_bytes, default.batch_bytes),
            notes: or(self.notes, default.notes),
            filter_values: or(self.filter_values, default.filter_values),
            inspected_events: or(self.inspected_events, default.inspected_events),
        }
    }
}

impl LogSettings {
    fn resolve(self, default: LogConfig) -> Result<LogConfig, ConfigError> {
        let level = self.level.unwrap_or(default.level);
        match is_log_level(&level) {
            true => Ok(LogConfig { level, format: self.format.unwrap_or(default.format) }),
            false => Err(ConfigError::value(
                "log.level",
                format!(
                    "{level:?} is none of off, error, warn, info, debug, trace, nor a list such as info,auditlog=debug"
                ),
            )),
        }
    }
}

/// `EnvFilter` takes a mistyped level for the name of a module, and would then log nothing at all.
fn is_log_level(level: &str) -> bool {
    let is_directive = |part: &str| part.contains('=') || part.parse::<LevelFilter>().is_ok();
    EnvFilter::try_new(level).is_ok() && level.split(',').map(str::trim).all(is_directive)
}

impl ShutdownSettings {
    fn resolve(self, default: ShutdownConfig) -> ShutdownConfig {
        ShutdownConfig { delay: or_default(self.delay, default.delay), grace: or_default(self.grace, default.grace) }
    }
}

fn or_default(duration: Option<HumanDuration>, default: Duration) -> Duration {
    duration.map_or(default, |duration| duration.0)
}
