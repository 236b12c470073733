//! `auditlog serve`, and how every server of this program starts and ends.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use serde_json::json;
use tokio::runtime::{self, Runtime};
use tracing::{info, warn};

use crate::{
    app::App,
    config::{AuthMode, Config, Loaded, Settings},
    model::SystemClock,
    telemetry::{self, Telemetry},
};

use super::{CliError, FileArg, file_limit, grpcurl::Grpcurl, signals::Signals};

/// How long to wait for threads that are still in the database once all has been drained or given up.
const LAST_THREADS: Duration = Duration::from_secs(1);
/// How long a thread that reads stays without work. Each has memory of its own, and an export whose pages are read by all that
/// were needed a while ago, in turn, is slower than one that few read.
const IDLE_THREADS: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    file: FileArg,
    #[command(flatten)]
    settings: Settings,
}

impl ServeArgs {
    /// Serves until a signal comes.
    pub(super) fn run(self) -> Result<(), CliError> {
        let loaded = self.file.load(self.settings)?;
        block_on(&loaded, serve(loaded.config.clone()))
    }
}

/// What comes before a server: checks, logs, and warnings of what is legal and yet dangerous.
fn prepare(loaded: &Loaded) -> Result<Telemetry, CliError> {
    loaded.config.validate()?;
    let telemetry = telemetry::init(&loaded.config.log)?;
    if let Some(file) = &loaded.file {
        info!(file = %file.display(), "read the configuration file");
    }
    warn_of_unknown(&loaded.unknown_variables);
    for warning in loaded.config.warnings() {
        warn!("{warning}");
    }
    file_limit::raise(&loaded.config);
    Ok(telemetry)
}

pub(super) fn warn_of_unknown(variables: &[String]) {
    for variable in variables {
        warn!(variable, "no setting has this environment variable");
    }
}

/// Prepares a server and runs it on a runtime of its own. What is to be exported goes out when it has ended.
pub(super) fn block_on(loaded: &Loaded, work: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    let runtime = runtime().map_err(|error| CliError::Io("start the runtime", error))?;
    let telemetry = {
        let _in_runtime = runtime.enter();
        prepare(loaded)?
    };
    let result = runtime.block_on(work);
    let lines = telemetry.shut_down();
    runtime.shutdown_timeout(LAST_THREADS);
    // Last: the threads may have something to tell.
    lines.finish();
    result
}

fn runtime() -> std::io::Result<Runtime> {
    runtime::Builder::new_multi_thread().enable_all().thread_keep_alive(IDLE_THREADS).build()
}

async fn serve(config: Config) -> Result<(), CliError> {
    let mut signals = Signals::catch()?;
    let app = start(config.clone(), &mut signals).await?;
    tell(&config, &app);
    Ok(app.run(signals.first()).await?)
}

/// Starts the service. A signal meanwhile ends the process: nothing has been promised to anybody yet.
pub(super) async fn start(config: Config, signals: &mut Signals) -> Result<App, CliError> {
    tokio::select! {
        app = App::start(config, Arc::new(SystemClock)) => Ok(app?),
        signal = signals.next() => signal.end_process(),
    }
}

fn tell(config: &Config, app: &App) {
    let (address, admin) = (app.local_addr(), app.admin_addr().map(tracing::field::display));
    let store = config.database.public_url();
    info!(version = env!("CARGO_PKG_VERSION"), %address, admin, store, auth = %config.auth.mode, "serving");
    // With tokens or TLS the line would not work, and with a token in it, it would be a secret in the log.
    if config.auth.mode == AuthMode::Metadata && config.tls.is_none() {
        info!("try: {}", first_call(address));
    }
}

fn first_call(address: SocketAddr) -> Grpcurl {
    Grpcurl {
        address,
        subject: "me@example.com",
        role: "tenant_admin@tenants/acme",
        method: "ListEvents",
        request: json!({"parent": "tenants/acme"}),
    }
}
