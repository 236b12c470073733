use std::{fs, path::Path};

use clap::{Args as _, Command, FromArgMatches as _};
use rstest::rstest;
use tempfile::TempDir;

use super::*;

/// Loads with a file of that text, these variables and these flags.
fn load(toml: &str, variables: &[(&str, &str)], arguments: &[&str]) -> Result<Loaded, ConfigError> {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("auditlog.toml");
    fs::write(&path, toml).unwrap();
    let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
    Config::load(flags(arguments), Some(path), variables)
}

fn flags(arguments: &[&str]) -> Settings {
    let command = Settings::augment_args(Command::new("test").no_binary_name(true));
    Settings::from_arg_matches(&command.get_matches_from(arguments)).unwrap()
}

fn config(toml: &str, variables: &[(&str, &str)], arguments: &[&str]) -> Config {
    load(toml, variables, arguments).unwrap().config
}

/// The error's text, with the path of the temporary file cut down to its name.
fn refusal(toml: &str, variables: &[(&str, &str)], arguments: &[&str]) -> String {
    let error = load(toml, variables, arguments).and_then(|loaded| loaded.config.validate()).unwrap_err().to_string();
    error.split_once("/auditlog.toml").map_or(error.clone(), |(_, rest)| format!("auditlog.toml{rest}"))
}

#[test]
fn each_layer_lies_over_the_one_before() {
    let toml = "[database]\npool_size = 2\n";
    let variables = [("AUDITLOG_DATABASE_POOL_SIZE", "3")];
    let flags = ["--database-pool-size", "4"];
    assert_eq!(config("", &[], &[]), Config::default());
    assert_eq!(config(toml, &[], &[]).database.pool_size, 2);
    assert_eq!(config(toml, &variables, &[]).database.pool_size, 3);
    assert_eq!(config(toml, &variables, &flags).database.pool_size, 4);
}

#[test]
fn an_empty_variable_is_unset() {
    let variables = [("AUDITLOG_DATABASE_POOL_SIZE", ""), ("AUDITLOG_LISTEN", ""), ("AUDITLOG_CONFIG", "")];
    assert_eq!(config("", &variables, &[]), Config::default());
}

#[test]
fn the_file_may_set_everything() {
    let config = config(include_str!("tests/all.toml"), &[], &[]);
    assert_eq!(config.validate().map_err(|error| error.to_string()), Ok(()));
    assert_eq!(config.listen, "[::1]:1".parse().unwrap());
    assert_eq!(config.admin.listen, Some("0.0.0.0:9090".parse().unwrap()));
    assert_eq!(config.connection.max_age, Some(Duration::from_secs(1800)));
    assert_eq!(config.cors.allowed_origins, ["https://console.example.com".to_owned()].into());
    assert_eq!(config.database.url, "sqlite:///tmp/a.db");
    assert_eq!(config.database.statement_timeout, Duration::from_millis(1500));
    assert_eq!(config.notes.resource_types, ["a".to_owned(), "b".to_owned()].into());
    assert_eq!(config.checkpoint.key_file, Path::new("/etc/auditlog/checkpoint.key"));
    assert_eq!(config.checkpoint.origin, "audit.example.com");
    assert_eq!(config.limits.batch_events, 10);
    assert_eq!(config.log, LogConfig { level: "warn,auditlog=debug".into(), format: LogFormat::Json });
    assert_eq!(config.shutdown.grace, Duration::from_secs(90));
    assert!(config.roles.contains_key("auditor"));
}

#[test]
fn flags_and_variables_take_lists_durations_and_switches() {
    let variables = [("AUDITLOG_NOTES_RESOURCE_TYPES", "a, b,"), ("AUDITLOG_SHUTDOWN_DELAY", "1m 30s")];
    let config = config("", &variables, &["--auth-trust-network", "--database-migrate", "false"]);
    assert_eq!(config.notes.resource_types, ["a".to_owned(), "b".to_owned()].into());
    assert_eq!(config.shutdown.delay, Duration::from_secs(90));
    assert!(config.auth.trust_network);
    assert!(!config.database.migrate);
}

#[test]
fn unknown_variables_are_told_and_no_error() {
    let variables = [("AUDITLOG_PORT", "tcp://10.0.0.1:50051"), ("AUDITLOG_ROLES_X", "y"), ("PATH", "/bin")];
    assert_eq!(load("", &variables, &[]).unwrap().unknown_variables, ["AUDITLOG_PORT", "AUDITLOG_ROLES_X"]);
}

#[test]
fn the_default_file_may_be_absent_and_a_named_one_may_not() {
    assert_eq!(file::read_if_there(Path::new("/nowhere/auditlog.toml")).unwrap(), (Settings::default(), None));
    for (flag, variable) in [(Some("/nowhere/a.toml"), "/nowhere/b.toml"), (None, "/nowhere/a.toml")] {
        let variables = [("AUDITLOG_CONFIG".into(), variable.into())];
        let error = Config::load(Settings::default(), flag.map(Into::into), variables).unwrap_err();
        assert_eq!(error.to_string(), "cannot read the configuration file /nowhere/a.toml");
    }
}

#[rstest]
#[case("lisen = '127.0.0.1:1'", "auditlog.toml:1: unknown field `lisen`, expected one of ")]
#[case("\n[database]\nulr = 's3cret'", "auditlog.toml:3: unknown field `ulr`, expected one of `url`, ")]
#[case("[databse]\nurl = 's3cret'", "auditlog.toml:1: unknown field `databse`, expected one of ")]
#[case("[roles.x]\nrights = []", "auditlog.toml:2: unknown field `rights`, expected one of ")]
#[case("[database\nurl = 's3cret'", "auditlog.toml:1: ")]
#[case(
    "[database]\npool_size = 0",
    "auditlog.toml:2: database.pool_size: invalid value: integer `0`, expected a nonzero u32"
)]
#[case(
    "[database]\nstatement_timeout = '10'",
    "auditlog.toml:2: database.statement_timeout: \"10\" is no duration such as 10s, 250ms or 1m 30s: "
)]
#[case("[limits]\nnotes = 0", "auditlog.toml:2: limits.notes: 0 is not in 1 to 67108864")]
#[case("[limits]\nbatch_bytes = 67108865", "auditlog.toml:2: limits.batch_bytes: 67108865 is not in 1 to 67108864")]
#[case("database = 'postgres://u:s3cret@h/d'", "auditlog.toml:1: database: there is a string, but expected is ")]
#[case(
    "[checkpoint]\norigin = 'a b'",
    "auditlog.toml:2: checkpoint.origin: \"a b\" must be a name such as audit.example.com: "
)]
#[case(
    "[log]\nformat = 'xml'",
    "auditlog.toml:2: log.format: unknown variant `xml`, expected one of `auto`, `text`, `json`"
)]
fn a_bad_file_is_refused_by_line_without_showing_it(#[case] toml: &str, #[case] expected: &str) {
    let text = refusal(toml, &[], &[]);
    assert!(text.starts_with(expected), "{text}");
    assert!(!text.contains("s3cret"), "{text}");
}

#[rstest]
#[case("LISTEN", "localhost", "invalid value 'localhost' for '--listen <IP:PORT>': invalid socket address syntax")]
#[case(
    "DATABASE_MIGRATE",
    "yes",
    "invalid value 'yes' for '--database-migrate [<BOOL>]' [possible values: true, false]"
)]
#[case("AUTH_MODE", "mtls", "invalid value 'mtls' for '--auth-mode <MODE>' [possible values: metadata, jwt]")]
#[case(
    "DATABASE_START_WAIT",
    "2y",
    "invalid value '2y' for '--database-start-wait <DURATION>': \"2y\" is more than a year"
)]
#[case("LIMITS_NOTES", "0", "invalid value '0' for '--limits-notes <N>': 0 is not in 1 to 67108864")]
fn a_bad_variable_is_refused_by_name(#[case] name: &str, #[case] value: &str, #[case] expected: &str) {
    let name = format!("AUDITLOG_{name}");
    assert_eq!(refusal("", &[(&name, value)], &[]), format!("environment variable {name}: {expected}"));
}

#[rstest]
#[case("LOG_LEVEL", "inof", "log.level (AUDITLOG_LOG_LEVEL): \"inof\" is none of off, error, ")]
#[case(
    "DATABASE_STATEMENT_TIMEOUT",
    "0s",
    "database.statement_timeout (AUDITLOG_DATABASE_STATEMENT_TIMEOUT): must be 1ms or more"
)]
#[case(
    "DATABASE_URL",
    "auditlog.db",
    "database.url (AUDITLOG_DATABASE_URL): must be a URL such as sqlite://auditlog.db"
)]
#[case("DATABASE_URL", "sqlite://", "database.url (AUDITLOG_DATABASE_URL): must be a URL such as sqlite://auditlog.db")]
#[case(
    "DATABASE_URL",
    "mysql://u:s3cret@h/d",
    "database.url (AUDITLOG_DATABASE_URL): there is no support for mysql://; "
)]
#[case(
    "APPEND_QUEUE_EVENTS",
    "999",
    "append.queue_events (AUDITLOG_APPEND_QUEUE_EVENTS): 999 is less than limits.batch_events, which is 1000"
)]
#[case(
    "LIMITS_BATCH_EVENTS",
    "65537",
    "limits.batch_events (AUDITLOG_LIMITS_BATCH_EVENTS): 65537 is more than 65536, the most that there may be"
)]
#[case(
    "LIMITS_ID_BYTES",
    "2049",
    "limits.id_bytes (AUDITLOG_LIMITS_ID_BYTES): 2049 is more than 2048, the most that there may be"
)]
#[case(
    "LIMITS_RESOURCE_TYPE_BYTES",
    "2049",
    "limits.resource_type_bytes (AUDITLOG_LIMITS_RESOURCE_TYPE_BYTES): 2049 is more than 2048, the most that there may be"
)]
#[case(
    "DATABASE_STATEMENT_TIMEOUT",
    "25h",
    "database.statement_timeout (AUDITLOG_DATABASE_STATEMENT_TIMEOUT): must be a day or less"
)]
#[case(
    "LIMITS_BATCH_BYTES",
    "65535",
    "limits.batch_bytes (AUDITLOG_LIMITS_BATCH_BYTES): 65535 is less than limits.event_bytes, which is 65536"
)]
#[case(
    "DATABASE_URL_FILE",
    "/nowhere/url",
    "cannot read /nowhere/url, which database.url_file (AUDITLOG_DATABASE_URL_FILE) names"
)]
#[case(
    "DATABASE_URL_FILE",
    "postgres://u:s3cret@h/d",
    "database.url_file (AUDITLOG_DATABASE_URL_FILE): is the path of a file that holds the URL, and this is a URL: "
)]
fn a_value_that_cannot_be_is_refused(#[case] name: &str, #[case] value: &str, #[case] expected: &str) {
    let text = refusal("", &[(&format!("AUDITLOG_{name}"), value)], &[]);
    assert!(text.starts_with(expected) && !text.contains("s3cret"), "{text}");
}

#[rstest]
#[case("https://console.example.com", true)]
#[case("https://console.example.com:8443", true)]
#[case("http://localhost:3000", true)]
#[case("http://[::1]:3000", true)]
#[case("*", false)]
#[case("null", false)]
#[case("console.example.com", false)]
#[case("https://console.example.com/", false)]
#[case("https://console.example.com/app", false)]
#[case("https://console.example.com:443", false)]
#[case("https://Console.example.com", false)]
#[case("https://ann@console.example.com", false)]
#[case("ftp://console.example.com", false)]
fn an_origin_is_as_browsers_write_it(#[case] origin: &str, #[case] accepted: bool) {
    let loaded = load("", &[("AUDITLOG_CORS_ALLOWED_ORIGINS", origin)], &[]);
    assert_eq!(loaded.is_ok(), accepted, "{loaded:?}");
}

#[test]
fn a_role_that_cannot_be_is_refused() {
    let text = refusal("[roles.auditor]\npermissions = []", &[], &[]);
    assert!(text.starts_with("[roles.auditor] scope: required"), "{text}");
}

#[test]
fn the_url_comes_from_a_file_or_from_its_setting() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("url");
    fs::write(&path, "sqlite:///data/events.db\n").unwrap();
    let file = ("AUDITLOG_DATABASE_URL_FILE", path.to_str().unwrap());
    assert_eq!(config("", &[file], &[]).database.url, "sqlite:///data/events.db");
    // Each layer says it alone, whichever of the two it uses.
    assert_eq!(config("[database]\nurl = 'sqlite://a'", &[file], &[]).database.url, "sqlite:///data/events.db");
    assert_eq!(config("", &[file], &["--database-url", "sqlite://b"]).database.url, "sqlite://b");
    let url = ("AUDITLOG_DATABASE_URL", "sqlite://a");
    assert!(matches!(load("", &[file, url], &[]), Err(ConfigError::UrlTwice)));
    let both = "[database]\nurl = 'sqlite://a'\nurl_file = 'b'";
    assert!(matches!(load(both, &[url], &[]), Err(ConfigError::UrlTwice)));
    fs::write(&path, "\n").unwrap();
    assert!(matches!(load("", &[file], &[]), Err(ConfigError::Value { setting: "database.url_file", .. })));
}

#[test]
fn a_flag_holds_no_secret() {
    for url in ["postgres://u:s3cret@h/d", "postgres://h/d?password=s3cret"] {
        let error = load("", &[], &["--database-url", url]).unwrap_err();
        assert!(matches!(error, ConfigError::SecretInFlag) && !error.to_string().contains("s3cret"));
    }
    assert_eq!(config("", &[], &["--database-url", "sqlite://b.db"]).database.url, "sqlite://b.db");
}

#[test]
fn nothing_shows_the_password() {
    let database = DatabaseConfig { url: "postgres://u:s3cret@h/d".into(), ..DatabaseConfig::default() };
    let config = Config { database, ..Config::default() };
    assert!(!format!("{config:?}").contains("s3cret"));
}

#[rstest]
#[case("127.0.0.1:1", true)]
#[case("127.8.9.10:1", true)]
#[case("[::1]:1", true)]
#[case("[::ffff:127.0.0.1]:1", true)]
#[case("0.0.0.0:1", false)]
#[case("[::]:1", false)]
#[case("10.0.0.1:1", false)]
#[case("[::ffff:10.0.0.1]:1", false)]
fn believes_claims_on_loopback_only(#[case] listen: &str, #[case] accepted: bool) {
    let config = config("", &[("AUDITLOG_LISTEN", listen)], &[]);
    assert_eq!(config.validate().is_ok(), accepted);
    let trusting = AuthConfig { trust_network: true, ..config.auth.clone() };
    assert!(Config { auth: trusting, ..config }.validate().is_ok());
}

const TLS: [(&str, &str); 2] = [("AUDITLOG_TLS_CERT_FILE", "c"), ("AUDITLOG_TLS_KEY_FILE", "k")];
const CLIENT_CA: (&str, &str) = ("AUDITLOG_TLS_CLIENT_CA_FILE", "ca");
const SUBJECTS: (&str, &str) = ("AUDITLOG_TLS_CLIENT_SUBJECTS", "gateway.internal");
const ANYWHERE: (&str, &str) = ("AUDITLOG_LISTEN", "0.0.0.0:1");

#[test]
fn client_certificates_open_the_network_to_those_that_are_pinned() {
    let validate =
        |variables: &[(&str, &str)]| config("", variables, &[]).validate().map_err(|error| error.to_string());
    let refused = |variables: &[(&str, &str)], text: &str| {
        let error = validate(variables).unwrap_err();
        assert!(error.contains(text), "{error}");
    };
    let [cert, key] = TLS;
    refused(&[ANYWHERE, cert, key], "which others can reach");
    refused(&[cert, key, CLIENT_CA], "set AUDITLOG_TLS_CLIENT_SUBJECTS");
    refused(&[cert, key, CLIENT_CA, ("AUDITLOG_AUTH_TRUST_NETWORK", "true")], "set AUDITLOG_TLS_CLIENT_SUBJECTS");
    assert_eq!(validate(&[ANYWHERE, cert, key, CLIENT_CA, SUBJECTS]), Ok(()));
    let jwt = [("AUDITLOG_AUTH_MODE", "jwt"), ("AUDITLOG_JWT_SECRET_FILE", "s")];
    assert_eq!(validate(&[ANYWHERE, jwt[0], jwt[1]]), Ok(()));
    assert_eq!(validate(&[ANYWHERE, cert, key, CLIENT_CA, jwt[0], jwt[1]]), Ok(()));
    refused(&[jwt[0]], "there is no key to check tokens with");
    refused(&[jwt[1]], "auth.mode (AUDITLOG_AUTH_MODE): is metadata, and there are keys for tokens");
}

#[rstest]
#[case(&[TLS[0]], "tls.key_file (AUDITLOG_TLS_KEY_FILE): is required beside tls.cert_file")]
#[case(&[TLS[1]], "tls.cert_file (AUDITLOG_TLS_CERT_FILE): is required beside tls.key_file")]
#[case(&[CLIENT_CA], "tls.cert_file (AUDITLOG_TLS_CERT_FILE): is required beside tls.client_ca_file")]
#[case(&[SUBJECTS], "tls.cert_file (AUDITLOG_TLS_CERT_FILE): is required beside tls.client_subjects")]
#[case(&[TLS[0], TLS[1], SUBJECTS], "tls.client_ca_file (AUDITLOG_TLS_CLIENT_CA_FILE): is required beside tls.client_subjects")]
#[case(&[("AUDITLOG_LIMITS_CALL_TIME", "0s")], "limits.call_time (AUDITLOG_LIMITS_CALL_TIME): must be 1ms or more")]
#[case(&[("AUDITLOG_LIMITS_CALL_TIME", "999us")], "limits.call_time (AUDITLOG_LIMITS_CALL_TIME): must be 1ms or more")]
#[case(&[("AUDITLOG_JWT_JWKS_REFRESH", "0s")], "jwt.jwks_refresh (AUDITLOG_JWT_JWKS_REFRESH): must be 1ms or more")]
fn halves_and_zeros_are_refused(#[case] variables: &[(&str, &str)], #[case] expected: &str) {
    assert_eq!(refusal("", variables, &[]), expected);
}

#[test]
fn what_is_legal_and_dangerous_is_warned_of() {
    let warnings = |variables: &[(&str, &str)]| config("", variables, &[]).warnings().join("\n");
    assert_eq!(warnings(&[]), "");
    assert!(warnings(&[("AUDITLOG_AUTH_TRUST_NETWORK", "true")]).contains("may claim to be anybody"));
    let jwt = [("AUDITLOG_AUTH_MODE", "jwt"), ("AUDITLOG_JWT_JWKS", "http://idp/keys"), ANYWHERE];
    let text = warnings(&jwt);
    for part in ["jwt.audience is not set", "fetched over http", "tokens come unencrypted"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn grants_that_cannot_be_are_refused_by_name() {
    let text = refusal("[jwt.grants]\nauditors = ['tenant_admin']", &[], &[]);
    assert_eq!(
        text,
        "[jwt.grants] \"auditors\": \"tenant_admin\" must be name@scope, such as tenant_admin@tenants/acme"
    );
}

/// Settings that say nothing until they are set.
const WITHOUT_DEFAULT: &[&str] = &[
    "admin.listen",
    "connection.max_age",
    "cors.allowed_origins",
    "database.url_file",
    "jwt.secret_file",
    "jwt.public_key_file",
    "jwt.jwks",
    "jwt.issuer",
    "jwt.audience",
    "tls.cert_file",
    "tls.key_file",
    "tls.client_ca_file",
    "tls.client_subjects",
];

/// Every setting keeps the rule by which flag and variable follow from the key, and its help tells its true default.
#[test]
fn names_follow_the_rule_and_help_tells_the_defaults() {
    let command = Settings::augment_args(Command::new("test"));
    for argument in command.get_arguments() {
        let id = argument.get_id().as_str();
        assert_eq!(argument.get_long(), Some(id.replace(['.', '_'], "-").as_str()));
        let help = argument.get_help().unwrap().to_string();
        let Some((_, default)) = help.split_once("[default: ") else {
            assert!(WITHOUT_DEFAULT.contains(&id), "{id}");
            continue;
        };
        let variable = (variable(id), default.trim_end_matches(']'));
        assert_eq!(config("", &[(&variable.0, variable.1)], &[]), Config::default(), "{id}");
    }
}
