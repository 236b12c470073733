//! The service as a process of its own.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
};

use tonic::transport::Endpoint;

use super::{Client, Database};

/// A server that ends with its holder.
pub struct Server {
    process: Child,
    pub address: String,
}

impl Server {
    /// Starts one on `database`, and waits until it says where it serves.
    pub fn start(database: &Database) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_auditlog"))
            .args(["--listen", "127.0.0.1:0", "--log-format", "json"])
            .env("AUDITLOG_DATABASE_URL", &database.url)
            // Where no configuration file is.
            .current_dir(database.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap());
        let address = log.by_ref().lines().find_map(|line| address(&line.unwrap())).expect("the server did not start");
        // A full pipe would stop the server.
        thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { process, address: format!("http://{address}") }
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::from_shared(self.address.clone()).unwrap()
    }

    pub async fn client(&self) -> Client {
        Client::new(self.endpoint().connect().await.unwrap())
    }

    /// The bytes of memory that it holds.
    #[cfg(target_os = "linux")]
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
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

/// The address in the log line that says so.
fn address(line: &str) -> Option<String> {
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    (line["message"] == "serving").then(|| line["address"].as_str().unwrap().to_owned())
}
