//! From settings to a configuration: what is not set has its default, and what points to something is read.

use std::{fs, path::PathBuf, time::Duration};

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::{
    auth::{self, ClaimNames},
    model::{Limits, TrafficLimits},
};

use super::{
    AdminConfig, AppendConfig, AuditConfig, AuthConfig, CheckpointConfig, Config, ConnectionConfig, CorsConfig,
    DatabaseConfig, LogConfig, NotesConfig, ShutdownConfig, TlsConfig, database_url,
    error::ConfigError,
    settings::{
        AdminSettings, AppendSettings, AuditSettings, AuthSettings, CheckpointSettings, ConnectionSettings,
        CorsSettings, DatabaseSettings, JwtSettings, LimitsSettings, LogSettings, NotesSettings, Settings,
        ShutdownSettings, TlsSettings,
    },
    values::{HumanDuration, Limit, SecretUrl},
};

/// The databases there are.
const SCHEMES: [&str; 3] = ["sqlite", "postgres", "postgresql"];

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
            audit: self.audit.resolve(default.audit)?,
            auth: self.auth.resolve(default.auth),
            checkpoint: self.checkpoint.resolve(default.checkpoint),
            jwt: self.jwt.resolve(default.jwt)?,
            tls: self.tls.resolve()?,
            notes: self.notes.resolve(default.notes),
            traffic: self.limits.resolve_traffic(default.traffic)?,
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
        match self.max_age.map(|age| age.0) {
            Some(age) if age < SHORTEST => {
                Err(ConfigError::value("connection.max_age", "must be 1ms or more; leave it unset for any age"))
            }
            max_age => Ok(ConnectionConfig { max_age }),
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
        let statement_timeout =
            positive("database.statement_timeout", self.statement_timeout, default.statement_timeout)?;
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
        // `Config::load` sees to it that there are not both.
        (Some(url), _) => checked_url("database.url", url.expose()).map(Some),
        // Not shown: it may hold a password.
        (None, Some(path)) if path.to_string_lossy().contains("://") => Err(ConfigError::value(
            "database.url_file",
            "is the path of a file that holds the URL, and this is a URL: set database.url (AUDITLOG_DATABASE_URL)",
        )),
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

impl AuditSettings {
    fn resolve(self, default: AuditConfig) -> Result<AuditConfig, ConfigError> {
        Ok(AuditConfig {
            denied: self.denied.unwrap_or(default.denied),
            reads: self.reads.unwrap_or(default.reads),
            interval: positive("audit.interval", self.interval, default.interval)?,
        })
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

impl JwtSettings {
    fn resolve(self, default: auth::JwtConfig) -> Result<auth::JwtConfig, ConfigError> {
        let names = default.claims;
        Ok(auth::JwtConfig {
            secret_file: self.secret_file,
            public_key_file: self.public_key_file,
            jwks: self.jwks,
            jwks_refresh: positive("jwt.jwks_refresh", self.jwks_refresh, default.jwks_refresh)?,
            issuer: self.issuer.map_or(default.issuer, |names| names.0),
            audience: self.audience.map_or(default.audience, |names| names.0),
            claims: ClaimNames {
                subject: self.subject_claim.unwrap_or(names.subject),
                name: self.name_claim.unwrap_or(names.name),
                subject_type: self.subject_type_claim.unwrap_or(names.subject_type),
                roles: self.roles_claim.unwrap_or(names.roles),
                permissions: self.permissions_claim.unwrap_or(names.permissions),
            },
            grants: self.grants,
        })
    }
}

impl TlsSettings {
    fn resolve(self) -> Result<Option<TlsConfig>, ConfigError> {
        let (cert_file, key_file) = match (self.cert_file, self.key_file) {
            (Some(cert_file), Some(key_file)) => (cert_file, key_file),
            (Some(_), None) => return Err(ConfigError::value("tls.key_file", "is required beside tls.cert_file")),
            (None, Some(_)) => return Err(ConfigError::value("tls.cert_file", "is required beside tls.key_file")),
            (None, None) if self.client_ca_file.is_some() => {
                return Err(ConfigError::value("tls.cert_file", "is required beside tls.client_ca_file"));
            }
            (None, None) if self.client_subjects.is_some() => {
                return Err(ConfigError::value("tls.cert_file", "is required beside tls.client_subjects"));
            }
            (None, None) => return Ok(None),
        };
        let client_subjects = self.client_subjects.map(|names| names.0).unwrap_or_default();
        if self.client_ca_file.is_none() && !client_subjects.is_empty() {
            return Err(ConfigError::value("tls.client_ca_file", "is required beside tls.client_subjects"));
        }
        Ok(Some(TlsConfig { cert_file, key_file, client_ca_file: self.client_ca_file, client_subjects }))
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

    /// How much may come; it shares its table with what a request may hold.
    fn resolve_traffic(&self, default: TrafficLimits) -> Result<TrafficLimits, ConfigError> {
        let or = |limit: Option<Limit>, default| limit.map_or(default, Limit::get);
        Ok(TrafficLimits {
            header_bytes: or(self.header_bytes, default.header_bytes),
            connections: or(self.connections, default.connections),
            handshake_time: positive("limits.handshake_time", self.handshake_time, default.handshake_time)?,
            idle_time: positive("limits.idle_time", self.idle_time, default.idle_time)?,
            connection_calls: or(self.connection_calls, default.connection_calls),
            calls: or(self.calls, default.calls),
            caller_calls: or(self.caller_calls, default.caller_calls),
            caller_rate: or(self.caller_rate, default.caller_rate),
            call_time: positive("limits.call_time", self.call_time, default.call_time)?,
            exports: or(self.exports, default.exports),
            caller_exports: or(self.caller_exports, default.caller_exports),
            export_stall: positive("limits.export_stall", self.export_stall, default.export_stall)?,
        })
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

/// What a wait takes at the least: nobody would be in time for less.
const SHORTEST: Duration = Duration::from_millis(1);

fn or_default(duration: Option<HumanDuration>, default: Duration) -> Duration {
    duration.map_or(default, |duration| duration.0)
}

fn positive(
    setting: &'static str,
    duration: Option<HumanDuration>,
    default: Duration,
) -> Result<Duration, ConfigError> {
    let duration = or_default(duration, default);
    match duration >= SHORTEST {
        true => Ok(duration),
        false => Err(ConfigError::value(setting, "must be 1ms or more")),
    }
}
