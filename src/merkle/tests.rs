//! Held against RFC 6962 as its recursive definitions say it, and against vectors that others have published.

mod checkpoints;
mod independent;
mod naive;
mod proofs;
mod stored;
mod trees;
