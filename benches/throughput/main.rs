//! `cargo bench --bench throughput`: the real service, driven over gRPC from this process, against raw baselines of the same
//! run. It prints absolute figures, which depend on the machine, and ratios, which are what counts.
//!
//! `-- --seconds N` sets how long each measurement takes (default 5), `--export-rows N` how many rows are exported
//! (default 1,000,000), `--only record,batch,list,export,sqlite,flood` what is measured. `index`, what each index costs the
//! append path, takes ten minutes and is measured only where it is named.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on shall panic")]

mod baseline;
mod flood;
mod http2;
mod index;
mod load;
#[expect(dead_code, reason = "shared with the tests, which use more of it")]
#[path = "../../tests/it/postgres.rs"]
mod postgres;
mod read;
mod sample;
mod service;
mod write;

use std::{env, process::Stdio, time::Duration};

/// What to measure, and for how long.
pub struct Options {
    /// How long each measurement takes.
    pub time: Duration,
    /// How many rows are exported.
    pub export_rows: u32,
    only: Vec<String>,
}

impl Options {
    /// One of the [turns](write::ROUNDS) that a measurement may be made of, in whole seconds, as `pgbench` takes them.
    pub fn turn(&self) -> Duration {
        Duration::from_secs(self.time.as_secs().div_ceil(write::ROUNDS.into()).max(1))
    }

    fn read() -> Self {
        let arguments: Vec<String> = env::args().collect();
        let value = |name: &str| {
            let at = arguments.iter().position(|argument| argument == name)?;
            arguments.get(at + 1).cloned()
        };
        let number = |name, default| value(name).map_or(default, |text| text.parse().expect("a number"));
        Self {
            time: Duration::from_secs(u64::from(number("--seconds", 5))),
            export_rows: number("--export-rows", 1_000_000),
            only: value("--only").map(|names| names.split(',').map(str::to_owned).collect()).unwrap_or_default(),
        }
    }

    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.names(name)
    }

    fn names(&self, name: &str) -> bool {
        self.only.iter().any(|only| only == name)
    }
}

fn main() {
    let options = Options::read();
    if options.wants("record") {
        write::record(&options);
    }
    if options.wants("batch") {
        write::batch(&options);
    }
    if options.wants("list") || options.wants("export") {
        read::list_and_export(&options);
    }
    if options.wants("sqlite") {
        write::sqlite(&options);
    }
    if options.wants("flood") {
        flood::flood(&options);
    }
    if options.names("index") {
        index::indexes(&options);
    }
}

/// A cluster as a production server is set up, which means that a commit waits for the disk, and as one is after a while:
/// it writes over old files of its log, where a new server makes each of them first, and all who commit wait for that. There are
/// enough of them for what it writes until its first checkpoint and during that.
fn durable_cluster() -> postgres::Cluster {
    const OLD_FILES: usize = 200;
    let cluster = postgres::Cluster::start(
        "-c fsync=on -c synchronous_commit=on -c min_wal_size=4GB -c max_wal_size=4GB -c shared_buffers=512MB",
    );
    let next_file = "SELECT pg_logical_emit_message(false, '', ''), pg_switch_wal()";
    let admin = baseline::Raw::of(&cluster, "postgres");
    admin.psql(&format!("{next_file} FROM generate_series(1, {OLD_FILES})"), Stdio::null());
    admin.psql("CHECKPOINT", Stdio::null());
    cluster
}

fn heading(text: &str) {
    println!("\n{text}");
}

/// One line: what, how much a second, against which baseline.
fn line(what: &str, rate: f64, unit: &str, baseline: f64, against: &str) {
    println!("  {what:<46} {rate:>9.0} {unit:<9} {:>6.2} x {against} ({baseline:.0})", rate / baseline);
}
