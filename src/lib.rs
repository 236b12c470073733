//! # auditlog: who did what to which resource, along a timeline
//!
//! A gRPC service. Other services record events, a console's gateway reads them, operators use `grpcurl`. This page is the
//! map of the house; the README is for those who use the service, `proto/auditlog/v1` is the contract.
//!
//! ## How a call flows
//!
//! ```text
//! main -> cli -> app -> rpc -> self_audit -> { ingest, query, export -> proof } -> auth, store -> metrics -> { merkle, model }
//! ```
//!
//! `auditlog verify` takes another way, `cli -> verify -> store`, because it must not rely on what the service relies on.
//!
//! Imports run along these arrows, and a few short cuts that `tests/layering.rs` lists, which enforces it. Each arrow is a change of type, so that a name
//! tells how far the data has got: a protobuf request becomes a *draft* (validated), an *entry* (with where and by
//! whom), a *placed* entry (with its leaf), a row; the way back gives a *receipt*.
//!
//! | room | what it is |
//! |---|---|
//! | [`cli`], `config`, `telemetry` | the command line, the settings, logs and traces |
//! | `metrics`, `admin` | what is counted, and the address where probes and Prometheus find it |
//! | [`app`] | the composition root: open, bind, serve, drain, close |
//! | `checkpoint_key` | the file of the key that signs checkpoints |
//! | `rpc` | the only room with services in it: the stack of layers, decode, encode, page tokens, statuses |
//! | `ingest` | the append path: bounded queue, batches, one answer for each caller |
//! | `query`, `export`, `proof` | the reading use cases |
//! | `self_audit` | the audit of the audit: denied calls and reads, in the log of the tenant concerned |
//! | `verify` | makes a log or an exported file anew and names what does not hold; pure but for its walk through the database |
//! | `auth` | who calls, by metadata or token, what a role is worth, and the `Permit` that every use case demands |
//! | `store` | the only room with SQL in it: one write transaction, walks, rows, migrations; on SQLite and on PostgreSQL |
//! | `model` | the pure core: names, ids, events, filters, limits, leaves |
//! | [`merkle`] | pure too: the tree of a tenant's log, its tiles, proofs and signed checkpoints |
//! | [`client`] | the emitter for other Rust services |
//! | [`proto`] | what is generated from the contract, and what that says in words only |
//! | `fuzzing` | what the fuzzer feeds; not in the binary. Each room that parses outside bytes says in its `laws` what must hold |
//!
//! ## Recording, step by step
//!
//! 1. `rpc::stack` gives the call an id and a span; `auth::authenticate` finds out who calls; `rpc::traffic` holds the call against
//!    the limits, and `rpc::door` turns strangers away before their message is read.
//! 2. The service parses the scopes, `auth::authorize` makes a `Permit<Record>` or says which claim is missing, `rpc::decode`
//!    collects every violation or makes a draft.
//! 3. `ingest::handle` takes room in the queue, or answers `QUEUE_FULL`, and makes a `model::Entry`, which commits to the
//!    body with a fresh salt; the worker takes what is waiting as one batch. All wait for the worker, so what can be done
//!    before or after it is done on the callers' threads.
//! 4. `store::append` opens one transaction: on what it remembers of the logs it lets its `plan` give each entry its leaf,
//!    has the trees grow by them, moves the heads, inserts the rows and the tiles that are finished, commits. Where a head
//!    has moved or an id is taken, it does so once more with the heads locked and the ids looked up; then an entry may get
//!    its first receipt, or a rejection.
//! 5. Only then the callers are answered. If the commit's outcome is unknown, `ingest::commit` appends once more on a new
//!    connection: the ids tell what happened. If somebody else holds a log, `ingest::held` keeps it from holding up the others.
//!
//! ## Listing, step by step
//!
//! 1. The same first two steps; the page token is checked against the question it came from.
//! 2. `query` asks the store for one page: `store::driver` picks the index that drives the walk, `store::walk` finds where its
//!    inspection ends if there are conditions that the index does not settle, and fetches. Where its first look
//!    finds too little, `store::lanes` goes on with a walk for each of several values, merged, if those get further.
//! 3. A page ends at its size, at the message limit, at the inspection limit or at the end; only the last has no token. In a project's
//!    list no token is another project's place (`store::events`).
//! 4. On the thread that read them, rows become bytes: `model::view` borrows their texts, `rpc::encode` writes the messages, and
//!    the reply holds those as they are (`proto::encoded`). An export writes its rows of CSV from the same views.
//!
//! ## Proving, step by step
//!
//! 1. The same first two steps; the right is that of reading the tenant, whose log it is.
//! 2. `proof` reads the committed head over one connection, the place of the event or the note, and a few tiles and rows
//!    through `store::leaves`; what it is about to give away it first holds against the root.
//! 3. The head's checkpoint comes with it: `proof::signer` is the one place that signs.
//!
//! ## Rules with one home
//!
//! | rule | home |
//! |---|---|
//! | who may do what | `auth::authorize`, with the roles of `auth::policy` |
//! | what an id and a name look like | `model::time_id`, `model::name` |
//! | limits and what text is text | `model::limits` |
//! | how text of others is printed | `model::printable` |
//! | which events take notes | `model::rules` |
//! | same content or not; who gets which leaf | `store::append::plan` |
//! | the shape of the tree and of its tiles | `merkle::tree` |
//! | what logs and manifests are called, and whose they are | `merkle::name` |
//! | no log goes back behind what was seen of it | `store::heads` |
//! | whose turn it is | `ingest::lines` for writes, `query::turns` for reads |
//! | how much may be under way | `rpc::traffic`; what a batch may be filled with before it is decoded: `proto::encoded` |
//! | whether the service gets on | `app::health`, by the store's answer and `ingest::pulse` |
//! | what a leaf commits to | `model::leaf`, golden bytes in `tests/golden` |
//! | which status an error becomes | `rpc::status` |
//! | append-only | the triggers of `migrations/` |

mod admin;
mod auth;
mod checkpoint_key;
mod export;
mod ingest;
mod metrics;
mod model;
mod proof;
mod query;
mod rpc;
mod self_audit;
mod store;
mod telemetry;
mod verify;

pub mod app;
pub mod cli;
pub mod client;
pub mod config;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod merkle;
pub mod proto;

pub use model::{Clock, SystemClock, Timestamp};
