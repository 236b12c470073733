//! The service under test: the real binary, as a process of its own.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

/// A running service. It is ended when this is dropped.
pub struct Service {
    process: Child,
    pub address: SocketAddr,
}

/// What the operating system says of a process.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Processor time so far, in user and system mode.
    pub cpu: Duration,
    /// Resident memory now, in bytes.
    pub resident: u64,
    /// The most that it ever was, or was since that was [forgotten](Service::forget_peak), in bytes.
    pub peak: u64,
}

impl Service {
    pub fn start(database_url: &str) -> Self {
        // On SQLite the service makes a key, which goes with the file.
        let key_file = database_url.strip_prefix("sqlite://").map(|file| format!("{file}.key"));
        let mut process = Command::new(env!("CARGO_BIN_EXE_auditlog"))
            .envs(key_file.map(|file| ("AUDITLOG_CHECKPOINT_KEY_FILE", file)))
            .args(["--listen", "127.0.0.1:0", "--log-format", "json", "--log-level", "warn,auditlog::cli=info"])
            .env("AUDITLOG_DATABASE_URL", database_url)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the service's binary");
        let lines = BufReader::new(process.stderr.take().expect("it was piped")).lines();
        let mut lines = lines.map_while(Result::ok);
        let address = lines.find_map(|line| address_in(&line)).expect("the service says where it listens");
        // Whatever it says later must not fill the pipe.
        thread::spawn(move || {
            lines.filter(|line| !line.contains("\"INFO\"")).for_each(|line| eprintln!("service: {line}"))
        });
        Self { process, address }
    }

    /// Has the peak of its memory count from now on.
    pub fn forget_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5").expect("our own process");
    }

    pub fn usage(&self) -> Usage {
        usage(self.process.id())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn address_in(line: &str) -> Option<SocketAddr> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    line.get("address").or_else(|| line.get("fields")?.get("address"))?.as_str()?.parse().ok()
}

fn usage(process: u32) -> Usage {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.trim_start_matches(':').trim().split(' ').next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // Fields 14 and 15, counted from behind the command's name, in ticks of a hundredth of a second.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or(Vec::new(), |(_, rest)| rest.split_whitespace().collect());
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    let cpu = Duration::from_millis(10 * (ticks(11) + ticks(12)));
    Usage { cpu, resident: 1024 * kib("VmRSS"), peak: 1024 * kib("VmHWM") }
}
