//! The generated messages, services and descriptors. Only `rpc`, `client`, `cli`, `app` and what encodes in `model` use them.
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
