//! Cutting many events into batches that the service takes.

use super::{error::ClientError, event::NewEvent};

/// The most events of one batch.
pub const MAX_BATCH_EVENTS: usize = 1000;
/// The most bytes of one batch, encoded.
pub const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;

/// How much the emitter puts into a batch: no more than the service's settings `limits.batch_events` and `limits.batch_bytes`
/// allow, for it refuses the whole batch otherwise. The default is that of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// The most events; none is taken for one.
    pub events: usize,
    /// The most bytes, encoded.
    pub bytes: usize,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self { events: MAX_BATCH_EVENTS, bytes: MAX_BATCH_BYTES }
    }
}

impl BatchLimits {
    /// What is left for events when the batch has named its parent.
    fn event_bytes(self, parent: &str) -> usize {
        const TAG_AND_LENGTH: usize = 11;
        self.bytes.saturating_sub(parent.len() + TAG_AND_LENGTH)
    }
}

/// Cuts `events`, in their order, into as few batches as the limits allow. An event that is too large for any batch
/// stands alone.
pub(super) fn split(parent: &str, events: Vec<NewEvent>, limits: BatchLimits) -> Vec<Vec<NewEvent>> {
    let most = limits.event_bytes(parent);
    let mut batches: Vec<Vec<NewEvent>> = Vec::new();
    let mut bytes = 0;
    for event in events {
        let event_bytes = event.max_batch_len(parent);
        let fits = |batch: &&mut Vec<NewEvent>| batch.len() < limits.events && bytes + event_bytes <= most;
        match batches.last_mut().filter(fits) {
            Some(batch) => batch.push(event),
            None => {
                batches.push(vec![event]);
                bytes = 0;
            }
        }
        bytes += event_bytes;
    }
    batches
}

/// # Errors
/// If the service would refuse `events` as one batch for their number or their size.
pub(super) fn check(parent: &str, events: &[NewEvent], limits: BatchLimits) -> Result<(), ClientError> {
    let bytes: usize = events.iter().map(|event| event.max_batch_len(parent)).sum();
    if events.len() > limits.events || bytes > limits.event_bytes(parent) {
        return Err(ClientError::BatchTooLarge { events: events.len(), bytes, limits });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use crate::proto::auditlog::v1::BatchRecordEventsRequest;

    use super::*;

    fn event(bytes: usize) -> NewEvent {
        NewEvent::create("t", "i").message("m".repeat(bytes))
    }

    #[test]
    fn keeps_the_order_and_both_limits() {
        let parent = format!("tenants/{}/projects/{}", "t".repeat(128), "p".repeat(128));
        let events: Vec<NewEvent> = (0..2500).map(|n| event(n % 7 * 2000)).collect();
        for (limits, count) in [(BatchLimits::default(), 4), (BatchLimits { events: 100, bytes: 100_000 }, 159)] {
            let batches = split(&parent, events.clone(), limits);
            assert_eq!(batches.concat(), events);
            for batch in &batches {
                assert!(check(&parent, batch, limits).is_ok());
                let requests = batch.iter().map(|event| event.batch_item(&parent)).collect();
                let request = BatchRecordEventsRequest { requests, parent: parent.clone() };
                assert!(batch.len() <= limits.events && request.encoded_len() <= limits.bytes);
            }
            assert_eq!(batches.len(), count);
            assert!(check(&parent, &events, limits).is_err());
        }
    }

    #[test]
    fn leaves_what_no_batch_can_hold_alone() {
        let split = |events| split("tenants/a", events, BatchLimits::default());
        let batches = split(vec![event(1), event(MAX_BATCH_BYTES), event(1)]);
        assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1]);
        assert!(split(Vec::new()).is_empty());
        assert_eq!(split(vec![event(0); 1000]).len(), 1);
        assert_eq!(split(vec![event(0); 1001]).len(), 2);
    }
}
