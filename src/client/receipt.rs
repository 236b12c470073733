//! What the service answers for a recorded event.

use crate::{model::Timestamp, proto::auditlog::v1 as proto};

use super::error::ClientError;

/// That an event is durable, can be found, and has its place in the tenant's log. A repeated event gets the receipt of
/// the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The event's name: `{scope}/events/{event_id}`.
    pub name: String,
    /// When it happened, to the millisecond.
    pub event_time: Timestamp,
    /// When it was stored, to the microsecond.
    pub record_time: Timestamp,
    /// Its place in the tenant's log, from 0.
    pub leaf_index: i64,
}

impl Receipt {
    /// Reads the service's reply, which always has every field.
    pub(super) fn read(receipt: Option<proto::EventReceipt>) -> Result<Self, ClientError> {
        receipt.and_then(complete).ok_or_else(|| ClientError::Reply("a receipt is not complete"))
    }
}

fn complete(receipt: proto::EventReceipt) -> Option<Receipt> {
    Some(Receipt {
        event_time: time(receipt.event_time?)?,
        record_time: time(receipt.record_time?)?,
        leaf_index: receipt.leaf_index?,
        name: receipt.name,
    })
}

fn time(time: prost_types::Timestamp) -> Option<Timestamp> {
    Timestamp::from_timestamp(time.seconds, u32::try_from(time.nanos).ok()?)
}
