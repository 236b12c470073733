//! The questions: lists and exports.

use super::{Decoder, Path, Violations};
use crate::{
    export::{ExportRequest, Resume},
    model::{EventFilter, Order, Scope},
    proto::auditlog::v1 as proto,
};

/// The page size of those who name none (AIP-158).
const DEFAULT_PAGE_SIZE: usize = 50;
/// The largest page; a greater wish is cut down to it (AIP-158).
const MAX_PAGE_SIZE: usize = 1000;

/// A list's validated fields; the page token is looked at when they are known, because it is bound to them.
#[derive(Debug)]
pub struct ListQuery {
    /// Which events.
    pub filter: EventFilter,
    /// In which order.
    pub order: Order,
    /// The most events of the page.
    pub rows: usize,
}

impl Decoder<'_> {
    /// A question for a page of `scope`.
    pub fn list(mut self, request: &proto::ListEventsRequest, scope: &Scope) -> Result<ListQuery, Violations> {
        let filter = self.filter(scope, request.filter.as_ref());
        let order = self.order(request.order);
        let rows = self.page_size(request.page_size);
        self.finish(order.map(|order| ListQuery { filter, order, rows }))
    }

    /// A question for an export of `scope`.
    pub fn export(mut self, request: &proto::ExportCsvRequest, scope: &Scope) -> Result<ExportRequest, Violations> {
        let filter = self.filter(scope, request.filter.as_ref());
        let order = self.order(request.order);
        let resume = self.resume(request.log_size, &request.after_event_id);
        let proof_columns = request.proof_columns;
        self.finish(order.map(|order| ExportRequest { filter, order, proof_columns, resume }))
    }

    fn page_size(&mut self, page_size: i32) -> usize {
        if page_size < 0 {
            self.refuse(Path::ROOT.field("page_size"), format_args!("must not be negative; it is {page_size}"));
        }
        match usize::try_from(page_size) {
            Ok(0) | Err(_) => DEFAULT_PAGE_SIZE,
            Ok(rows) => rows.min(MAX_PAGE_SIZE),
        }
    }

    fn resume(&mut self, log_size: i64, after_event_id: &str) -> Option<Resume> {
        let (size_path, after_path) = (Path::ROOT.field("log_size"), Path::ROOT.field("after_event_id"));
        match (log_size, after_event_id) {
            (0, "") => return None,
            (..0, _) => self.refuse(size_path, format_args!("must not be negative; it is {log_size}")),
            (1.., "") => self.refuse(after_path, "is required with log_size: to resume takes both"),
            (0, _) => self.refuse(size_path, "is required with after_event_id: to resume takes both"),
            (1.., _) => (),
        }
        let after = (!after_event_id.is_empty()).then(|| self.event_id(after_path, after_event_id)).flatten()?;
        Some(Resume { log_size, after })
    }
}
