//! Recording: one event a call, and batches, on both stores.

use std::{process::Command, time::Duration};

use crate::{
    Options,
    baseline::{Raw, RawSqlite},
    durable_cluster, heading, line,
    load::{Latencies, Load, Outcome, framed},
    sample,
    service::Service,
};

/// The events of one batch.
pub const BATCH: u32 = 500;

/// In how many rounds the service and what it is compared with take turns: a machine that is slower for some seconds is slower for both.
pub const ROUNDS: u32 = 3;

/// Unary calls against `pgbench` with one-row INSERTs.
pub fn record(options: &Options) {
    heading("PostgreSQL: RecordEvent against pgbench with one-row INSERTs into the same table");
    let cluster = durable_cluster();
    let raw = Raw::create(&cluster);
    let service = Service::start(&cluster.create_database());
    unary(&service, 64, Duration::ZERO, Duration::from_secs(1));
    let (mut at_256, mut at_32, mut at_8) = (Turns::of(256), Turns::of(32), Turns::of(8));
    let (mut of_32, mut of_8) = (0.0, 0.0);
    for _ in 0..ROUNDS {
        of_32 += raw.insert_rate(32, options.turn()) / f64::from(ROUNDS);
        at_256.run(&service, options);
        at_32.run(&service, options);
        of_8 += raw.insert_rate(8, options.turn()) / f64::from(ROUNDS);
        at_8.run(&service, options);
    }
    at_256.print(of_32, "pgbench, 32 clients");
    at_32.print(of_32, "pgbench, 32 clients");
    at_8.print(of_8, "pgbench, 8 clients");
    half_load(&service, at_256.outcome.per_second() / 2.0, options.time);
    half_of_raw(&raw, of_32 / 2.0, options.time);
    println!("  peak memory of the service: {} MiB", service.usage().peak >> 20);
}

/// Latencies at half of the service's own rate.
fn half_load(service: &Service, rate: f64, time: Duration) {
    write_back();
    let outcome = unary(service, 256, Duration::from_secs_f64(1.0 / rate), time);
    print_half("that", outcome.per_second(), &outcome.latencies);
}

/// The same of `pgbench`. Both wait for the same disk, and a disk that stands still for a moment shows in both.
fn half_of_raw(raw: &Raw<'_>, rate: f64, time: Duration) {
    write_back();
    print_half("pgbench's", rate, &raw.insert_latencies(32, rate, time));
}

fn print_half(of: &str, rate: f64, latencies: &Latencies) {
    let [p50, p99, most] = [0.5, 0.99, 1.0].map(|share| latencies.percentile(share));
    println!("  at half of {of} rate ({rate:.0}/s): latency p50 {p50:.2} ms, p99 {p99:.2} ms, at most {most:.2} ms");
}

/// Has the kernel write what is left of earlier measurements. Linux writes a table's new pages half a minute after the first of
/// them, hundreds of megabytes at once here, and a commit that wants the disk meanwhile waits.
fn write_back() {
    assert!(Command::new("sync").status().expect("sync").success(), "writing back");
}

/// What came of calls with so many in flight, in all rounds.
struct Turns {
    in_flight: usize,
    outcome: Outcome,
    /// The service's processor time.
    cpu: Duration,
}

impl Turns {
    fn of(in_flight: usize) -> Self {
        Self { in_flight, outcome: Outcome::default(), cpu: Duration::ZERO }
    }

    fn run(&mut self, service: &Service, options: &Options) {
        let before = service.usage().cpu;
        let outcome = unary(service, self.in_flight, Duration::ZERO, options.turn());
        self.outcome = std::mem::take(&mut self.outcome).with(outcome);
        self.cpu += service.usage().cpu - before;
    }

    fn print(&self, baseline: f64, against: &str) {
        let Self { in_flight, outcome, cpu } = self;
        let cpu = cpu.as_secs_f64() * 1e6 / outcome.calls as f64;
        line(&format!("{in_flight} calls in flight"), outcome.per_second(), "events/s", baseline, against);
        println!(
            "      p50 {:.2} ms, p99 {:.2} ms, {cpu:.1} µs of the service's processor time an event",
            outcome.latencies.percentile(0.5),
            outcome.latencies.percentile(0.99)
        );
    }
}

pub fn unary(service: &Service, in_flight: usize, pause: Duration, time: Duration) -> Outcome {
    let bodies = (0..10_000).map(|n| framed(&sample::record(n))).collect();
    let (address, subject, method) = (service.address, "bench", "RecordEvent");
    Load { address, subject, method, bodies, in_flight, pause, time }.run()
}

/// Batches against psql's `\copy`.
pub fn batch(options: &Options) {
    heading("PostgreSQL: BatchRecordEvents of 500 against psql \\copy into the same table");
    let cluster = durable_cluster();
    let copied = Raw::create(&cluster).copy_in_rate(200_000);
    let service = Service::start(&cluster.create_database());
    batches_against(&service, options, copied, "\\copy");
}

/// Batches, four in flight, against so many rows a second.
fn batches_against(service: &Service, options: &Options, baseline: f64, against: &str) {
    let before = service.usage().cpu;
    let outcome = batches(service, 4, options.time);
    let usage = service.usage();
    let cpu = (usage.cpu - before).as_secs_f64() * 1e6 / (outcome.calls as f64 * f64::from(BATCH));
    let events = outcome.per_second() * f64::from(BATCH);
    line("4 batches of 500 in flight", events, "events/s", baseline, against);
    println!(
        "      p50 {:.2} ms, p99 {:.2} ms a batch, {cpu:.1} µs of the service's processor time an event",
        outcome.latencies.percentile(0.5),
        outcome.latencies.percentile(0.99)
    );
    println!("  peak memory of the service: {} MiB", usage.peak >> 20);
}

pub fn batches(service: &Service, in_flight: usize, time: Duration) -> Outcome {
    let bodies = (0..100).map(|n| framed(&sample::batch(n * BATCH, BATCH))).collect();
    let (address, subject, method, pause) = (service.address, "bench", "BatchRecordEvents", Duration::ZERO);
    Load { address, subject, method, bodies, in_flight, pause, time }.run()
}

/// The embedded store against the same rows in transactions of one's own.
pub fn sqlite(options: &Options) {
    heading("SQLite: against the same rows in transactions of one's own");
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(&format!("sqlite://{}", folder.path().join("service.db").display()));
    let (mut raw, mut alike) = (RawSqlite::create(folder.path(), None), RawSqlite::create(folder.path(), Some(4000)));
    let (mut at_64, mut one, mut one_alike) = (Turns::of(64), 0.0, 0.0);
    for _ in 0..ROUNDS {
        one += raw.insert_rate(1, options.turn()) / f64::from(ROUNDS);
        at_64.run(&service, options);
        one_alike += alike.insert_rate(1, options.turn()) / f64::from(ROUNDS);
    }
    at_64.print(one, "one-row transactions");
    let ratio = at_64.outcome.per_second() / one_alike;
    println!("      {ratio:.2} x one-row transactions with the service's wal_autocheckpoint ({one_alike:.0})");
    half_load(&service, at_64.outcome.per_second() / 2.0, options.time);
    let thousand = raw.insert_rate(1000, options.time);
    batches_against(&service, options, thousand, "1000-row transactions");
}
