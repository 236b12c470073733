//! `auditlog healthcheck`: asks a service on this machine whether it serves, for containers that have no shell.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::config::{Settings, settings::AdminSettings};

use super::{CliError, FileArg, remote::reachable};

/// How long to wait for each step.
const TIMEOUT: Duration = Duration::from_secs(2);
/// As much of the reply as has to be looked at.
const STATUS_LINE: &[u8] = b"HTTP/1.1 200 ";

#[derive(Debug, clap::Args)]
pub(super) struct HealthcheckArgs {
    #[command(flatten)]
    file: FileArg,
    #[command(flatten)]
    admin: AdminSettings,
}

impl HealthcheckArgs {
    /// Succeeds if `/readyz` says that the service serves. It has the settings of the service, and so its address.
    pub(super) fn run(self) -> Result<(), CliError> {
        let loaded = self.file.load(Settings { admin: self.admin, ..Settings::default() })?;
        let address = loaded.config.admin.listen.ok_or(CliError::NoAdminAddress)?;
        match ask(reachable(address)).map_err(|error| CliError::Io("reach the service", error))? {
            true => Ok(()),
            false => Err(CliError::NotReady),
        }
    }
}

fn ask(address: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut status = [0; STATUS_LINE.len()];
    stream.read_exact(&mut status)?;
    Ok(status == STATUS_LINE)
}
