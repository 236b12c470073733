//! The service at its gRPC boundary: one binary, one suite. Each test has its own service on its own store.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall panic")]

mod admin;
mod auth;
mod auth_table;
mod calls;
mod catalog;
mod child;
mod cli;
mod cloudtrail;
mod errors;
mod export;
mod export_cli;
mod export_course;
mod gateway;
mod grpcurl;
mod harness;
mod hostile;
mod http1;
mod jwt;
mod lifecycle;
mod list;
mod load;
mod manifest;
mod memory;
mod model;
mod notes;
mod otlp;
mod outage;
mod pages;
mod partitions;
mod plans;
#[allow(dead_code, reason = "the benchmarks share it and use other parts of it")]
mod postgres;
mod process;
mod proof_keys;
mod proofs;
mod readme;
mod record;
mod replicas;
mod role;
mod rollback;
mod sealed;
mod slow;
mod sql;
mod start;
mod tamper;
mod tls;
mod tokens;
mod trace;
mod traffic;
mod verify;
mod verify_client;
mod verify_csv;
mod walk;
mod web;
