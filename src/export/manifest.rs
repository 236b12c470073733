//! What the service says of an export, signed. `docs/leaf-format.md` is its specification.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::{
    auth::{Export, Permit},
    model::{EventFilter, Order},
    proof::Prover,
    store::Store,
};

use super::{ExportError, ExportRequest, Tally, json};

/// The second line of each manifest.
const VERSION: &str = "auditlog export manifest v1";
/// The most bytes of a filter that are told in full. All trailers must stay below the 8 KiB that peers take by default,
/// and base64 makes of three bytes four.
const MAX_FILTER_BYTES: usize = 2048;

/// The third line.
#[derive(Serialize)]
struct Statement<'a> {
    parent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<&'a EventFilter>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter_sha256: Option<String>,
    order: Order,
    log_size: i64,
    proof_columns: bool,
    row_count: u64,
    sha256: String,
    checkpoint: &'a str,
}

/// The manifest of an export that is under way: what is known before its end.
pub(super) struct Manifest {
    prover: Prover<Store>,
    permit: Permit<Export>,
    request: ExportRequest,
    log_size: i64,
    checkpoint: String,
}

impl Manifest {
    /// Begins the manifest of the first `log_size` leaves' export; `None` if nothing can be signed.
    pub(super) async fn begin(
        prover: &Prover<Store>,
        permit: Permit<Export>,
        request: ExportRequest,
        log_size: i64,
    ) -> Result<Option<Self>, ExportError> {
        if prover.signer().is_err() {
            return Ok(None);
        }
        let checkpoint = prover.checkpoint_of_export(&permit, u64::try_from(log_size).unwrap_or(0)).await?;
        Ok(Some(Self { prover: prover.clone(), permit, request, log_size, checkpoint }))
    }

    /// The signed note about the whole file.
    pub(super) fn sign(&self, file: &Tally) -> Result<String, ExportError> {
        let tenant = self.permit.scope().tenant();
        let statement = serde_json::to_string(&self.statement(file));
        let statement = statement.map_err(|error| ExportError::Internal(error.to_string()))?;
        Ok(self.prover.sign_manifest(tenant, &format!("{VERSION}\n{statement}\n"))?)
    }

    fn statement(&self, file: &Tally) -> Statement<'_> {
        let filter = json(&self.request.filter);
        let is_short = filter.len() <= MAX_FILTER_BYTES;
        Statement {
            parent: self.permit.scope().to_string(),
            filter: is_short.then_some(&self.request.filter),
            filter_sha256: (!is_short).then(|| hex::encode(Sha256::digest(filter))),
            order: self.request.order,
            log_size: self.log_size,
            proof_columns: self.request.proof_columns,
            row_count: file.rows,
            sha256: hex::encode(file.hash.clone().finalize()),
            checkpoint: &self.checkpoint,
        }
    }
}
