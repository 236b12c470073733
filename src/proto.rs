//! The contract: generated messages, services and descriptors, and what it tells in words only. Only `rpc`, `client`, `cli` and
//! what encodes in `model` use it.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]

mod batch;

/// The package `auditlog.v1`.
pub mod auditlog {
    /// Version 1 of the contract.
    pub mod v1 {
        tonic::include_proto!("auditlog.v1");
        include!(concat!(env!("OUT_DIR"), "/server/auditlog.v1.rs"));
    }
}

/// The domain of the error reasons.
pub const ERROR_DOMAIN: &str = "auditlog";

impl auditlog::v1::ErrorReason {
    /// The reason as errors tell it: the value's name without the enum's.
    pub fn reason(self) -> &'static str {
        let name = self.as_str_name();
        name.strip_prefix(REASON_PREFIX).unwrap_or(name)
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        (1..).map_while(|number| Self::try_from(number).ok())
    }

    /// What [`Self::reason`] gave.
    pub fn of_reason(reason: &str) -> Option<Self> {
        Self::from_str_name(&format!("{REASON_PREFIX}{reason}"))
    }
}

const REASON_PREFIX: &str = "ERROR_REASON_";

/// What an export tells beside its bytes, by the keys of its metadata.
pub mod export_metadata {
    /// The initial metadata key with the size of the log that an export covers.
    pub const LOG_SIZE: &str = "x-audit-log-size";
    /// The trailing metadata key with the count of the rows that were sent.
    pub const ROW_COUNT: &str = "x-audit-row-count";
    /// The trailing metadata key with the SHA-256, in hex, of all bytes that were sent.
    pub const SHA256: &str = "x-audit-sha256";
    /// The trailing metadata key with the signed note about the file.
    pub const MANIFEST: &str = "x-audit-manifest-bin";
}

/// Replies that hold their events encoded, as they come from the thread that reads them: on the wire a field of messages
/// and a field of their bytes are the same. And a request that is counted before it is decoded. The server speaks these, a client the
/// generated ones.
pub mod encoded {
    use prost::bytes::Bytes;

    pub use super::batch::{BatchRecordEventsRequest, MOST, Parts};

    /// `auditlog.v1.GetEventResponse`.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct GetEventResponse {
        /// An `Event`.
        #[prost(bytes = "bytes", tag = "1")]
        pub event: Bytes,
    }

    /// `auditlog.v1.ListEventsResponse`.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ListEventsResponse {
        /// An `Event` each.
        #[prost(bytes = "bytes", repeated, tag = "1")]
        pub events: Vec<Bytes>,
        /// Empty on the last page.
        #[prost(string, tag = "2")]
        pub next_page_token: String,
    }
}

/// The parts of `google.api` that the contract needs.
pub mod google {
    /// `HttpBody` and the HTTP annotations.
    pub mod api {
        tonic::include_proto!("google.api");
    }
}

/// The encoded `FileDescriptorSet`, with imports, comments and the HTTP annotations.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/auditlog.descriptor.bin"));
