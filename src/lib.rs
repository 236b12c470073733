//! auditlog
mod auth;
mod model;
pub mod proto;
