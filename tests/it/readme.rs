//! The documentation is true: its commands run as printed and print what is printed there, and its tables are complete.

use std::{
    collections::HashMap,
    env,
    io::{BufRead, BufReader, Read as _, Write as _, stderr},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    thread,
};

use auditlog::{
    config::{Config, Settings, variable},
    proto::auditlog::v1::ErrorReason,
};
use clap::Args as _;
use prost::Message as _;
use rstest::rstest;

use crate::harness::{Backend, Database};

const README: &str = include_str!("../../README.md");
const READING: &str = include_str!("../../docs/reading.md");
const SECURITY: &str = include_str!("../../docs/security.md");
const SETTINGS: &str = include_str!("../../docs/settings.md");
const ERRORS: &str = include_str!("../../docs/errors.md");
const DEPLOY: &str = include_str!("../../docs/deploy.md");

/// What the commands need.
const TOOLS: [&str; 4] = ["bash", "grpcurl", "jq", "base64"];
/// Set where a missing tool must be a failure, and not a remark.
const REQUIRE: &str = "AUDITLOG_REQUIRE_GRPCURL";
/// The address in the commands. The service of the test has another port.
const DOCUMENTED: &str = "localhost:50051";
/// A line that stands for any number of lines which are left out.
const LEFT_OUT: &str = "…";

/// The binary itself, with no more settings than a port that is free and a store of its own.
struct Served {
    process: Child,
    address: SocketAddr,
    _database: Arc<Database>,
}

impl Served {
    fn start(backend: Backend) -> Self {
        let database = Database::create(backend);
        let mut command = Command::new(env!("CARGO_BIN_EXE_auditlog"));
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AUDITLOG_")) {
            command.env_remove(name);
        }
        let arguments = ["--listen", "127.0.0.1:0", "--log-format", "json"];
        let mut process = command
            .args(arguments)
            .current_dir(database.folder.path())
            .env("AUDITLOG_DATABASE_URL", &database.url)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap());
        let address = address_in(&mut log);
        // A pipe that nobody reads would hold the service up.
        thread::spawn(move || log.read_to_end(&mut Vec::new()));
        Self { process, address, _database: database }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn address_in(log: &mut impl BufRead) -> SocketAddr {
    let lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(&line.unwrap()).unwrap());
    let serving = lines.into_iter().find(|line| line["message"] == "serving");
    serving.expect("the service ended before it served")["address"].as_str().unwrap().parse().unwrap()
}

/// A fenced block: what stands behind the opening fence, and the lines.
pub struct Block {
    pub info: String,
    pub text: String,
}

pub fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(info) = line.strip_prefix("```") {
            let text = lines.by_ref().take_while(|line| *line != "```").flat_map(|line| [line, "\n"]).collect();
            blocks.push(Block { info: info.to_owned(), text });
        }
    }
    blocks
}

/// A command, the exit code that it shall have, and the output that is printed below it.
struct Example {
    command: String,
    code: i32,
    output: String,
}

/// The blocks with grpcurl in them, each with the block after it.
fn examples(page: &str) -> Vec<Example> {
    let blocks = blocks(page);
    let pairs = blocks.iter().zip(blocks.iter().skip(1));
    let calls = pairs.filter(|(block, _)| block.info.starts_with("sh") && block.text.contains("grpcurl "));
    calls.map(|(block, output)| example(block, output)).collect()
}

fn example(block: &Block, output: &Block) -> Example {
    assert!(["json", "text", "csv"].contains(&&*output.info), "no output below: {}", block.text);
    let code = block.info.strip_prefix("sh exit ").map_or(0, |code| code.parse().unwrap());
    Example { command: block.text.clone(), code, output: output.text.clone() }
}

fn run(command: &str, address: SocketAddr) -> Output {
    let command = command.replace(DOCUMENTED, &address.to_string());
    assert!(command.contains(&address.to_string()), "not at {DOCUMENTED}: {command}");
    Command::new("bash").args(["-euo", "pipefail", "-c", &command]).output().unwrap()
}

/// What differs from run to run is masked: times but those that the commands give, salts, and ids that the service made.
fn masked(line: &str) -> String {
    let is_separator = |c: char| c.is_whitespace() || ",\"".contains(c);
    let words = line.split(is_separator).filter(|word| !word.is_empty());
    words.map(|word| if varies(word) { "*" } else { word }).collect::<Vec<_>>().join(" ")
}

fn varies(word: &str) -> bool {
    let is_time = chrono::DateTime::parse_from_rfc3339(word).is_ok() && !word.starts_with("2025-03-");
    let is_salt = word.len() == 24 && word.ends_with("==");
    let is_id = word.parse::<uuid::Uuid>().is_ok() && !word.starts_with("01955b5");
    is_time || is_salt || is_id
}

/// Whether `lines` are as `expected`, where [`LEFT_OUT`] is any number of lines.
fn matches(expected: &[String], lines: &[String]) -> bool {
    match expected.split_first() {
        None => lines.is_empty(),
        Some((first, rest)) if first == LEFT_OUT => (0..=lines.len()).any(|skipped| matches(rest, &lines[skipped..])),
        Some((first, rest)) => lines.split_first().is_some_and(|(line, lines)| line == first && matches(rest, lines)),
    }
}

fn assert_works(example: &Example, address: SocketAddr) {
    let ran = run(&example.command, address);
    let out = String::from_utf8([ran.stdout, ran.stderr].concat()).unwrap();
    assert_eq!(ran.status.code(), Some(example.code), "{}\n{out}", example.command);
    let [expected, lines] = [&example.output, &out].map(|text| text.lines().map(masked).collect::<Vec<_>>());
    assert!(matches(&expected, &lines), "{}\nprints\n{out}\nand not\n{}", example.command, example.output);
}

/// The first of [`TOOLS`] that this machine does not have.
fn missing_tool() -> Option<&'static str> {
    let path = env::var_os("PATH").unwrap_or_default();
    let is_there = |tool: &str| env::split_paths(&path).any(|folder| folder.join(tool).is_file());
    TOOLS.into_iter().find(|tool| !is_there(tool))
}

/// The pages go on from one another, so they run in one test, in the order in which they are read.
#[rstest]
fn every_documented_call_works_as_printed(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    if let Some(tool) = missing_tool() {
        assert!(env::var_os(REQUIRE).is_none_or(|value| value.is_empty()), "{tool} is absent, and {REQUIRE} is set");
        // Not `eprintln!`, which is kept back in a test that passes.
        writeln!(stderr(), "{tool} is absent: the documented calls were read, but not made").unwrap();
    }
    let examples: Vec<Example> = [README, READING].into_iter().flat_map(examples).collect();
    for call in every_method().chain(["grpc.health.v1.Health/Check".into(), " list\n".into(), " describe ".into()]) {
        assert!(examples.iter().any(|example| example.command.contains(&call)), "no example of {call}");
    }
    if missing_tool().is_none() {
        let served = Served::start(backend);
        examples.iter().for_each(|example| assert_works(example, served.address));
    }
}

/// `auditlog.v1.AuditLogService/RecordEvent` and so on, of all services of the contract.
fn every_method() -> impl Iterator<Item = String> {
    let set = prost_types::FileDescriptorSet::decode(auditlog::proto::DESCRIPTOR_SET).unwrap();
    let ours = set.file.into_iter().filter(|file| file.package() == "auditlog.v1");
    ours.flat_map(|file| file.service).flat_map(|service| {
        let name = service.name().to_owned();
        service.method.into_iter().map(move |method| format!("auditlog.v1.{name}/{}", method.name()))
    })
}

/// The cells of the table rows of a page, without their backticks.
fn rows(page: &str) -> impl Iterator<Item = Vec<String>> {
    let rows = page.lines().filter(|line| line.starts_with("| "));
    rows.map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim().replace('`', "")).collect())
}

#[test]
fn the_table_of_settings_is_complete_and_tells_the_defaults() {
    let table: HashMap<String, Vec<String>> = rows(SETTINGS).map(|row| (row[0].clone(), row)).collect();
    let command = Settings::augment_args(clap::Command::new("settings"));
    for argument in command.get_arguments() {
        let (key, flag) = (argument.get_id().as_str(), format!("--{}", argument.get_long().unwrap()));
        let help = argument.get_help().unwrap().to_string();
        let default = help.split_once("[default: ").map_or("", |(_, default)| default.trim_end_matches(']'));
        let row = table.get(key).unwrap_or_else(|| panic!("docs/settings.md has no row for {key}"));
        assert_eq!(row[1..4], [variable(key), flag, default.to_owned()], "{key}");
        assert_eq!(row[4], help.split(" [default: ").next().unwrap().replace('`', ""), "{key}");
    }
    let keys: Vec<&str> = command.get_arguments().map(|argument| argument.get_id().as_str()).collect();
    let gone = table.iter().find(|(key, row)| row.len() == 5 && row[2].starts_with("--") && !keys.contains(&&***key));
    assert_eq!(gone, None, "docs/settings.md has a row for no setting");
}

#[test]
fn every_documented_file_is_a_configuration_that_serves() {
    let pages = [README, SECURITY, SETTINGS, DEPLOY];
    let files: Vec<Block> = pages.into_iter().flat_map(blocks).filter(|block| block.info == "toml").collect();
    assert!(!files.is_empty());
    for file in files {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auditlog.toml");
        std::fs::write(&path, &file.text).unwrap();
        let loaded = Config::load(Settings::default(), Some(path), []).unwrap();
        loaded.config.validate().unwrap();
    }
}

#[test]
fn the_table_of_errors_is_complete() {
    let reasons: Vec<String> = rows(ERRORS).map(|row| row[1].clone()).collect();
    for reason in ErrorReason::all() {
        let reason = reason.as_str_name().trim_start_matches("ERROR_REASON_");
        assert!(reasons.iter().any(|listed| listed == reason), "docs/errors.md has no row for {reason}");
    }
}

/// The pages, as they are linked to.
const PAGES: [(&str, &str); 14] = [
    ("README.md", README),
    ("CONTRIBUTING.md", include_str!("../../CONTRIBUTING.md")),
    ("docs/clients.md", include_str!("../../docs/clients.md")),
    ("docs/deploy.md", DEPLOY),
    ("docs/erase.md", include_str!("../../docs/erase.md")),
    ("docs/errors.md", ERRORS),
    ("docs/leaf-format.md", include_str!("../../docs/leaf-format.md")),
    ("docs/outbox.md", include_str!("../../docs/outbox.md")),
    ("docs/performance.md", include_str!("../../docs/performance.md")),
    ("docs/reading.md", READING),
    ("docs/security.md", SECURITY),
    ("docs/settings.md", SETTINGS),
    ("docs/verify.md", include_str!("../../docs/verify.md")),
    ("SECURITY.md", include_str!("../../SECURITY.md")),
];

#[test]
fn links_lead_somewhere() {
    for (page, text) in PAGES {
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://")) {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let path = if file.is_empty() { page.into() } else { Path::new(page).parent().unwrap().join(file) };
            assert_leads_to(&path, heading, page);
        }
    }
}

#[track_caller]
fn assert_leads_to(path: &Path, heading: &str, page: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join(path));
    let text = text.unwrap_or_else(|error| panic!("{page} links to {}: {error}", path.display()));
    let mut headings = text.lines().filter(|line| line.starts_with('#')).map(anchor);
    assert!(
        heading.is_empty() || headings.any(|anchor| anchor == heading),
        "{page} links to #{heading}, which is none"
    );
}

/// A heading's anchor: lower case, dashes for spaces, and nothing else but letters and digits.
fn anchor(heading: &str) -> String {
    let title = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
    title.chars().filter(|c| c.is_alphanumeric() || *c == '-').collect()
}
