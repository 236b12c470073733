//! An export on the wire.

use std::{panic::AssertUnwindSafe, pin::Pin, time::Duration};

use futures_util::{FutureExt as _, Stream, stream};
use tonic::{
    Response, Status,
    metadata::{AsciiMetadataValue, MetadataMap},
};

use super::{
    listener::CallOnConnection,
    request_id::RequestId,
    stall::WatchedStream,
    status::{self, Failure},
    traffic::ExportShare,
    until_sent::keep_until_sent,
};
use crate::{
    export::{CsvExport, Interruption},
    metrics::Metrics,
    proto::google::api::HttpBody,
};

const CONTENT_TYPE: &str = "text/csv; charset=utf-8";

/// The pieces of one CSV file.
pub type CsvStream = Pin<Box<dyn Stream<Item = Result<HttpBody, Status>> + Send>>;

/// What an export holds until its last byte is sent.
pub struct Hold {
    /// Its place among the exports, and its room in memory.
    pub share: ExportShare,
    /// Its place on its connection.
    pub on_connection: Option<CallOnConnection>,
    /// How long its reader may take nothing.
    pub stall: Duration,
    /// Where to say so if it does, and to learn that the service ends.
    pub interruption: Interruption,
}

/// The reply to an export: what is known of it beforehand as initial metadata, and its pieces.
pub fn response(
    export: CsvExport,
    hold: Hold,
    request_id: RequestId,
    metrics: Metrics,
) -> Result<Response<CsvStream>, Failure> {
    let (log_size, disposition) = (export.log_size(), disposition(&export.file_name())?);
    let watched = WatchedStream::new(pieces(export, request_id.clone(), metrics), hold, request_id);
    let course = watched.course();
    let mut response: Response<CsvStream> = Response::new(Box::pin(watched));
    keep_until_sent(response.extensions_mut(), course);
    let metadata: &mut MetadataMap = response.metadata_mut();
    metadata.insert(status::LOG_SIZE, AsciiMetadataValue::from(log_size));
    metadata.insert("content-disposition", disposition);
    Ok(response)
}

/// What a transcoder passes on to a browser. Anything in the name that could end the quotes or the header becomes `_`.
fn disposition(file_name: &str) -> Result<AsciiMetadataValue, Failure> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._~-".contains(c);
    let file_name: String = file_name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    format!("attachment; filename=\"{file_name}\"").parse().map_err(Failure::internal)
}

/// Each piece is made when the transport asks for it, which is when there was room for the one before. So a slow reader stops
/// the work and holds a piece or two, and one that goes away drops the export.
fn pieces(export: CsvExport, request_id: RequestId, metrics: Metrics) -> CsvStream {
    Box::pin(stream::unfold(Some(export), move |export| next_piece(export, request_id.clone(), metrics.clone())))
}

async fn next_piece(
    export: Option<CsvExport>,
    request_id: RequestId,
    metrics: Metrics,
) -> Option<(Result<HttpBody, Status>, Option<CsvExport>)> {
    let mut export = export?;
    // The layer that catches panics has done its work when the reply's head is out: here it is up to us.
    let rows_before = export.rows();
    let piece = AssertUnwindSafe(export.next_chunk()).catch_unwind().await;
    metrics.reads().exported(export.rows() - rows_before);
    match piece {
        Ok(Ok(Some(data))) => Some((Ok(http_body(data)), Some(export))),
        // The one way to send trailing metadata with a stream: tonic's server writes the status of an `Err` into the
        // trailers as it is, metadata included, and ends the stream (tonic 0.14, codec/encode.rs, `poll_frame` of
        // `EncodeBody`, role server). With the code OK the client sees a stream that has ended well.
        Ok(Ok(None)) => Some((Err(status::of_complete_export(&export.summary())), None)),
        Ok(Err(error)) => Some((Err(Failure::from(error).into_status(&request_id)), None)),
        Err(panic) => {
            export.fail().await;
            Some((Err(status::of_panic(&*panic, &request_id)), None))
        }
    }
}

fn http_body(data: Vec<u8>) -> HttpBody {
    HttpBody { content_type: CONTENT_TYPE.to_owned(), data: data.into(), extensions: Vec::new() }
}
