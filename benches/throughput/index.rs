//! What each index of `events` costs the append path: how fast the service records where that one is dropped.

use std::process::Stdio;

use crate::{
    Options,
    baseline::Raw,
    durable_cluster, heading,
    postgres::Cluster,
    read::fill,
    service::Service,
    write::{BATCH, batches, unary},
};

/// Beside the primary key, which nothing works without.
const INDEXES: [&str; 5] =
    ["events_leaf_index", "events_project", "events_resource_type", "events_resource", "events_actor"];
/// Each variant is measured so often, in turn with the others, and its median counts.
const ROUNDS: usize = 5;
/// The rows that are there before.
const ROWS: u32 = 500_000;

/// One way to have the table, and how fast it took events.
struct Variant {
    dropped: Vec<&'static str>,
    unary: Vec<f64>,
    batches: Vec<f64>,
}

/// Copies of one filled database, each without another index.
pub fn indexes(options: &Options) {
    heading("PostgreSQL: RecordEvent, 256 in flight, and batches of 500, without one index of events");
    let cluster = durable_cluster();
    let filled = cluster.create_database();
    fill(&Service::start(&filled), ROWS);
    let mut variants: Vec<Variant> = dropped().map(Variant::without).collect();
    for _ in 0..ROUNDS {
        variants.iter_mut().for_each(|variant| variant.measure(&cluster, &filled, options));
    }
    let with_all = variants.first().map(Variant::medians).unwrap_or_default();
    for variant in &variants {
        variant.tell(with_all);
    }
    sizes(&cluster, &filled);
}

fn dropped() -> impl Iterator<Item = Vec<&'static str>> {
    [Vec::new()].into_iter().chain(INDEXES.map(|index| vec![index])).chain([INDEXES.to_vec()])
}

impl Variant {
    fn without(dropped: Vec<&'static str>) -> Self {
        Self { dropped, unary: Vec::new(), batches: Vec::new() }
    }

    fn measure(&mut self, cluster: &Cluster, filled: &str, options: &Options) {
        let admin = Raw::of(cluster, "postgres");
        let name = |url: &str| url.rsplit('/').next().unwrap_or_default().to_owned();
        admin.psql("DROP DATABASE IF EXISTS variant", Stdio::null());
        admin.psql(&format!("CREATE DATABASE variant TEMPLATE {}", name(filled)), Stdio::null());
        let url = cluster.url("variant");
        for index in &self.dropped {
            Raw::of(cluster, &url).psql(&format!("DROP INDEX {index}"), Stdio::null());
        }
        admin.psql("CHECKPOINT", Stdio::null());
        let service = Service::start(&url);
        self.unary.push(unary(&service, 256, std::time::Duration::ZERO, options.time).per_second());
        self.batches.push(batches(&service, 4, options.time).per_second() * f64::from(BATCH));
    }

    fn medians(&self) -> (f64, f64) {
        (median(&self.unary), median(&self.batches))
    }

    fn tell(&self, with_all: (f64, f64)) {
        let (unary, batches) = self.medians();
        let what = match self.dropped[..] {
            [] => "all indexes".to_owned(),
            [one] => format!("without {one}"),
            _ => "with the primary key alone".to_owned(),
        };
        println!(
            "  {what:<30} {unary:>7.0} events/s, {:+5.1} %   batches {batches:>7.0} events/s, {:+5.1} %",
            100.0 * (unary / with_all.0 - 1.0),
            100.0 * (batches / with_all.1 - 1.0)
        );
    }
}

/// Bytes a row of the table and of each index, by PostgreSQL's own account.
fn sizes(cluster: &Cluster, filled: &str) {
    let per_row = "pg_relation_size(child.oid)::numeric) / (SELECT count(*) FROM events), 1) AS bytes_a_row";
    Raw::of(cluster, filled).psql(
        &format!(
            "SELECT parent.relname AS part, round(sum({per_row} \
             FROM pg_inherits JOIN pg_class parent ON parent.oid = inhparent JOIN pg_class child ON child.oid = inhrelid \
             WHERE parent.relname LIKE 'events%' GROUP BY parent.relname ORDER BY 1"
        ),
        Stdio::inherit(),
    );
}

fn median(rates: &[f64]) -> f64 {
    let mut rates = rates.to_vec();
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or(0.0)
}
