//! Exports, taken whole and read back.

use std::collections::BTreeMap;

use auditlog::proto::{auditlog::v1::ExportCsvRequest, google::api::HttpBody};
use tonic::{Response, Status, Streaming, metadata::MetadataMap};

use super::{Caller, TestApp};

/// All that an export sent.
#[derive(Debug)]
pub struct Exported {
    pub initial: MetadataMap,
    pub pieces: Vec<HttpBody>,
    pub trailing: MetadataMap,
}

/// The cells of one row by the names of their columns.
pub type Row = BTreeMap<String, String>;

pub fn export_of(parent: &str) -> ExportCsvRequest {
    ExportCsvRequest { parent: parent.to_owned(), ..Default::default() }
}

impl TestApp {
    /// Begins an export.
    pub async fn start_export(
        &self,
        caller: &Caller,
        request: ExportCsvRequest,
    ) -> Result<Response<Streaming<HttpBody>>, Status> {
        self.client.clone().export_csv(caller.call(request)).await
    }

    /// A whole export.
    pub async fn export(&self, caller: &Caller, request: ExportCsvRequest) -> Result<Exported, Status> {
        let reply = self.start_export(caller, request).await?;
        let initial = reply.metadata().clone();
        let mut stream = reply.into_inner();
        let mut pieces = Vec::new();
        while let Some(piece) = stream.message().await? {
            pieces.push(piece);
        }
        let trailing = stream.trailers().await?.unwrap_or_default();
        Ok(Exported { initial, pieces, trailing })
    }
}

impl Exported {
    pub fn bytes(&self) -> Vec<u8> {
        self.pieces.iter().flat_map(|piece| piece.data.iter().copied()).collect()
    }

    /// A value of the initial metadata.
    pub fn initial(&self, key: &str) -> &str {
        self.initial.get(key).unwrap_or_else(|| panic!("no {key}")).to_str().unwrap()
    }

    /// A value of the trailing metadata.
    pub fn trailing(&self, key: &str) -> &str {
        self.trailing.get(key).unwrap_or_else(|| panic!("no {key}")).to_str().unwrap()
    }

    pub fn log_size(&self) -> i64 {
        self.initial("x-audit-log-size").parse().unwrap()
    }

    pub fn rows(&self) -> Vec<Row> {
        rows(&self.bytes())
    }

    pub fn ids(&self) -> Vec<String> {
        self.rows().into_iter().map(|mut row| row.remove("event_id").unwrap()).collect()
    }
}

/// Reads a CSV file with a header row.
pub fn rows(csv: &[u8]) -> Vec<Row> {
    csv::Reader::from_reader(csv).deserialize().collect::<Result<_, _>>().unwrap()
}
