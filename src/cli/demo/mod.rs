//! `auditlog demo`: a service with something in it, that is gone when it ends.

mod samples;

use std::{
    error::Error,
    io::{self, Write as _},
    net::{SocketAddr, TcpListener},
};

use serde_json::json;
use tempfile::TempDir;
use tonic::{Request, metadata::MetadataValue, transport::Channel};

use crate::{
    auth::claims,
    config::{
        CheckpointConfig, Config, DatabaseConfig, Loaded, Settings,
        settings::{AuthSettings, LogSettings},
    },
    model::{Clock as _, SystemClock},
    proto::auditlog::v1::{
        AddUpdateNoteRequest, BatchRecordEventsRequest, audit_log_service_client::AuditLogServiceClient,
    },
};

use super::{CliError, FileArg, grpcurl::Grpcurl, remote::reachable, serve, signals::Signals};

const TENANT: &str = "tenants/demo";
const ADMIN: &str = "ann@example.com";
const ADMIN_ROLE: &str = "tenant_admin@tenants/demo";

#[derive(Debug, clap::Args)]
pub(super) struct DemoArgs {
    #[command(flatten)]
    file: FileArg,
    /// Address to serve gRPC on; another port if this one is taken [default: 127.0.0.1:50051]
    #[arg(id = "listen", long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    auth: AuthSettings,
    #[command(flatten)]
    log: LogSettings,
}

impl DemoArgs {
    /// Serves until a signal comes. The database goes with `directory`.
    pub(super) fn run(self) -> Result<(), CliError> {
        let flags = Settings { listen: self.listen, auth: self.auth, log: self.log, ..Settings::default() };
        let loaded = self.file.load(flags)?;
        let directory = temporary_directory().map_err(|error| CliError::Io("make a temporary directory", error))?;
        let config = demo_config(&loaded.config, &directory);
        serve::block_on(&Loaded { config: config.clone(), ..loaded }, demo(config))
    }
}

fn temporary_directory() -> io::Result<TempDir> {
    tempfile::Builder::new().prefix("auditlog-demo-").tempdir()
}

/// Where and how to serve is as configured. The rest is as it comes: other roles or note types would break what is printed.
fn demo_config(configured: &Config, directory: &TempDir) -> Config {
    let default = Config::default();
    let url = format!("sqlite://{}", directory.path().join("demo.db").display());
    Config {
        listen: free_address(configured.listen),
        auth: configured.auth.clone(),
        log: configured.log.clone(),
        shutdown: configured.shutdown.clone(),
        checkpoint: CheckpointConfig { key_file: directory.path().join("checkpoint.key"), ..default.checkpoint },
        database: DatabaseConfig { url, ..DatabaseConfig::default() },
        ..default
    }
}

/// `wanted`, or any free port beside it.
fn free_address(wanted: SocketAddr) -> SocketAddr {
    match TcpListener::bind(wanted) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => SocketAddr::new(wanted.ip(), 0),
        _ => wanted,
    }
}

async fn demo(config: Config) -> Result<(), CliError> {
    let mut signals = Signals::catch()?;
    let app = serve::start(config, &mut signals).await?;
    let address = app.local_addr();
    let fill = async {
        let event = record(address).await.map_err(CliError::Demo)?;
        print(address, &event).map_err(|error| CliError::Io("write to standard output", error))
    };
    let run = async { Ok(app.run(signals.first()).await?) };
    tokio::try_join!(run, fill).map(|_| ())
}

/// Records the samples, and returns the name of the event with a note.
async fn record(address: SocketAddr) -> Result<String, Box<dyn Error + Send + Sync>> {
    let channel = Channel::from_shared(format!("http://{}", reachable(address)))?.connect().await?;
    let mut client = AuditLogServiceClient::new(channel);
    let requests = samples::events(SystemClock.now());
    let batch = BatchRecordEventsRequest { requests, parent: TENANT.to_owned() };
    let batch = claimed(batch, "platform-api", "service", "event_recorder@tenants/demo");
    let receipts = client.batch_record_events(batch).await?.into_inner().receipts;
    let name = receipts.get(samples::NOTED).map(|receipt| receipt.name.clone()).ok_or("a receipt is missing")?;
    let note = AddUpdateNoteRequest { name: name.clone(), text: samples::NOTE.to_owned(), note_id: String::new() };
    client.add_update_note(claimed(note, ADMIN, "user", ADMIN_ROLE)).await?;
    Ok(name)
}

fn claimed<T>(message: T, subject: &'static str, subject_type: &'static str, role: &'static str) -> Request<T> {
    let mut request = Request::new(message);
    for (key, value) in [(claims::SUBJECT, subject), (claims::SUBJECT_TYPE, subject_type), (claims::ROLES, role)] {
        request.metadata_mut().insert(key, MetadataValue::from_static(value));
    }
    request
}

fn print(address: SocketAddr, event: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "Serving sample events of {TENANT} on {address}, until Ctrl-C. In another terminal, try:")?;
    for (title, command) in commands(address, event) {
        writeln!(out, "\n# {title}\n{command}")?;
    }
    out.flush()
}

fn commands(address: SocketAddr, event: &str) -> [(&'static str, String); 5] {
    let call = |method, request| Grpcurl { address, subject: ADMIN, role: ADMIN_ROLE, method, request };
    let filter = json!({"actionTypes": ["ACTION_TYPE_UPDATE"], "resourceTypes": ["cluster"]});
    let project = json!({"parent": "tenants/demo/projects/web", "filter": filter});
    let viewer = Grpcurl {
        subject: "ben@example.com",
        role: "project_viewer@tenants/demo/projects/web",
        ..call("ListEvents", project)
    };
    let note = json!({"name": event, "text": "Rolled out to all clusters that use the profile."});
    [
        ("All activity of the tenant, newest first", call("ListEvents", json!({"parent": TENANT})).to_string()),
        ("Updates of clusters in the project web, as somebody who may see only that", viewer.to_string()),
        ("One event, with its update note", call("GetEvent", json!({"name": event})).to_string()),
        ("Add an update note to it", call("AddUpdateNote", note).to_string()),
        ("Download CSV", format!("{} | jq -r .data | base64 -d", call("ExportCsv", json!({"parent": TENANT})))),
    ]
}
