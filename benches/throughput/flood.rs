//! What one caller who floods costs another: the median latency of one who calls now and then, before and meanwhile.

use std::{
    thread,
    time::{Duration, Instant},
};

use auditlog::proto::auditlog::v1::ListEventsRequest;
use prost::bytes::Bytes;

use crate::{
    Options, durable_cluster, heading,
    load::{Load, Outcome, framed},
    sample,
    service::Service,
};

/// How many calls the flood has in flight; below the limit for one caller, so that none is refused.
const FLOOD: usize = 1024;
/// The flood has begun in earnest after this.
const LEAD: Duration = Duration::from_millis(500);

/// Both stores, all in one tenant: the flood and the other caller meet in everything that there is to meet in.
pub fn flood(options: &Options) {
    heading("One caller floods with 1024 calls in flight; another's median latency, quiet and meanwhile (PostgreSQL)");
    let cluster = durable_cluster();
    on(&Service::start(&cluster.create_database()), options);
    heading("The same (SQLite)");
    let folder = tempfile::tempdir().expect("a folder");
    on(&Service::start(&format!("sqlite://{}", folder.path().join("service.db").display())), options);
}

fn on(service: &Service, options: &Options) {
    let calls = [("RecordEvent", records()), ("ListEvents", pages())];
    // Something to list, and warm caches.
    load(service, "fill", "RecordEvent", records(), 256, Duration::from_secs(1)).run();
    for (flooding, bodies) in &calls {
        for (method, own) in &calls {
            let other = || load(service, "other", method, own.clone(), 1, options.time).run();
            let quiet = other();
            let begun = Instant::now();
            let flood = load(service, "flood", flooding, bodies.clone(), FLOOD, options.time + 2 * LEAD);
            let flood = thread::spawn(|| flood.run());
            thread::sleep(LEAD);
            let meanwhile = other();
            let flood = flood.join().expect("the flood goes on to its end");
            tell(flooding, method, &flood, &quiet, &meanwhile);
            assert!(begun.elapsed() >= options.time);
        }
    }
}

fn tell(flooding: &str, method: &str, flood: &Outcome, quiet: &Outcome, meanwhile: &Outcome) {
    let (quiet, meanwhile) = (quiet.latencies.percentile(0.5), meanwhile.latencies.percentile(0.5));
    println!(
        "  {method:<12} beside {:>6.0} {flooding} a second: {quiet:>6.2} ms, {meanwhile:>6.2} ms: {:>5.1} x",
        flood.per_second(),
        meanwhile / quiet
    );
}

fn load(
    service: &Service,
    subject: &'static str,
    method: &'static str,
    bodies: Vec<Bytes>,
    in_flight: usize,
    time: Duration,
) -> Load {
    Load { address: service.address, subject, method, bodies, in_flight, pause: Duration::ZERO, time }
}

fn records() -> Vec<Bytes> {
    (0..1000).map(|n| framed(&sample::record(n))).collect()
}

fn pages() -> Vec<Bytes> {
    let page = |project| ListEventsRequest {
        parent: format!("{}/projects/project-{project}", sample::TENANT),
        page_size: 50,
        ..ListEventsRequest::default()
    };
    (0..sample::PROJECTS).map(|project| framed(&page(project))).collect()
}
