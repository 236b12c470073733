//! auditlog
mod auth;
mod export;
mod ingest;
mod model;
pub mod proto;
mod query;
mod store;
