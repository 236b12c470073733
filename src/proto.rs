//! The generated messages, services and descriptors. Only `rpc`, `client`, `cli`, `app` and the leaf encoding use them.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]

/// The package `auditlog.v1`.
pub mod auditlog {
    /// Version 1 of the contract.
    pub mod v1 {
        tonic::include_proto!("auditlog.v1");
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
