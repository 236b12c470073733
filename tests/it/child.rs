//! The service as a process of its own.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, channel},
    },
    time::Duration,
};

use auditlog::proto::auditlog::v1::audit_log_service_client::AuditLogServiceClient;
use serde_json::Value;
use tonic::transport::Channel;

use crate::harness::{Client, Database};

/// In 2023: a process goes by the real clock, and must not find an id to be of the future.
pub const PAST_MILLIS: i64 = 1_700_000_000_000;

/// How long a test waits for what must happen, before it fails. Nothing waits that long where all is well.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The program, in `folder`, with none of the settings that the tests' own environment may hold.
pub fn auditlog(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_auditlog"));
    let ours = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AUDITLOG_"));
    for (name, _) in ours {
        command.env_remove(name);
    }
    command.current_dir(folder).stdin(Stdio::null());
    command
}

/// Runs the program to its end.
pub fn run(folder: &Path, arguments: &[&str]) -> Output {
    auditlog(folder).args(arguments).output().unwrap()
}

/// A server that runs, and is killed when this is dropped.
pub struct ChildServer {
    child: Child,
    pub address: SocketAddr,
    /// What it has logged, one JSON object a line.
    log: Arc<Mutex<Vec<String>>>,
    lines: Receiver<String>,
    /// Kept from going.
    database: Option<Arc<Database>>,
}

impl ChildServer {
    /// Starts `serve` on `database`, and waits until it serves.
    pub fn serve(database: &Arc<Database>, settings: &[(&str, &str)]) -> Self {
        let mut command = auditlog(database.folder.path());
        command.env("AUDITLOG_DATABASE_URL", &database.url).env("AUDITLOG_LISTEN", "127.0.0.1:0");
        command.envs(settings.iter().copied());
        let mut server = Self::spawn(command);
        server.database = Some(Arc::clone(database));
        server
    }

    /// Starts a command that serves, and waits until it does.
    pub fn spawn(command: Command) -> Self {
        let mut server = Self::start(command);
        server.until_serving();
        server
    }

    /// Waits until it serves, and then knows where.
    pub fn until_serving(&mut self) {
        self.address = self.wait_for("serving")["address"].as_str().unwrap().parse().unwrap();
    }

    /// Starts a command, and waits for nothing.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (log, (sender, lines)) = (Arc::new(Mutex::new(Vec::new())), channel());
        let (errors, kept) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                kept.lock().unwrap().push(line.clone());
                let _ = sender.send(line);
            }
        });
        Self { child, address: SocketAddr::from(([0; 4], 0)), log, lines, database: None }
    }

    /// Waits for a log line with this message.
    #[track_caller]
    pub fn wait_for(&self, message: &str) -> Value {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no {message:?} in {}", self.log()));
            let line: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}"));
            if line["message"].as_str().is_some_and(|text| text.starts_with(message)) {
                return line;
            }
        }
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    pub async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    pub async fn client(&self) -> Client {
        AuditLogServiceClient::new(self.channel().await)
    }

    /// The bytes of memory that it holds.
    #[cfg(target_os = "linux")]
    pub fn resident_bytes(&self) -> u64 {
        self.proc("status", "VmRSS:")[0].parse::<u64>().unwrap() * 1024
    }

    /// The soft and the hard limit of its file descriptors.
    #[cfg(target_os = "linux")]
    pub fn file_limits(&self) -> [u64; 2] {
        let limits = self.proc("limits", "Max open files");
        [0, 1].map(|n| limits[n].parse().unwrap_or(u64::MAX))
    }

    /// The words of a line that the kernel tells of it.
    #[cfg(target_os = "linux")]
    fn proc(&self, file: &str, line: &str) -> Vec<String> {
        let told = std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap();
        let rest = told.lines().find_map(|told| told.strip_prefix(line)).unwrap();
        rest.split_whitespace().map(str::to_owned).collect()
    }

    /// As an operator would: `kill -TERM`.
    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Stops it where it is, until `CONT`. On a busy machine the last thread stops some time after the signal.
    pub fn freeze(&self) {
        self.signal("STOP");
        #[cfg(target_os = "linux")]
        while !self.has_stopped() {
            std::thread::yield_now();
        }
    }

    /// Whether all threads stand still.
    #[cfg(target_os = "linux")]
    fn has_stopped(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let stats = threads.filter_map(|thread| std::fs::read_to_string(thread.unwrap().path().join("stat")).ok());
        // Behind the name, which is in parentheses.
        stats.into_iter().all(|stat| stat.rsplit_once(") ").unwrap().1.starts_with('T'))
    }

    /// `kill -9`, and the end of the process.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for the end, off the test's own thread so that its connections go on. The exit code, and the whole log.
    pub async fn end(mut self) -> (Option<i32>, String) {
        let waited = tokio::task::spawn_blocking(move || {
            let code = self.child.wait().unwrap().code();
            self.lines.iter().for_each(drop);
            (code, self.log())
        });
        tokio::time::timeout(PATIENCE, waited).await.expect("the process must end").unwrap()
    }

    /// The standard output, when the process has closed it.
    pub fn stdout(&mut self) -> BufReader<std::process::ChildStdout> {
        BufReader::new(self.child.stdout.take().unwrap())
    }
}

impl Drop for ChildServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program of `examples`, for a test to run. `cargo test` builds them, but not with `--test`: then it is built here.
pub fn example(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let program = profile.join("examples").join(name).with_extension(std::env::consts::EXE_EXTENSION);
    if !program.exists() {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--example", name, "--target-dir"])
            .arg(profile.parent().unwrap())
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(built.unwrap().success(), "the example {name} does not build");
    }
    Command::new(program)
}

/// Runs a shell command line, and gives what it wrote.
#[track_caller]
pub fn shell(line: &str) -> String {
    let mut child =
        Command::new("sh").args(["-c", line]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert!(child.wait().unwrap().success() && errors.is_empty(), "{line}\n{out}\n{errors}");
    out
}
