//! Reading: pages and exports.

use std::time::{Duration, Instant};

use auditlog::proto::auditlog::v1::{ExportCsvRequest, ListEventsRequest};

use prost::bytes::Bytes;

use crate::{
    Options,
    baseline::Raw,
    durable_cluster, heading, line,
    load::{Load, Outcome, framed},
    sample,
    service::Service,
};

/// The events of one page, and how many callers ask for pages.
const PAGE: i32 = 50;
/// Less than a row of the export has.
const ROW_BYTES: usize = 400;
const READERS: usize = 8;

/// Pages of a project against the query for a page and the one for its notes through `pgbench` (the service asks the second one
/// only where the first says that there are notes, and here there are none), and an export against psql's `\copy`.
pub fn list_and_export(options: &Options) {
    let cluster = durable_cluster();
    let url = cluster.create_database();
    let service = Service::start(&url);
    let rows = if options.wants("export") { options.export_rows } else { 200_000 };
    fill(&service, rows);
    let raw = Raw::of(&cluster, &url);
    raw.psql("VACUUM ANALYZE", std::process::Stdio::null());
    if options.wants("list") {
        list(options, &service, &raw);
    }
    if options.wants("export") {
        export(&service, &raw, rows);
    }
}

pub fn fill(service: &Service, rows: u32) {
    for n in 0..rows / 1000 {
        let body = framed(&sample::batch(n * 1000, 1000));
        once(service, "BatchRecordEvents", body);
    }
}

/// A load stops at a time; this one is a single call.
fn once(service: &Service, method: &'static str, body: Bytes) -> Outcome {
    let (bodies, pause, time) = (vec![body], Duration::ZERO, Duration::ZERO);
    Load { address: service.address, subject: "bench", method, bodies, in_flight: 1, pause, time }.run()
}

fn list(options: &Options, service: &Service, raw: &Raw<'_>) {
    heading(
        "PostgreSQL: ListEvents, pages of 50 of a project, against the queries for a page and for its notes through pgbench",
    );
    let query = |project: u32| ListEventsRequest {
        parent: format!("{}/projects/project-{project}", sample::TENANT),
        page_size: PAGE,
        ..ListEventsRequest::default()
    };
    let script = format!(
        "\\set p random(0, {})\n\
         SELECT {}, erase_time, erase_reason FROM events WHERE tenant_id = 'bench' \
         AND event_id >= '00000000-0000-0000-0000-000000000000' AND event_id < 'ffffffff-ffff-ffff-ffff-ffffffffffff' \
         AND (project_id, event_id) >= ('project-' || :p, '00000000-0000-0000-0000-000000000000') \
         AND (project_id, event_id) < ('project-' || :p, 'ffffffff-ffff-ffff-ffff-ffffffffffff') \
         ORDER BY project_id DESC, event_id DESC LIMIT {};\n\
         SELECT * FROM update_notes WHERE tenant_id = 'bench' AND event_id = ANY (ARRAY[{}]::uuid[]) ORDER BY leaf_index;\n",
        sample::PROJECTS - 1,
        sample::COLUMNS,
        PAGE + 1,
        (0..PAGE).map(|n| format!("'01a19467-e800-7000-8000-{n:012x}'")).collect::<Vec<_>>().join(", "),
    );
    let raw_pages = raw.pgbench(&script, READERS, options.time);
    let before = service.usage().cpu;
    let bodies = (0..sample::PROJECTS).map(|project| framed(&query(project))).collect();
    let (address, subject, method, pause) = (service.address, "bench", "ListEvents", Duration::ZERO);
    let outcome = Load { address, subject, method, bodies, in_flight: READERS, pause, time: options.time }.run();
    let cpu = (service.usage().cpu - before).as_secs_f64() * 1e6 / outcome.calls as f64;
    line(&format!("{READERS} readers"), outcome.per_second(), "pages/s", raw_pages, "pgbench");
    println!(
        "      p50 {:.2} ms, p99 {:.2} ms, {cpu:.0} µs of the service's processor time a page",
        outcome.latencies.percentile(0.5),
        outcome.latencies.percentile(0.99)
    );
}

fn export(service: &Service, raw: &Raw<'_>, rows: u32) {
    heading("PostgreSQL: ExportCsv of a whole tenant against psql \\copy of the same columns");
    let copied = raw.copy_out_rate(rows as usize);
    service.forget_peak();
    let before = service.usage();
    let start = Instant::now();
    let request = ExportCsvRequest { parent: sample::TENANT.to_owned(), ..ExportCsvRequest::default() };
    let outcome = once(service, "ExportCsv", framed(&request));
    let rate = f64::from(rows) / start.elapsed().as_secs_f64();
    assert!(outcome.bytes > rows as usize * ROW_BYTES, "the export broke off after {} bytes", outcome.bytes);
    line(&format!("{rows} rows, {} MiB", outcome.bytes >> 20), rate, "rows/s", copied, "\\copy");
    let usage = service.usage();
    let (grown, cpu) = (usage.peak.saturating_sub(before.resident), (usage.cpu - before.cpu).as_secs_f64() * 1e6);
    println!("      resident memory grew by at most {} MiB", grown >> 20);
    println!("      {:.1} µs of the service's processor time a row", cpu / f64::from(rows));
}
