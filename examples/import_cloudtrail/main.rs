//! Sends AWS CloudTrail records, one JSON object a line, to a running service:
//!
//! ```text
//! cargo run --example import_cloudtrail -- cloudtrail-writes.jsonl
//! ```
//!
//! Ids come from the records, so sending a file twice records it once. All lines are read before the first event is
//! sent: a line that is no record stops the import before it began.

use std::{
    collections::BTreeMap,
    error::Error,
    fs::File,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::ExitCode,
};

use auditlog::client::{Credentials, Emitter, NewEvent, Receipt};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use tokio_stream::StreamExt as _;

mod limits;
mod mapping;
mod resource;

/// Import AWS CloudTrail records into an audit log.
#[derive(Debug, Parser)]
struct Options {
    /// The records, one JSON object a line.
    file: PathBuf,
    /// The service's address.
    #[arg(long, default_value = "http://127.0.0.1:50051", value_name = "URL")]
    address: String,
    /// Record everything at this scope, such as tenants/demo, and not at tenants/{account}/projects/{region}.
    #[arg(long, value_name = "SCOPE")]
    parent: Option<String>,
    /// Who the importer says it is.
    #[arg(long, default_value = "cloudtrail-import")]
    subject: String,
    /// Where the importer says it may record: *, tenants/{t} or tenants/{t}/projects/{p}.
    #[arg(long, default_value = "*", value_name = "SCOPE")]
    recorder_at: String,
}

/// Events by the scope that they are sent to.
type Events = BTreeMap<String, Vec<NewEvent>>;

#[tokio::main]
async fn main() -> ExitCode {
    match import(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("import_cloudtrail: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn import(options: Options) -> Result<(), Box<dyn Error>> {
    let events = read(&options.file, options.parent.as_deref())?;
    let credentials = Credentials::service(&options.subject).role("event_recorder", &options.recorder_at);
    let emitter = Emitter::connect(&options.address, credentials).await?;
    let progress = progress_bar(events.values().map(Vec::len).sum());
    for (parent, events) in events {
        let receipts = record(&emitter, &parent, events, &progress).await?;
        progress.suspend(|| println!("{}", summary(&parent, &receipts)));
    }
    progress.finish_and_clear();
    Ok(())
}

/// Reads and maps all records. At `parent`, they keep their tenant and project only as attributes.
fn read(file: &Path, parent: Option<&str>) -> Result<Events, Box<dyn Error>> {
    let open = File::open(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut events = Events::new();
    for (number, line) in (1..).zip(BufReader::new(open).lines()) {
        let line = line.map_err(|error| format!("{}:{number}: {error}", file.display()))?;
        if line.trim().is_empty() {
            continue;
        }
        let mapped = mapping::map(&line).map_err(|error| format!("{}:{number}: {error}", file.display()))?;
        let (parent, event) = match parent {
            Some(parent) => (parent.to_owned(), mapped.event),
            None => (format!("tenants/{}", mapped.tenant), mapped.event.in_project(mapped.project)),
        };
        events.entry(parent).or_default().push(event);
    }
    Ok(events)
}

async fn record(
    emitter: &Emitter,
    parent: &str,
    events: Vec<NewEvent>,
    progress: &ProgressBar,
) -> Result<Vec<Receipt>, Box<dyn Error>> {
    let mut recorded = Vec::with_capacity(events.len());
    let mut batches = emitter.record_all(parent, tokio_stream::iter(events));
    while let Some(receipts) = batches.next().await {
        let receipts = receipts.map_err(|failed| format!("{parent}, after {} events: {failed}", recorded.len()))?;
        progress.inc(receipts.len() as u64);
        recorded.extend(receipts);
    }
    Ok(recorded)
}

/// On stderr, and only if that is a terminal.
fn progress_bar(events: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} events, {per_sec}, {eta} left");
    let bar = ProgressBar::new(events as u64);
    style.map(|style| bar.clone().with_style(style)).unwrap_or(bar)
}

fn summary(parent: &str, receipts: &[Receipt]) -> String {
    let places = || receipts.iter().map(|receipt| receipt.leaf_index);
    let (first, last) = (places().min().unwrap_or_default(), places().max().unwrap_or_default());
    format!("{parent}: {} events recorded, at places {first} to {last} of the log", receipts.len())
}
