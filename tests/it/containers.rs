//! What `docker-compose.yml` and the `Dockerfile` promise of the containers, read from the files: no engine runs here.

use std::collections::{BTreeMap, BTreeSet};

const COMPOSE: &str = include_str!("../../docker-compose.yml");
const DOCKERFILE: &str = include_str!("../../Dockerfile");

/// The lines below `key:` at the beginning of a line, comments left out.
fn section(key: &str) -> Vec<&'static str> {
    let lines = COMPOSE.lines().skip_while(|line| line.split(':').next() != Some(key)).skip(1);
    let lines = lines.filter(|line| !line.is_empty() && !line.trim_start().starts_with('#'));
    lines.take_while(|line| line.starts_with(' ')).collect()
}

/// The lines of each service.
fn services() -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut services = BTreeMap::<&str, Vec<&str>>::new();
    let mut service = "";
    for line in section("services") {
        match line.strip_prefix("  ").filter(|line| !line.starts_with(' ')) {
            Some(name) => service = name.trim_end_matches(':'),
            None => services.entry(service).or_default().push(line.trim()),
        }
    }
    services
}

fn trimmed(key: &str) -> Vec<&'static str> {
    section(key).into_iter().map(str::trim).collect()
}

#[test]
fn no_container_may_write_or_become_more_than_it_is() {
    let confined = trimmed("x-confined");
    for demand in ["read_only: true", "cap_drop: [ALL]", "security_opt: [\"no-new-privileges:true\"]"] {
        assert!(confined.contains(&demand), "{demand}");
    }
    assert!(trimmed("x-auditlog").contains(&"<<: *confined"));
    assert!(trimmed("x-replica").contains(&"<<: *auditlog"));
    let services = services();
    let names: Vec<_> = services.keys().copied().collect();
    assert_eq!(names, ["auditlog-1", "auditlog-2", "database", "gateway", "grant", "migrate"]);
    let confined = ["<<: *confined", "<<: *auditlog", "<<: *replica"];
    for (name, lines) in &services {
        assert!(lines.iter().any(|line| confined.contains(line)), "{name} is not confined");
        let widens = |line: &&str| {
            ["privileged:", "cap_add:", "read_only:", "cap_drop:", "security_opt:", "devices:", "pid:"]
                .iter()
                .any(|key| line.starts_with(key))
                || line.strip_prefix("user: ").is_some_and(|user| user != "postgres")
        };
        assert_eq!(lines.iter().find(|line| widens(line)), None, "{name}");
    }
    // Neither does the image, whoever runs it.
    let (_, image) = DOCKERFILE.rsplit_once("\nFROM ").unwrap();
    assert!(image.starts_with("gcr.io/distroless/cc-debian12:nonroot\n") && image.contains("\nUSER nonroot\n"));
    // A URL of the image would contradict the file that a deployment names.
    assert!(image.contains("\nWORKDIR /data\n") && !image.contains("AUDITLOG_DATABASE_URL"));
}

#[test]
fn each_replica_serves_as_a_role_that_owns_nothing_and_is_asked_whether_it_serves() {
    let services = services();
    for replica in ["auditlog-1", "auditlog-2"] {
        let lines = &services[replica];
        assert!(lines.contains(&"<<: *replica") && lines.contains(&"<<: *environment"), "{replica}");
        assert!(lines.iter().any(|line| line.starts_with("AUDITLOG_ADMIN_LISTEN: ")), "{replica}");
    }
    let (environment, replica) = (trimmed("x-environment"), trimmed("x-replica"));
    for setting in [
        "AUDITLOG_DATABASE_URL_FILE: /run/secrets/service_url",
        "AUDITLOG_DATABASE_MIGRATE: \"false\"",
        "AUDITLOG_CHECKPOINT_KEY_FILE: /run/secrets/checkpoint_key",
        "AUDITLOG_AUTH_MODE: metadata",
        "AUDITLOG_AUTH_TRUST_NETWORK: \"true\"",
    ] {
        assert!(environment.contains(&setting), "{setting}");
    }
    assert!(replica.contains(&"test: [\"CMD\", \"auditlog\", \"healthcheck\"]"));
    assert!(DOCKERFILE.contains("\nHEALTHCHECK ") && DOCKERFILE.contains("CMD [\"auditlog\", \"healthcheck\"]\n"));
    // Only the gateway is where the world is, and nobody but the replicas and the gateway where claims are believed.
    let on = |network: &str| {
        let is_on =
            |lines: &&Vec<&str>| lines.iter().any(|line| line.starts_with("networks: ") && line.contains(network));
        services.iter().filter(|(_, lines)| is_on(lines)).map(|(name, _)| *name).collect::<Vec<_>>()
    };
    assert_eq!(on("outside"), ["gateway"]);
    assert_eq!(on("inside"), ["auditlog-1", "auditlog-2", "gateway"]);
    assert_eq!(services.values().flatten().filter(|line| line.starts_with("ports: ")).count(), 1);
}

/// Each by the name under which a container reads it, and none in the file itself.
#[test]
fn secrets_are_files() {
    let declared: BTreeSet<_> = trimmed("secrets").into_iter().map(|line| line.split(':').next().unwrap()).collect();
    let mut lists: Vec<_> = services().into_values().flatten().collect();
    lists.extend(trimmed("x-replica"));
    let lists = lists.into_iter().filter_map(|line| line.strip_prefix("secrets: [")?.strip_suffix(']'));
    let given: BTreeSet<_> = lists.flat_map(|list| list.split(", ")).collect();
    assert_eq!(given, declared);
    assert!(trimmed("secrets").iter().all(|line| line.contains(": {file: ./secrets/")));
    let read = COMPOSE
        .split("/run/secrets/")
        .skip(1)
        .map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next());
    assert!(read.map(Option::unwrap).all(|name| declared.contains(name)));
}
