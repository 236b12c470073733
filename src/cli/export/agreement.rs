//! Whether the manifest that the service has signed is of the export that was asked for: a service that exports something
//! else tells all the sums of that.

use std::fmt::Display;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{
    cli::CliError,
    merkle::Hash,
    model::{ActionType, ActorType, EventFilter, Order, filter::bound_millis},
    proto::auditlog::v1::{self as proto, ExportCsvRequest},
    verify::{Manifest, ManifestFilter},
};

/// What was asked for, and what has come.
pub(super) struct Asked<'d> {
    pub(super) request: &'d ExportCsvRequest,
    pub(super) log_size: i64,
    pub(super) sha256: Hash,
    pub(super) rows: u64,
}

impl Asked<'_> {
    /// The manifest is of this export, and of the whole file, of which the last reply may have been but a part.
    pub(super) fn require(&self, manifest: &Manifest) -> Result<(), CliError> {
        let Self { request, log_size, .. } = self;
        require_same("parent", &request.parent, &manifest.parent.to_string())?;
        require_filter(request.filter.as_ref(), &manifest.filter)?;
        require_same("order", Order::from_number(request.order).unwrap_or_default().as_str(), manifest.order.as_str())?;
        require_same("proof_columns", request.proof_columns, manifest.proof_columns)?;
        require_same("log_size", u64::try_from(*log_size).unwrap_or_default(), manifest.log_size)?;
        match (manifest.sha256, manifest.row_count) == (self.sha256, self.rows) {
            true => Ok(()),
            false => Err(CliError::Export(
                "the manifest is of another file: was a body erased meanwhile? Export anew".to_owned(),
            )),
        }
    }
}

fn require_same<T: Display + PartialEq>(member: &str, asked: T, told: T) -> Result<(), CliError> {
    match asked == told {
        true => Ok(()),
        false => Err(another(member, asked, told)),
    }
}

fn another(member: &str, asked: impl Display, told: impl Display) -> CliError {
    CliError::Export(format!("the manifest is of another export: its {member} is {told}, and {asked} was asked for"))
}

/// The filter is held against the JSON that the service makes of the question.
fn require_filter(asked: Option<&proto::EventFilter>, told: &ManifestFilter) -> Result<(), CliError> {
    let failed = |error: serde_json::Error| CliError::Export(error.to_string());
    let asked = serde_json::to_string(&asked.map(meant).unwrap_or_default()).map_err(failed)?;
    let is_same = match told {
        ManifestFilter::Told(told) => serde_json::from_str::<Value>(&asked).map_err(failed)?.as_object() == Some(told),
        ManifestFilter::Hashed(hash) => hash[..] == Sha256::digest(&asked)[..],
    };
    match is_same {
        true => Ok(()),
        false => Err(another("filter", asked, told)),
    }
}

/// The filter as the service understands it.
fn meant(filter: &proto::EventFilter) -> EventFilter {
    EventFilter {
        action_types: filter.action_types.iter().copied().filter_map(ActionType::from_number).collect(),
        resource_types: filter.resource_types.clone(),
        start_millis: filter.start_time.as_ref().map(millis),
        end_millis: filter.end_time.as_ref().map(millis),
        resource_ids: filter.resource_ids.clone(),
        actor_ids: filter.actor_ids.clone(),
        actor_types: filter.actor_types.iter().copied().filter_map(ActorType::from_number).collect(),
        project_ids: filter.project_ids.clone(),
        tenant_only: filter.tenant_only,
        start_leaf_index: Some(filter.start_leaf_index).filter(|index| *index > 0),
    }
}

fn millis(time: &prost_types::Timestamp) -> i64 {
    bound_millis(time.seconds, u32::try_from(time.nanos).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use crate::{merkle::Checkpoint, model::Scope};

    use super::*;

    #[test]
    fn a_manifest_of_another_size_or_file_is_refused() {
        let checkpoint = Checkpoint { origin: "auditlog.local/tenants/acme".to_owned(), size: 7, root: [0; 32] };
        let manifest = Manifest {
            parent: Scope::parse("tenants/acme").unwrap(),
            filter: ManifestFilter::Told(serde_json::Map::new()),
            order: Order::NewestFirst,
            log_size: 7,
            proof_columns: false,
            row_count: 6,
            sha256: [1; 32],
            checkpoint,
        };
        let request = ExportCsvRequest { parent: "tenants/acme".to_owned(), ..ExportCsvRequest::default() };
        let require = |log_size, rows, byte| {
            let asked = Asked { request: &request, log_size, rows, sha256: [byte; 32] };
            asked.require(&manifest).map_err(|error| error.to_string())
        };
        assert_eq!(require(7, 6, 1), Ok(()));
        assert!(require(8, 6, 1).unwrap_err().ends_with("its log_size is 7, and 8 was asked for"));
        assert!(require(7, 5, 1).unwrap_err().contains("of another file"));
        assert!(require(7, 6, 2).unwrap_err().contains("of another file"));
    }
}
