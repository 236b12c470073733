//! Recording: one event a call, and batches, on both stores.

use std::time::Duration;

use crate::{
    Options,
    baseline::{self, Raw},
    durable_cluster, heading, line,
    load::{Load, Outcome, framed},
    sample,
    service::Service,
};

/// The events of one batch.
pub const BATCH: u32 = 500;

/// Unary calls against `pgbench` with one-row INSERTs.
pub fn record(options: &Options) {
    heading("PostgreSQL: RecordEvent against pgbench with one-row INSERTs into the same table");
    let cluster = durable_cluster();
    let raw = Raw::create(&cluster);
    let service = Service::start(&cluster.create_database());
    unary(&service, 64, Duration::ZERO, Duration::from_secs(1));
    let of_32 = raw.insert_rate(32, options.time);
    let fast = measured(&service, 256, options, of_32, "pgbench, 32 clients");
    measured(&service, 32, options, of_32, "pgbench, 32 clients");
    let of_8 = raw.insert_rate(8, options.time);
    measured(&service, 8, options, of_8, "pgbench, 8 clients");
    let half = Duration::from_secs_f64(2.0 / fast.per_second());
    let outcome = unary(&service, 256, half, options.time);
    println!(
        "  at half of that rate ({:.0}/s): latency p50 {:.2} ms, p99 {:.2} ms",
        outcome.per_second(),
        outcome.latencies.percentile(0.5),
        outcome.latencies.percentile(0.99)
    );
    // Both wait for the same disk, and a disk that stands still for a moment shows in both.
    let latencies = raw.insert_latencies(32, of_32 / 2.0, options.time);
    println!(
        "  pgbench at half of its own rate ({:.0}/s): latency p50 {:.2} ms, p99 {:.2} ms",
        of_32 / 2.0,
        latencies.percentile(0.5),
        latencies.percentile(0.99)
    );
    println!("  peak memory of the service: {} MiB", service.usage().peak >> 20);
}

fn measured(service: &Service, in_flight: usize, options: &Options, baseline: f64, against: &str) -> Outcome {
    let before = service.usage().cpu;
    let outcome = unary(service, in_flight, Duration::ZERO, options.time);
    let cpu = (service.usage().cpu - before).as_secs_f64() * 1e6 / outcome.calls as f64;
    line(&format!("{in_flight} calls in flight"), outcome.per_second(), "events/s", baseline, against);
    println!(
        "      p50 {:.2} ms, p99 {:.2} ms, {cpu:.1} µs of the service's processor time an event",
        outcome.latencies.percentile(0.5),
        outcome.latencies.percentile(0.99)
    );
    outcome
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
    let outcome = batches(&service, 4, options.time);
    let events = outcome.per_second() * f64::from(BATCH);
    line("4 batches in flight", events, "events/s", copied, "\\copy");
    println!(
        "      p50 {:.2} ms, p99 {:.2} ms a batch",
        outcome.latencies.percentile(0.5),
        outcome.latencies.percentile(0.99)
    );
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
    let one = baseline::sqlite_insert_rate(folder.path(), 1, options.time);
    measured(&service, 64, options, one, "one-row transactions");
    let thousand = baseline::sqlite_insert_rate(folder.path(), 1000, options.time);
    let outcome = batches(&service, 4, options.time);
    line(
        "4 batches of 500 in flight",
        outcome.per_second() * f64::from(BATCH),
        "events/s",
        thousand,
        "1000-row transactions",
    );
}
