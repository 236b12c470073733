//! The one table of settings: every key of the file, with its flag, its help and its type.
//!
//! A field's id is its key in the file (`database.pool_size`); flag and variable follow from it
//! (`--database-pool-size`, `AUDITLOG_DATABASE_POOL_SIZE`). What is `None` was not set in this layer. The defaults stand in
//! [`Config`](super::Config); a test keeps the ones in these help texts equal to them.

use std::{collections::BTreeMap, net::SocketAddr, num::NonZeroU32, path::PathBuf};

use serde::Deserialize;

use crate::auth::RoleSettings;

use super::values::{AuthMode, HumanDuration, Limit, LogFormat, NameSet, Origin, SecretUrl};

/// A table of the file: its key, its heading in the help, its settings, and how a layer is put over a lower one.
macro_rules! table {
    ($(#[$about:meta])* $name:ident($table:literal, $heading:literal) { $($(#[$about_field:meta])* $field:ident: $type:ty,)+ }
        $(in the file only { $(#[$about_map:meta])* $map:ident: $map_type:ty })?) => {
        $(#[$about])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args, Deserialize)]
        #[command(next_help_heading = $heading)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $($(#[$about_field])* #[arg(id = concat!($table, ".", stringify!($field)))] pub $field: Option<$type>,)+
            $($(#[$about_map])* #[arg(skip)] pub $map: $map_type,)?
        }

        impl $name {
            fn or(self, lower: Self) -> Self {
                Self {
                    $($field: self.$field.or(lower.$field),)+
                    $($map: if self.$map.is_empty() { lower.$map } else { self.$map },)?
                }
            }
        }
    };
}

/// All that one layer sets.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Address to serve gRPC on [default: 127.0.0.1:50051]
    #[arg(id = "listen", long, value_name = "IP:PORT")]
    pub listen: Option<SocketAddr>,
    /// `[admin]`.
    #[command(flatten)]
    pub admin: AdminSettings,
    /// `[connection]`.
    #[command(flatten)]
    pub connection: ConnectionSettings,
    /// `[cors]`.
    #[command(flatten)]
    pub cors: CorsSettings,
    /// `[database]`.
    #[command(flatten)]
    pub database: DatabaseSettings,
    /// `[append]`.
    #[command(flatten)]
    pub append: AppendSettings,
    /// `[audit]`.
    #[command(flatten)]
    pub audit: AuditSettings,
    /// `[auth]`.
    #[command(flatten)]
    pub auth: AuthSettings,
    /// `[checkpoint]`.
    #[command(flatten)]
    pub checkpoint: CheckpointSettings,
    /// `[jwt]`.
    #[command(flatten)]
    pub jwt: JwtSettings,
    /// `[tls]`.
    #[command(flatten)]
    pub tls: TlsSettings,
    /// `[notes]`.
    #[command(flatten)]
    pub notes: NotesSettings,
    /// `[log]`.
    #[command(flatten)]
    pub log: LogSettings,
    /// `[shutdown]`.
    #[command(flatten)]
    pub shutdown: ShutdownSettings,
    /// `[limits]`.
    #[command(flatten)]
    pub limits: LimitsSettings,
    /// `[roles.NAME]`, in the file only.
    #[arg(skip)]
    pub roles: BTreeMap<String, RoleSettings>,
}

impl Settings {
    /// These as a layer over `lower`. Two settings say where the events are: a layer that has either says it alone.
    pub(super) fn over(self, mut lower: Self) -> Self {
        if self.database.url.is_some() || self.database.url_file.is_some() {
            (lower.database.url, lower.database.url_file) = (None, None);
        }
        self.or(lower)
    }

    /// These, and those of `lower` where these say nothing.
    pub(super) fn or(self, lower: Self) -> Self {
        Self {
            listen: self.listen.or(lower.listen),
            admin: self.admin.or(lower.admin),
            connection: self.connection.or(lower.connection),
            cors: self.cors.or(lower.cors),
            database: self.database.or(lower.database),
            append: self.append.or(lower.append),
            audit: self.audit.or(lower.audit),
            auth: self.auth.or(lower.auth),
            checkpoint: self.checkpoint.or(lower.checkpoint),
            jwt: self.jwt.or(lower.jwt),
            tls: self.tls.or(lower.tls),
            notes: self.notes.or(lower.notes),
            log: self.log.or(lower.log),
            shutdown: self.shutdown.or(lower.shutdown),
            limits: self.limits.or(lower.limits),
            roles: if self.roles.is_empty() { lower.roles } else { self.roles },
        }
    }
}

table! {
    /// `[admin]`.
    AdminSettings("admin", "Watching") {
        /// Address for /livez, /readyz and /metrics over plain HTTP; they show no event, so it may be any address. Unset:
        /// none
        #[arg(long = "admin-listen", value_name = "IP:PORT")]
        listen: SocketAddr,
    }
}

table! {
    /// `[connection]`.
    ConnectionSettings("connection", "Connections") {
        /// How old a connection may get before its client is asked to make a new one, so that load spreads over new
        /// replicas; calls under way may end. Unset: any age
        #[arg(long = "connection-max-age", value_name = "DURATION")]
        max_age: HumanDuration,
    }
}

table! {
    /// `[cors]`.
    CorsSettings("cors", "Browsers (gRPC-Web)") {
        /// Origins whose pages may call, such as `https://console.example.com`, separated by commas. A browser's call from
        /// any other is refused. Unset: none
        #[arg(long = "cors-allowed-origins", value_name = "ORIGINS")]
        allowed_origins: NameSet,
    }
}

table! {
    /// `[database]`.
    DatabaseSettings("database", "Database") {
        /// Where events are stored; a URL with a password is refused as a flag [default: sqlite://auditlog.db]
        #[arg(long = "database-url", value_name = "URL")]
        url: SecretUrl,
        /// File that holds the database URL, instead of the URL itself
        #[arg(long = "database-url-file", value_name = "FILE")]
        url_file: PathBuf,
        /// Most connections open at a time, for reading [default: 8]
        #[arg(long = "database-pool-size", value_name = "N")]
        pool_size: NonZeroU32,
        /// How long a statement may take [default: 10s]
        #[arg(long = "database-statement-timeout", value_name = "DURATION")]
        statement_timeout: HumanDuration,
        /// How long a start waits for a database server that is away; then again for its turn to migrate, and for tables that
        /// are in use [default: 30s]
        #[arg(long = "database-start-wait", value_name = "DURATION")]
        start_wait: HumanDuration,
        /// Bring the schema up to date at start [default: true]
        #[arg(long = "database-migrate", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
        migrate: bool,
    }
}

table! {
    /// `[append]`.
    AppendSettings("append", "Recording") {
        /// Threads that append on PostgreSQL, each with a connection of its own [default: 2]
        #[arg(long = "append-workers", value_name = "N")]
        workers: NonZeroU32,
        /// Most events that wait to be stored, three quarters of them of one caller; a caller beyond that is told to come back [default: 4096]
        #[arg(long = "append-queue-events", value_name = "N")]
        queue_events: Limit,
    }
}

table! {
    /// `[audit]`.
    AuditSettings("audit", "The audit of the audit") {
        /// Record denied calls in the log of the tenant that they were about, if it has one [default: true]
        #[arg(long = "audit-denied", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
        denied: bool,
        /// Record reads in the log that is read; a read that cannot be recorded is not answered. Exports are always
        /// recorded [default: false]
        #[arg(long = "audit-reads", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
        reads: bool,
        /// How often the denials, and the reads, of one caller by one method in one scope become an event; those between
        /// are counted in the next one [default: 1m]
        #[arg(long = "audit-interval", value_name = "DURATION")]
        interval: HumanDuration,
    }
}

table! {
    /// `[auth]`.
    AuthSettings("auth", "Who may call") {
        /// Where the claims of a caller come from: metadata believes the call metadata x-audit-*, for a trusted gateway
        /// in front; jwt reads a signed token [default: metadata]
        #[arg(long = "auth-mode", value_name = "MODE")]
        mode: AuthMode,
        /// Serve beyond loopback although claims are believed, because only a trusted gateway can reach the address
        /// [default: false]
        #[arg(long = "auth-trust-network", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
        trust_network: bool,
    }
}

table! {
    /// `[checkpoint]`.
    CheckpointSettings("checkpoint", "Checkpoints") {
        /// File of the key that signs checkpoints, mode 0600; every replica has the same key [default: checkpoint.key]
        #[arg(long = "checkpoint-key-file", value_name = "FILE")]
        key_file: PathBuf,
        /// What the names of the tenants' logs begin with, usually the service's public name; never change it
        /// [default: auditlog.local]
        #[arg(long = "checkpoint-origin", value_name = "NAME")]
        origin: Origin,
    }
}

table! {
    /// `[jwt]`.
    JwtSettings("jwt", "Tokens (with --auth-mode jwt)") {
        /// File with the secret of HS256, at least 32 bytes
        #[arg(long = "jwt-secret-file", value_name = "FILE")]
        secret_file: PathBuf,
        /// PEM file with a public key: RSA for RS256, P-256 for ES256, Ed25519 for EdDSA
        #[arg(long = "jwt-public-key-file", value_name = "FILE")]
        public_key_file: PathBuf,
        /// JSON Web Key Set: a file, or an address that begins with https:// or http://
        #[arg(long = "jwt-jwks", value_name = "FILE|URL")]
        jwks: String,
        /// How often the address of the key set is asked again; while it does not answer then, every 10 s [default: 10m]
        #[arg(long = "jwt-jwks-refresh", value_name = "DURATION", hide_short_help = true)]
        jwks_refresh: HumanDuration,
        /// Issuers (iss) whose tokens are taken, separated by commas. Unset: any
        #[arg(long = "jwt-issuer", value_name = "ISSUERS")]
        issuer: NameSet,
        /// Audiences (aud) of which a token must name one, separated by commas. Unset: any, with a warning
        #[arg(long = "jwt-audience", value_name = "AUDIENCES")]
        audience: NameSet,
        /// Claim with the caller's id: a name, or a JSON pointer, as for the claims below [default: sub]
        #[arg(long = "jwt-subject-claim", value_name = "CLAIM")]
        subject_claim: String,
        /// Claim with the caller's name [default: name]
        #[arg(long = "jwt-name-claim", value_name = "CLAIM")]
        name_claim: String,
        /// Claim that says user or service; without it, user [default: subject_type]
        #[arg(long = "jwt-subject-type-claim", value_name = "CLAIM")]
        subject_type_claim: String,
        /// Claim with the roles, such as /realm_access/roles [default: roles]
        #[arg(long = "jwt-roles-claim", value_name = "CLAIM")]
        roles_claim: String,
        /// Claim with the permissions, such as scope [default: permissions]
        #[arg(long = "jwt-permissions-claim", value_name = "CLAIM")]
        permissions_claim: String,
    } in the file only {
        /// `[jwt.grants]`: what a value in the roles or permissions claim stands for.
        grants: BTreeMap<String, Vec<String>>
    }
}

table! {
    /// `[tls]`.
    TlsSettings("tls", "TLS") {
        /// PEM file with the server's certificate, and those that lead to its authority; it is read again when it changes
        #[arg(long = "tls-cert-file", value_name = "FILE")]
        cert_file: PathBuf,
        /// PEM file with the private key of that certificate
        #[arg(long = "tls-key-file", value_name = "FILE")]
        key_file: PathBuf,
        /// PEM file with the authorities of client certificates; with it, each client must have one
        #[arg(long = "tls-client-ca-file", value_name = "FILE")]
        client_ca_file: PathBuf,
        /// DNS and URI names of the client certificates that may vouch for callers, separated by commas; with
        /// --auth-mode metadata and client certificates it is required
        #[arg(long = "tls-client-subjects", value_name = "NAMES")]
        client_subjects: NameSet,
    }
}

table! {
    /// `[notes]`.
    NotesSettings("notes", "Update notes") {
        /// Resource types whose events take update notes, separated by commas [default: clusterprofile]
        #[arg(long = "notes-resource-types", value_name = "TYPES")]
        resource_types: NameSet,
    }
}

table! {
    /// `[log]`.
    LogSettings("log", "Logs (on stderr)") {
        /// off, error, warn, info, debug or trace, or a list such as info,auditlog=debug [default: info]
        #[arg(long = "log-level", value_name = "LEVEL")]
        level: String,
        /// How log lines look; auto is text on a terminal, else JSON [default: auto]
        #[arg(long = "log-format", value_name = "FORMAT")]
        format: LogFormat,
    }
}

table! {
    /// `[shutdown]`.
    ShutdownSettings("shutdown", "Shutdown") {
        /// How long to go on serving after health says NOT_SERVING [default: 0s]
        #[arg(long = "shutdown-delay", value_name = "DURATION")]
        delay: HumanDuration,
        /// How long calls in flight may then take to finish [default: 25s]
        #[arg(long = "shutdown-grace", value_name = "DURATION")]
        grace: HumanDuration,
    }
}

table! {
    /// `[limits]`.
    LimitsSettings("limits", "Limits (bytes are of UTF-8, or encoded)") {
        /// Bytes of a resource's type [default: 128]
        #[arg(long = "limits-resource-type-bytes", value_name = "N", hide_short_help = true)]
        resource_type_bytes: Limit,
        /// Bytes of an id, of a field of the request's context but the user agent, and of a filter's value [default: 256]
        #[arg(long = "limits-id-bytes", value_name = "N", hide_short_help = true)]
        id_bytes: Limit,
        /// Bytes of a name, of a change's field, and of the user agent [default: 512]
        #[arg(long = "limits-name-bytes", value_name = "N", hide_short_help = true)]
        name_bytes: Limit,
        /// Bytes of a message [default: 4096]
        #[arg(long = "limits-message-bytes", value_name = "N", hide_short_help = true)]
        message_bytes: Limit,
        /// Bytes of an update note [default: 4096]
        #[arg(long = "limits-note-bytes", value_name = "N", hide_short_help = true)]
        note_bytes: Limit,
        /// Changes of an event [default: 100]
        #[arg(long = "limits-changes", value_name = "N", hide_short_help = true)]
        changes: Limit,
        /// Bytes of a change's old or new value [default: 8192]
        #[arg(long = "limits-change-value-bytes", value_name = "N", hide_short_help = true)]
        change_value_bytes: Limit,
        /// Attributes of an event [default: 64]
        #[arg(long = "limits-attributes", value_name = "N", hide_short_help = true)]
        attributes: Limit,
        /// Bytes of an attribute's key [default: 128]
        #[arg(long = "limits-attribute-key-bytes", value_name = "N", hide_short_help = true)]
        attribute_key_bytes: Limit,
        /// Bytes of an attribute's value [default: 1024]
        #[arg(long = "limits-attribute-value-bytes", value_name = "N", hide_short_help = true)]
        attribute_value_bytes: Limit,
        /// Bytes of an event [default: 65536]
        #[arg(long = "limits-event-bytes", value_name = "N", hide_short_help = true)]
        event_bytes: Limit,
        /// Events of a batch [default: 1000]
        #[arg(long = "limits-batch-events", value_name = "N", hide_short_help = true)]
        batch_events: Limit,
        /// Bytes of a batch, at most 67108864 [default: 4194304]
        #[arg(long = "limits-batch-bytes", value_name = "N", hide_short_help = true)]
        batch_bytes: Limit,
        /// Update notes of an event [default: 100]
        #[arg(long = "limits-notes", value_name = "N", hide_short_help = true)]
        notes: Limit,
        /// Values of one field of a filter [default: 50]
        #[arg(long = "limits-filter-values", value_name = "N", hide_short_help = true)]
        filter_values: Limit,
        /// Events that a page of a list may inspect before it ends early [default: 20000]
        #[arg(long = "limits-inspected-events", value_name = "N", hide_short_help = true)]
        inspected_events: Limit,
        /// Bytes of a call's metadata [default: 16384]
        #[arg(long = "limits-header-bytes", value_name = "N", hide_short_help = true)]
        header_bytes: Limit,
        /// Connections at a time; one more is closed at once [default: 4096]
        #[arg(long = "limits-connections", value_name = "N", hide_short_help = true)]
        connections: Limit,
        /// Time for the TLS handshake and the first bytes of a connection [default: 10s]
        #[arg(long = "limits-handshake-time", value_name = "DURATION", hide_short_help = true)]
        handshake_time: HumanDuration,
        /// Time without a byte in either direction after which a connection is closed [default: 2m]
        #[arg(long = "limits-idle-time", value_name = "DURATION", hide_short_help = true)]
        idle_time: HumanDuration,
        /// Calls at a time on one connection [default: 1024]
        #[arg(long = "limits-connection-calls", value_name = "N", hide_short_help = true)]
        connection_calls: Limit,
        /// Calls at a time, of all callers [default: 8192]
        #[arg(long = "limits-calls", value_name = "N", hide_short_help = true)]
        calls: Limit,
        /// Calls at a time of one caller [default: 2048]
        #[arg(long = "limits-caller-calls", value_name = "N", hide_short_help = true)]
        caller_calls: Limit,
        /// Calls a second of one caller; as many may come at once [default: 100000]
        #[arg(long = "limits-caller-rate", value_name = "N", hide_short_help = true)]
        caller_rate: Limit,
        /// Time of a call, exports not counted; a caller may ask for less by grpc-timeout [default: 30s]
        #[arg(long = "limits-call-time", value_name = "DURATION", hide_short_help = true)]
        call_time: HumanDuration,
        /// Exports at a time, of all callers [default: 32]
        #[arg(long = "limits-exports", value_name = "N", hide_short_help = true)]
        exports: Limit,
        /// Exports at a time of one caller [default: 4]
        #[arg(long = "limits-caller-exports", value_name = "N", hide_short_help = true)]
        caller_exports: Limit,
        /// Time for which an export's reader may keep the next piece waiting before the export is ended [default: 1m]
        #[arg(long = "limits-export-stall", value_name = "DURATION", hide_short_help = true)]
        export_stall: HumanDuration,
    }
}
