//! The service at its gRPC boundary: one binary, one suite. Each test has its own service on its own store.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall panic")]

mod admin;
mod gateway;
mod harness;
mod http1;
mod otlp;
mod postgres;
mod process;
mod record;
mod trace;
mod web;
