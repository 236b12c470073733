//! PostgreSQL: a server, and how a connection to it is set up.

use std::time::Duration;

use diesel::{Connection as _, PgConnection};

use super::Access;
use crate::store::error::StoreError;

/// The server and the database on it.
#[derive(Clone)]
pub(super) struct Server {
    /// As libpq takes it. It may hold a password.
    url: String,
}

/// How long an append may stand still in the middle of its transaction before the server ends it. A replica that is frozen
/// there holds the heads of its tenants, and no other replica can record into them.
const FROZEN_AFTER: Duration = Duration::from_secs(5);

/// What libpq is told unless the URL says otherwise: a server that is gone is noticed in seconds, not in hours.
const PARAMETERS: [(&str, &str); 6] = [
    ("connect_timeout", "5"),
    ("keepalives_idle", "10"),
    ("keepalives_interval", "5"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "25000"),
    ("application_name", "auditlog"),
];

impl Server {
    pub(super) fn new(url: &str) -> Self {
        let mut url = url.to_owned();
        for (name, value) in PARAMETERS {
            if !has_parameter(&url, name) {
                let separator = if url.contains('?') { '&' } else { '?' };
                url = format!("{url}{separator}{name}={value}");
            }
        }
        Self { url }
    }

    pub(super) fn connect(&self) -> Result<PgConnection, StoreError> {
        PgConnection::establish(&self.url)
            .map_err(|error| StoreError::Unavailable(format!("cannot connect to PostgreSQL: {}", one_line(&error))))
    }
}

/// Without the URL, for its password.
impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server")
    }
}

fn has_parameter(url: &str, name: &str) -> bool {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    query.split('&').any(|parameter| parameter.split('=').next() == Some(name))
}

fn one_line(error: &diesel::ConnectionError) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What each connection is told first.
pub(super) fn set_up(access: Access, timeout: Duration) -> String {
    let common = "SET client_min_messages = warning; SET timezone = 'UTC'; SET intervalstyle = 'iso_8601';";
    let millis = timeout.as_millis();
    match access {
        Access::Migrate => common.to_owned(),
        Access::Append => format!("{common} {}", append_settings(millis)),
        // One plan for all values, because the walks are built so that there is one good plan: a planner that looks at
        // the values would plan each page anew.
        Access::Read => format!(
            "{common} SET statement_timeout = {millis}; SET default_transaction_read_only = on; \
             SET plan_cache_mode = force_generic_plan; SET jit = off;"
        ),
    }
}

/// Commits wait for the disk, whatever the server's default is (`remote_apply`, which waits for more, is left alone). A
/// transaction that stands still is ended: from version 17 on wherever it stands, before that while the server waits for
/// the next statement.
fn append_settings(millis: u128) -> String {
    let frozen = FROZEN_AFTER.as_millis();
    format!(
        "SET statement_timeout = {millis}; SET lock_timeout = {frozen}; \
         SET idle_in_transaction_session_timeout = {frozen}; SET plan_cache_mode = force_generic_plan; SET jit = off; \
         DO $$ BEGIN \
         IF current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') THEN SET synchronous_commit = on; END IF; \
         IF current_setting('server_version_num')::integer >= 170000 THEN \
         PERFORM set_config('transaction_timeout', '{transaction}', false); END IF; END $$;",
        transaction = 2 * millis,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_the_url_are_left_as_they_are() {
        let server = Server::new("postgres://ann:s3cret@db/audit?connect_timeout=60&sslmode=verify-full");
        assert!(
            server.url.starts_with(
                "postgres://ann:s3cret@db/audit?connect_timeout=60&sslmode=verify-full&keepalives_idle=10"
            )
        );
        assert_eq!(server.url.matches("connect_timeout").count(), 1);
        assert_eq!(Server::new("postgres://db").url.matches('?').count(), 1);
        assert!(!format!("{server:?}").contains("s3cret"));
    }
}
