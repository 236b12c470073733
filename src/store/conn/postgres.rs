//! PostgreSQL: a server, and how a connection to it is set up.

use std::time::Duration;

use diesel::{Connection as _, PgConnection, QueryResult, RunQueryDsl as _, sql_types::BigInt};

use super::Access;
use crate::store::error::StoreError;

/// The server and the database on it.
#[derive(Clone)]
pub(super) struct Server {
    /// As libpq takes it. It may hold a password.
    url: String,
    /// The same, and of several hosts only the one that takes writes.
    primary: String,
}

/// How long an append may stand still in the middle of its transaction before the server ends it. A replica that is frozen
/// there holds the heads of its tenants, and no other replica can record into them.
const FROZEN_AFTER: Duration = Duration::from_secs(5);

/// How long a migration waits for a lock. Whoever appends waits behind it, and waits longer than this.
const MIGRATION_LOCK: Duration = Duration::from_secs(2);
/// How long one may do nothing between two transactions, while others wait for their turn to migrate.
const MIGRATION_PAUSE: Duration = Duration::from_secs(15);

/// After how many times of what a statement may take a result that nobody takes to its end is given up.
const UNTAKEN_AFTER: u32 = 6;

/// What libpq is told unless the URL says otherwise: a server that is gone is noticed in seconds, not in hours.
const PARAMETERS: [(&str, &str); 6] = [
    ("connect_timeout", "5"),
    ("keepalives_idle", "10"),
    ("keepalives_interval", "5"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "25000"),
    ("application_name", "auditlog"),
];
/// And what it is told where writes are due.
const ONLY_PRIMARY: (&str, &str) = ("target_session_attrs", "read-write");

impl Server {
    pub(super) fn new(url: &str) -> Self {
        let url = PARAMETERS.into_iter().fold(url.to_owned(), with_parameter);
        Self { primary: with_parameter(url.clone(), ONLY_PRIMARY), url }
    }

    /// An audit may read a standby. Who serves must not come upon one: libpq would take the first host that answers.
    pub(super) fn connect(&self, access: Access) -> Result<PgConnection, StoreError> {
        let url = if access == Access::Audit { &self.url } else { &self.primary };
        PgConnection::establish(url).map_err(|error| self.refusal(&one_line(&error)))
    }

    fn refusal(&self, error: &str) -> StoreError {
        // What libpq says of a URL that it cannot read may quote any part of it.
        let error = if hides_nothing(&self.url) { error } else { ESCAPE };
        let text = format!("cannot connect to PostgreSQL: {error}");
        match REFUSALS.iter().any(|refusal| error.contains(refusal)) {
            true => StoreError::Unusable(text),
            false => StoreError::Unavailable(text),
        }
    }
}

/// Without the URL, for its password.
impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server")
    }
}

/// Said in place of an error that might tell a password.
const ESCAPE: &str =
    "in the database URL, all but letters, digits and -._~ in user and password must be written as %XX";

/// Parts of what libpq says where no waiting helps: the server is there and does not let us in, or is not the one that it
/// should be. libpq gives no codes for failed connections. What is said in another language is waited for, at no other harm.
const REFUSALS: [&str; 14] = [
    "authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "pg_hba.conf rejects",
    "does not exist",
    "is not permitted to log in",
    "permission denied for database",
    "certificate verify failed",
    "does not match host name",
    "server does not support SSL",
    "invalid URI query parameter",
    "invalid sslmode value",
    "root certificate file",
    ESCAPE,
];

/// Whether user and password of the URL are written so that libpq cannot take a part of them for something else.
fn hides_nothing(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~%!$&*+,;=()".contains(c);
    let user = rest.rsplit_once('@').map_or("", |(user, _)| user);
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let secrets = ["password=", "sslpassword="].iter().flat_map(|key| rest.split(key).skip(1));
    let are_plain = |part: &str| part.chars().all(is_plain) && has_valid_escapes(part);
    are_plain(name)
        && are_plain(password)
        && secrets.map(|rest| rest.split('&').next().unwrap_or_default()).all(are_plain)
}

fn has_valid_escapes(part: &str) -> bool {
    let is_hex = |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    part.split('%').skip(1).all(is_hex)
}

/// The URL with a parameter, unless it has one of that name.
fn with_parameter(url: String, (name, value): (&str, &str)) -> String {
    if has_parameter(&url, name) {
        return url;
    }
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}{name}={value}")
}

fn has_parameter(url: &str, name: &str) -> bool {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    query.split('&').any(|parameter| parameter.split('=').next() == Some(name))
}

fn one_line(error: &diesel::ConnectionError) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Asks for a sign of life, and whether writes are taken: a standby answers reads just as well, and so does a server that somebody
/// has set to read-only because its disk is full. What the session itself was told is put aside for the question.
pub(super) const PING: &str = "\
    DO $$ BEGIN \
    SET LOCAL default_transaction_read_only = DEFAULT; \
    IF pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean THEN \
    RAISE EXCEPTION 'the server takes no writes: it is a standby, or set to read-only'; END IF; \
    PERFORM FROM tree_heads LIMIT 1; END $$";

/// What each connection is told first.
pub(super) fn set_up(access: Access, timeout: Duration) -> String {
    // The append path relies on it: who has waited for a head must see what its holder has stored.
    let common = "SET client_min_messages = warning; SET timezone = 'UTC'; SET intervalstyle = 'iso_8601'; \
                  SET default_transaction_isolation = 'read committed';";
    let millis = timeout.as_millis();
    match access {
        Access::Migrate => format!("{common} {}", migration_settings(millis)),
        Access::Append => format!("{common} {}", append_settings(millis)),
        // One plan for all values, because the walks are built so that there is one good plan: a planner that looks at
        // the values would plan each page anew. And nobody keeps a page's snapshot for as long as they do not take the page.
        Access::Read | Access::Audit => format!(
            "{common} SET statement_timeout = {millis}; SET tcp_user_timeout = {millis}; \
             SET default_transaction_read_only = on; SET plan_cache_mode = force_generic_plan; SET jit = off;"
        ),
    }
}

/// Ends sessions of our own role which wait for their client in the middle of writing a log, and have for as long as nobody
/// may: those of replicas that are frozen in a large COPY, or do not take a result. No timeout of the server ends such a
/// session, because none is looked at while the client is waited for within a statement; and the rows and heads that it has
/// hold up everybody else. Who only reads has a snapshot, for which dead versions of the heads are kept; they get more time.
const END_FROZEN: &str = "\
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity AS session \
    WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid() \
    AND state = 'active' AND wait_event_type = 'Client' AND ( \
    query_start < clock_timestamp() - $1 * interval '1 millisecond' \
    AND EXISTS (SELECT FROM pg_locks AS held WHERE held.pid = session.pid AND held.granted \
    AND held.relation IN ('events'::regclass, 'tree_heads'::regclass) \
    AND held.mode IN ('RowShareLock', 'RowExclusiveLock')) \
    OR query_start < clock_timestamp() - $2 * interval '1 millisecond' \
    AND application_name = current_setting('application_name'))";

/// How long a result of a reader may wait to be taken, where a statement may take `timeout`.
pub(in crate::store) fn untaken_after(timeout: Duration) -> Duration {
    timeout.saturating_mul(UNTAKEN_AFTER)
}

/// Ends sessions of replicas that are frozen, and tells how many.
pub(in crate::store) fn end_frozen(connection: &mut PgConnection, timeout: Duration) -> QueryResult<usize> {
    let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    let ended = diesel::sql_query(END_FROZEN)
        .bind::<BigInt, _>(millis(FROZEN_AFTER))
        .bind::<BigInt, _>(millis(untaken_after(timeout)))
        .execute(connection)?;
    if ended > 0 {
        tracing::warn!(ended, "ended sessions of replicas that stood still in the middle of a statement");
    }
    Ok(ended)
}

/// Commits wait for the disk, whatever the server's default is (`remote_apply`, which waits for more, is left alone). A
/// transaction that stands still while the server waits for the next statement is ended, and one whose results nobody takes;
/// for the rest see [`end_frozen`].
fn append_settings(millis: u128) -> String {
    let frozen = FROZEN_AFTER.as_millis();
    format!(
        "SET statement_timeout = {millis}; SET lock_timeout = {frozen}; \
         SET idle_in_transaction_session_timeout = {frozen}; SET tcp_user_timeout = {millis}; SET plan_cache_mode = force_generic_plan; SET jit = off; \
         DO $$ BEGIN \
         IF current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') THEN SET synchronous_commit = on; END IF; \
         IF current_setting('server_version_num')::integer >= 170000 THEN \
         PERFORM set_config('transaction_timeout', '{transaction}', false); END IF; END $$;",
        transaction = 2 * millis,
    )
}

/// A statement may take as long as it takes, but neither may it wait for long with everybody behind it, nor may a replica that is frozen
/// in between keep the locks that it has, or its turn.
fn migration_settings(millis: u128) -> String {
    format!(
        "SET lock_timeout = {lock}; SET idle_in_transaction_session_timeout = {frozen}; SET tcp_user_timeout = {millis}; \
         DO $$ BEGIN \
         IF current_setting('server_version_num')::integer >= 140000 THEN \
         PERFORM set_config('idle_session_timeout', '{pause}', false); END IF; END $$;",
        lock = MIGRATION_LOCK.as_millis(),
        frozen = FROZEN_AFTER.as_millis(),
        pause = MIGRATION_PAUSE.as_millis(),
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
        assert!(server.url.ends_with(
            "&keepalives_idle=10&keepalives_interval=5&keepalives_count=3&tcp_user_timeout=25000&application_name=auditlog"
        ));
        assert_eq!(Server::new("postgres://db").url.matches('?').count(), 1);
        assert!(Server::new("postgres://a,b").primary.ends_with("&target_session_attrs=read-write"));
        let any = Server::new("postgres://a,b?target_session_attrs=any");
        assert_eq!((any.primary.matches("target").count(), &any.url), (1, &any.primary));
        assert!(!format!("{server:?}").contains("s3cret"));
    }

    #[test]
    fn no_error_tells_a_password() {
        for url in [
            "postgres://ann:s3cr@et@host/db",
            "postgres://ann:s3cr/et@host/db",
            "postgres://ann:s3cr?et@host/db",
            "postgres://ann:s3cr%et@host/db",
            "postgres://ann:s3cr[et@host/db",
            "postgres://ann:s3cr et@host/db",
            "postgres://ann:s3cret:x@host/db",
            "postgres:///db?host=/nowhere&password=s3cr%et",
            "postgres://[::1/db?password=s3cr[et",
        ] {
            let error = Server::new(url).connect(Access::Read).map(drop).unwrap_err().to_string();
            assert!(!error.contains("s3cr") && !error.contains("et@"), "{error}");
        }
        let clear = Server::new("postgres://ann:s3%20cret@host.invalid/db")
            .connect(Access::Read)
            .map(drop)
            .unwrap_err()
            .to_string();
        assert!(clear.contains("host.invalid") && !clear.contains("cret"), "{clear}");
    }
}
