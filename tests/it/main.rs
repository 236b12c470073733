//! The service at its gRPC boundary: one binary, one suite. Each test has its own service on its own store.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall panic")]

mod cloudtrail;
mod export;
mod export_course;
mod harness;
mod list;
mod memory;
mod model;
mod notes;
mod pages;
mod postgres;
mod record;
mod walk;
