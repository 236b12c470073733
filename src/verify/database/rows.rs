//! Rows of a log, a page at a time.

use std::collections::VecDeque;

use crate::store::{AfterRow, AuditPage, AuditRow, StoreError};

/// A walk.
pub(super) struct Rows<T> {
    pub(super) page: VecDeque<AuditRow<T>>,
    next: Option<AfterRow>,
    begun: bool,
}

impl<T> Default for Rows<T> {
    fn default() -> Self {
        Self { page: VecDeque::new(), next: None, begun: false }
    }
}

impl<T> Rows<T> {
    /// Fetches the next page if this one is used up. Whether it did.
    pub(super) fn fill(
        &mut self,
        mut fetch: impl FnMut(Option<&AfterRow>) -> Result<AuditPage<T>, StoreError>,
    ) -> Result<bool, StoreError> {
        let mut fetched = false;
        while self.page.is_empty() && (!self.begun || self.next.is_some()) {
            let (page, next) = fetch(self.next.as_ref())?;
            (self.page, self.next, self.begun, fetched) = (page.into(), next, true, true);
        }
        Ok(fetched)
    }

    pub(super) fn place(&self) -> Option<i64> {
        self.page.front().map(|row| row.leaf_index)
    }
}
