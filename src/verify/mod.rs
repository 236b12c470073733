//! Verifying: a tenant's log is made anew from what is stored, listed or exported, and held against what was sealed.
//!
//! The chain has these links: the fields make the *body*, the body and its salt the *commitment*, that and the names the
//! *leaf*, its hash the *tree*, and the tree the *root* that a checkpoint signs. Each link is held by itself, so that a finding
//! names the one that is broken, and not all those behind it.
//!
//! All of it is pure but for `database`, which walks through the rows by means of the store, and `standing`, which looks at what
//! stands beside them.

mod csv_rows;
pub mod database;
mod exported;
mod findings;
mod leaves;
mod listed;
mod manifest;
mod standing;
mod tree;

pub use csv_rows::{CsvRow, CsvRows, Unreadable};
pub use database::{Expected, VerifyError};
pub use exported::{ExportReport, check_export, row_name};
pub use findings::{BrokenOff, Findings};
pub use listed::ListedCheck;
pub use manifest::{Manifest, ManifestFilter};
pub use tree::Recomputed;

use std::cmp::Ordering;

use crate::merkle::{Checkpoint, Hash, epoch_of};

/// The most positions in a row that may be missing before the tree is given up: a head can claim any size.
const MAX_GAP: u64 = 1 << 16;

/// What a verified log turned out to be.
#[derive(Debug)]
pub struct LogReport {
    /// How many leaves it has.
    pub size: u64,
    /// The root that they make.
    pub root: Hash,
    /// How many of them are events.
    pub events: u64,
    /// How many are notes.
    pub notes: u64,
    /// Whether it is known whose key signs its checkpoints.
    pub has_key: bool,
    /// What does not hold.
    pub findings: Findings,
}

/// Holds the log against an earlier checkpoint, if there is one; `epoch` is the one that the log is in, and
/// `root_at_its_size` what the recomputed log has at the checkpoint's size, if it was made as far as that.
fn compare_with_saved(
    log: &str,
    size: u64,
    epoch: u32,
    root_at_its_size: Option<Hash>,
    saved: Option<&Checkpoint>,
    findings: &mut Findings,
) {
    let Some(saved) = saved else { return };
    let hint = epoch_hint(epoch, epoch_of(&saved.origin));
    match root_at_its_size {
        // The verification has not come that far, and the epoch is known from the start.
        None if size >= saved.size => {
            if epoch < epoch_of(&saved.origin) {
                findings.add(log, hint.trim_start_matches("; "));
            }
        }
        None => findings.add(
            log,
            format!("has {size} leaves, fewer than the {} of the saved checkpoint: it was rolled back{hint}", saved.size),
        ),
        Some(root) if root != saved.root => findings.add(
            log,
            format!(
                "its first {} leaves do not make the root of the saved checkpoint: something in them was changed since, or \
                 this is another log{hint}",
                saved.size
            ),
        ),
        Some(_) if epoch < epoch_of(&saved.origin) => findings.add(log, hint.trim_start_matches("; ")),
        Some(_) => (),
    }
}

/// What epochs have to do with it.
fn epoch_hint(epoch: u32, saved: u32) -> String {
    match epoch.cmp(&saved) {
        Ordering::Equal => String::new(),
        Ordering::Less => format!("; it is in epoch {epoch}, and the saved checkpoint in the later epoch {saved}"),
        Ordering::Greater => format!(
            "; an operator has acknowledged that: the log is in epoch {epoch}, and the saved checkpoint in epoch {saved}. If \
             that explains it, verify without --checkpoint, and keep a new one"
        ),
    }
}
