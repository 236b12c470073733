//! The call, as often as it takes.

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::time::{sleep, timeout};
use tonic::{Code, Status, Streaming, metadata::MetadataMap};

use crate::{
    cli::{
        CliError,
        progress::Progress,
        remote::{MAX_MESSAGE_BYTES, Remote},
    },
    client::{CallFailed, RetryPolicy, jittered},
    proto::{
        auditlog::v1::{ExportCsvRequest, audit_log_service_client::AuditLogServiceClient},
        export_metadata::{LOG_SIZE, MANIFEST, ROW_COUNT, SHA256},
        google::api::HttpBody,
    },
    verify::Manifest,
};

use super::{agreement::Asked, part::Part};

/// Longer than the service is ever silent by default: it sends a piece for each page that it reads, even one without rows, and no statement
/// takes longer than database.statement_timeout; it ends an export itself of which nothing is taken for limits.export_stall, and begins
/// one within limits.call_time. Each is a minute or less.
pub(super) const MAX_SILENCE: Duration = Duration::from_secs(120);
/// The service asks for seconds. One that asks for years would hold the command for ever.
const MAX_ASKED_WAIT: Duration = Duration::from_secs(60);

/// An export that is under way.
pub(super) struct Download<'r> {
    pub(super) remote: &'r Remote,
    pub(super) request: ExportCsvRequest,
    pub(super) part: Part,
    pub(super) retries: u32,
    /// How long nothing may come before the connection counts as broken.
    pub(super) silence: Duration,
}

/// An export of which all has come.
pub(super) struct Complete {
    pub(super) part: Part,
    pub(super) rows: u64,
    pub(super) sha256: [u8; 32],
    pub(super) log_size: i64,
    pub(super) manifest: Option<String>,
}

/// What one reply has said and sent.
struct Reply {
    trailing: MetadataMap,
    hash: Sha256,
    bytes: u64,
    /// Without those that earlier replies have sent.
    rows: u64,
}

impl Download<'_> {
    /// Takes the export up again until it is complete, or nothing more comes of it.
    pub(super) async fn run(mut self) -> Result<Complete, CliError> {
        let progress = Progress::endless("bytes");
        let (mut failures, mut total) = (0, 0);
        loop {
            // Rows, and not bytes: the header row alone would have it try for ever.
            let before = self.part.rows();
            match self.attempt(&progress, &mut total).await {
                Ok(reply) => {
                    progress.end();
                    return self.complete(reply);
                }
                Err(CliError::Call { failed, .. }) if failed.is_temporary() && !failed.waits_for_operator() => {
                    failures = if self.part.rows() > before { 0 } else { failures + 1 };
                    if failures > self.retries {
                        return Err(self.remote.failed(*failed));
                    }
                    progress.at_with(total, format!("broken off, trying again: {failed}"));
                    sleep(wait_after(failed.asked_delay(), failures.saturating_sub(1))).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// One call. It goes on behind the last row that is complete.
    async fn attempt(&mut self, progress: &Progress, total: &mut u64) -> Result<Reply, CliError> {
        let request = self.next_request()?;
        let is_resumed = !request.after_event_id.is_empty();
        let client = AuditLogServiceClient::new(self.remote.channel.clone());
        let mut client = client.max_decoding_message_size(MAX_MESSAGE_BYTES);
        let response = self.within(client.export_csv(self.remote.request(request))).await?;
        self.begin(response.metadata(), is_resumed)?;
        self.receive(response.into_inner(), progress, total).await
    }

    fn next_request(&mut self) -> Result<ExportCsvRequest, CliError> {
        let (log_size, after_event_id) = match self.part.cut()? {
            Some(event_id) => (self.part.log_size, event_id),
            None => (0, String::new()),
        };
        Ok(ExportCsvRequest { log_size, after_event_id, ..self.request.clone() })
    }

    /// What comes must be of the log as it was when the export began.
    fn begin(&mut self, metadata: &MetadataMap, is_resumed: bool) -> Result<(), CliError> {
        let told = metadata.get(LOG_SIZE).and_then(|size| size.to_str().ok()?.parse().ok());
        let told: i64 = told.ok_or_else(|| CliError::Export(format!("the service does not tell {LOG_SIZE}")))?;
        if is_resumed && told != self.part.log_size {
            return Err(CliError::Export(format!("it was of log size {}, and goes on at {told}", self.part.log_size)));
        }
        self.part.remember(&self.request, told)
    }

    async fn receive(
        &mut self,
        mut stream: Streaming<HttpBody>,
        progress: &Progress,
        total: &mut u64,
    ) -> Result<Reply, CliError> {
        let (mut hash, mut bytes, before) = (Sha256::new(), 0, self.part.rows());
        while let Some(piece) = self.within(stream.message()).await? {
            self.part.write(&piece.data)?;
            hash.update(&piece.data);
            bytes += piece.data.len() as u64;
            *total += piece.data.len() as u64;
            progress.at_with(*total, format!("log size {}", self.part.log_size));
        }
        let trailing = self.within(stream.trailers()).await?.unwrap_or_default();
        match trailing.contains_key(SHA256) {
            true => Ok(Reply { trailing, hash, bytes, rows: self.part.rows() - before }),
            // Something on the way has ended the stream as if it were complete.
            false => Err(self.failed(Status::new(Code::Unavailable, "the export ended without its sums"))),
        }
    }

    /// What comes next, if it comes in time.
    async fn within<T>(&self, next: impl Future<Output = Result<T, Status>>) -> Result<T, CliError> {
        let late = |_| Err(Status::unavailable(format!("nothing has come for {:?}", self.silence)));
        timeout(self.silence, next).await.unwrap_or_else(late).map_err(|status| self.failed(status))
    }

    fn failed(&self, status: Status) -> CliError {
        self.remote.failed(CallFailed::new(status, 1))
    }

    /// Compares all sums.
    fn complete(mut self, reply: Reply) -> Result<Complete, CliError> {
        reply.require_sums()?;
        let manifest = reply.manifest()?;
        let (sha256, rows) = (self.part.sha256()?, self.part.rows());
        let log_size = self.part.log_size;
        if let Some(note) = &manifest {
            let manifest = Manifest::read(note, None).map_err(|error| CliError::Export(error.to_string()))?;
            Asked { request: &self.request, log_size, sha256, rows }.require(&manifest)?;
        }
        Ok(Complete { rows, sha256, log_size, manifest, part: self.part })
    }
}

/// How long to wait after a failure that came behind `earlier` ones in a row, where the service has `asked` for a wait.
fn wait_after(asked: Duration, earlier: u32) -> Duration {
    asked.min(MAX_ASKED_WAIT) + jittered(RetryPolicy::default().wait_after(earlier))
}

impl Reply {
    fn text(&self, key: &str) -> &str {
        self.trailing.get(key).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The bytes are those that were sent, and have as many rows as were.
    fn require_sums(&self) -> Result<(), CliError> {
        let (told, found) = (self.text(SHA256), hex::encode(self.hash.clone().finalize()));
        if told != found {
            let bytes = self.bytes;
            return Err(CliError::Export(format!("{SHA256} is {told}, and the {bytes} bytes that came have {found}")));
        }
        match self.text(ROW_COUNT).parse::<u64>() {
            Ok(told) if told == self.rows => Ok(()),
            Ok(told) => Err(CliError::Export(format!("{ROW_COUNT} is {told}, and {} rows came", self.rows))),
            Err(_) => Err(CliError::Export(format!("the service does not tell {ROW_COUNT}"))),
        }
    }

    fn manifest(&self) -> Result<Option<String>, CliError> {
        let Some(note) = self.trailing.get_bin(MANIFEST) else { return Ok(None) };
        let note = note.to_bytes().ok().and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
        note.map(Some).ok_or_else(|| CliError::Export(format!("{MANIFEST} is no text")))
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};
    use prost::Message as _;
    use tokio::net::{TcpListener, TcpStream};

    use crate::cli::remote::RemoteArgs;

    use super::*;

    /// The address of a service that begins every export and then falls silent.
    async fn falling_silent() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(begin_each(connection));
            }
        });
        address
    }

    async fn begin_each(connection: TcpStream) {
        let piece = HttpBody { data: b"event_id\r\n".to_vec().into(), ..HttpBody::default() }.encode_to_vec();
        let frame = [&[0][..], &u32::try_from(piece.len()).unwrap().to_be_bytes(), &piece].concat();
        let mut connection = h2::server::handshake(connection).await.unwrap();
        let mut begun = Vec::new();
        while let Some(Ok((_, mut reply))) = connection.accept().await {
            let head = http::Response::builder().header("content-type", "application/grpc").header(LOG_SIZE, "1");
            let mut body = reply.send_response(head.body(()).unwrap(), false).unwrap();
            body.send_data(frame.clone().into(), false).unwrap();
            // An export that is let go of is ended.
            begun.push(body);
        }
    }

    fn remote(address: &str) -> Remote {
        let command = RemoteArgs::augment_args(clap::Command::new("export"));
        let given = command.try_get_matches_from(["export", "--address", address]).unwrap();
        RemoteArgs::from_arg_matches(&given).unwrap().connect().unwrap()
    }

    /// It may answer pings, and looks alive.
    #[tokio::test]
    async fn a_service_that_falls_silent_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let part = Part::begin(&folder.path().join("a.csv")).unwrap();
        let remote = remote(&falling_silent().await);
        let silence = Duration::from_millis(50);
        let download = Download { remote: &remote, request: ExportCsvRequest::default(), part, retries: 1, silence };
        let ended = timeout(Duration::from_secs(30), download.run()).await.unwrap();
        let failed = ended.err().unwrap().to_string();
        assert!(failed.contains("Unavailable") && failed.contains("nothing has come for 50ms"), "{failed}");
    }

    #[test]
    fn no_wait_is_endless() {
        assert!(wait_after(Duration::from_secs(3), 0) >= Duration::from_secs(3));
        let most = MAX_ASKED_WAIT + RetryPolicy::default().max_wait;
        assert!(wait_after(Duration::from_secs(1 << 40), u32::MAX) <= most);
    }
}
