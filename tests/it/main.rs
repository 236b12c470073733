//! The service at its gRPC boundary: one binary, one suite. Each test has its own service on its own store.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall panic")]

mod auth;
mod auth_table;
mod calls;
mod child;
mod cli;
mod errors;
mod grpcurl;
mod harness;
mod hostile;
mod lifecycle;
mod outage;
mod postgres;
mod process;
mod readme;
mod record;
