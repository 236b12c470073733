//! Cutting many events into batches that the service takes.

use super::{error::ClientError, event::NewEvent};

/// The most events of one batch.
pub const MAX_BATCH_EVENTS: usize = 1000;
/// The most bytes of one batch, encoded.
pub const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;

/// What is left for events when the batch has named its parent.
const EVENT_BYTES: usize = MAX_BATCH_BYTES - 1024;

/// Cuts `events`, in their order, into as few batches as the limits allow. An event that is too large for any batch
/// stands alone: the service says what is wrong with it.
pub(super) fn split(parent: &str, events: Vec<NewEvent>) -> Vec<Vec<NewEvent>> {
    let mut batches: Vec<Vec<NewEvent>> = Vec::new();
    let mut bytes = 0;
    for event in events {
        let event_bytes = event.max_batch_len(parent);
        let fits = |batch: &&mut Vec<NewEvent>| batch.len() < MAX_BATCH_EVENTS && bytes + event_bytes <= EVENT_BYTES;
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
pub(super) fn check(parent: &str, events: &[NewEvent]) -> Result<(), ClientError> {
    let bytes: usize = events.iter().map(|event| event.max_batch_len(parent)).sum();
    if events.len() > MAX_BATCH_EVENTS || bytes > EVENT_BYTES {
        return Err(ClientError::BatchTooLarge { events: events.len(), bytes });
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
        let batches = split(&parent, events.clone());
        assert_eq!(batches.concat(), events);
        for batch in &batches {
            assert!(check(&parent, batch).is_ok());
            let requests = batch.iter().map(|event| event.batch_item(&parent)).collect();
            let request = BatchRecordEventsRequest { requests, parent: parent.clone() };
            assert!(batch.len() <= MAX_BATCH_EVENTS && request.encoded_len() <= MAX_BATCH_BYTES);
        }
        assert_eq!(batches.len(), 4);
        assert!(check(&parent, &events).is_err());
    }

    #[test]
    fn leaves_what_no_batch_can_hold_alone() {
        let batches = split("tenants/a", vec![event(1), event(MAX_BATCH_BYTES), event(1)]);
        assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1]);
        assert!(split("tenants/a", Vec::new()).is_empty());
        assert_eq!(split("tenants/a", vec![event(0); 1000]).len(), 1);
        assert_eq!(split("tenants/a", vec![event(0); 1001]).len(), 2);
    }
}
