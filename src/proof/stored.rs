//! The logs as the store has them.

use std::ops::Range;

use crate::{
    model::{EventId, NoteId, Scope},
    store::{LogHead, LogRows, Store, StoreError},
};

use super::{Log, Logs, ProveError};

impl Log for LogRows<'_> {
    fn head(&mut self) -> Result<LogHead, StoreError> {
        self.head()
    }

    fn find(&mut self, scope: &Scope, event: EventId, note: Option<NoteId>) -> Result<Option<u64>, StoreError> {
        self.find(scope, event, note)
    }

    fn leaves(&mut self, range: Range<u64>) -> Result<Vec<Vec<u8>>, StoreError> {
        self.leaves(range)
    }
}

impl Logs for Store {
    async fn read<T: Send + 'static>(
        &self,
        tenant: &str,
        work: impl Fn(&mut dyn Log) -> Result<T, ProveError> + Send + 'static,
    ) -> Result<T, ProveError> {
        // What the store said goes back to it, because it knows when to read once more.
        let read = self.read_log(tenant, move |log| match work(log) {
            Err(ProveError::Store(error)) => Err(error),
            result => Ok(result),
        });
        read.await?
    }
}
