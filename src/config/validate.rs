//! Whether settings may be served with: one held against the other.

use std::time::Duration;

use crate::{auth::Policy, model::Limits};

use super::{AuthMode, Config, error::ConfigError};

/// PostgreSQL counts the milliseconds of some of what follows from it in 31 bits.
const LONGEST_STATEMENT: Duration = Duration::from_secs(24 * 60 * 60);

impl Config {
    /// Whether the settings fit together and may be served with.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_sizes()?;
        self.validate_store()?;
        Policy::new(&self.roles)?;
        self.jwt.validate_grants()?;
        self.validate_exposure()
    }

    fn validate_sizes(&self) -> Result<(), ConfigError> {
        let limits = &self.limits;
        let at_least = |setting, value: usize, name: &str, least: usize| match value >= least {
            true => Ok(()),
            false => Err(ConfigError::value(setting, format!("{value} is less than {name}, which is {least}"))),
        };
        let at_most = |setting, value: usize, most: usize| match value <= most {
            true => Ok(()),
            false => {
                Err(ConfigError::value(setting, format!("{value} is more than {most}, the most that there may be")))
            }
        };
        at_most("limits.batch_events", limits.batch_events, Limits::MOST_BATCH_EVENTS)?;
        at_most("limits.id_bytes", limits.id_bytes, Limits::MOST_INDEXED_BYTES)?;
        at_most("limits.resource_type_bytes", limits.resource_type_bytes, Limits::MOST_INDEXED_BYTES)?;
        at_least("limits.batch_bytes", limits.batch_bytes, "limits.event_bytes", limits.event_bytes)?;
        at_least("append.queue_events", self.append.queue_events, "limits.batch_events", limits.batch_events)
    }

    fn validate_store(&self) -> Result<(), ConfigError> {
        if self.database.statement_timeout > LONGEST_STATEMENT {
            return Err(ConfigError::value("database.statement_timeout", "must be a day or less"));
        }
        match self.checkpoint.key_file.as_os_str().is_empty() {
            true => Err(ConfigError::value("checkpoint.key_file", "must not be empty")),
            false => Ok(()),
        }
    }

    fn validate_exposure(&self) -> Result<(), ConfigError> {
        let is_reachable = self.is_reachable();
        let tls = self.tls.as_ref();
        let demands_certificates = tls.is_some_and(|tls| tls.client_ca_file.is_some());
        let names_vouchers = tls.is_some_and(|tls| !tls.client_subjects.is_empty());
        match self.auth.mode {
            AuthMode::Jwt if !self.jwt.has_keys() => Err(ConfigError::NoKeys),
            // Who sets keys believes that nobody gets in without a token.
            AuthMode::Metadata if self.jwt.has_keys() => Err(ConfigError::value(
                "auth.mode",
                "is metadata, and there are keys for tokens, which nobody would look at: set it to jwt, or leave jwt.secret_file, \
                 jwt.public_key_file and jwt.jwks out",
            )),
            AuthMode::Metadata if demands_certificates && !names_vouchers => Err(ConfigError::NoVouchers),
            AuthMode::Metadata if is_reachable && !demands_certificates && !self.auth.trust_network => {
                Err(ConfigError::Exposed(self.listen))
            }
            AuthMode::Jwt | AuthMode::Metadata => Ok(()),
        }
    }

    /// Whether others than this machine may reach the address.
    fn is_reachable(&self) -> bool {
        // `to_canonical`: ::ffff:127.0.0.1 is loopback too.
        !self.listen.ip().to_canonical().is_loopback()
    }

    /// What is legal and yet dangerous, in words for the log.
    pub fn warnings(&self) -> Vec<&'static str> {
        let is_jwt = self.auth.mode == AuthMode::Jwt;
        let is_reachable = self.is_reachable();
        [
            (
                !is_jwt && self.auth.trust_network,
                "auth.trust_network is on: whoever reaches the address may claim to be anybody",
            ),
            (
                is_jwt && self.jwt.audience.is_empty(),
                "jwt.audience is not set: a token that was made for another service is taken here too",
            ),
            (
                is_jwt && self.jwt.fetches_in_the_clear(),
                "jwt.jwks is fetched over http: whoever can change it on the way can make tokens; use https",
            ),
            (
                is_jwt && is_reachable && self.tls.is_none(),
                "tokens come unencrypted, and whoever reads one may use it: set tls.cert_file, unless a proxy has done it",
            ),
        ]
        .into_iter()
        .filter_map(|(holds, warning)| holds.then_some(warning))
        .collect()
    }
}
