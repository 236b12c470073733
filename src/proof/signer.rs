//! The one place that signs heads.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use crate::merkle::{Checkpoint, CheckpointError, CheckpointKey, Hash, checkpoint_name};

/// How many tenants' last checkpoints are kept. Ed25519 gives the same head the same signature, so that one which is
/// gone costs a signature and nothing else.
const MAX_KEPT: usize = 10_000;

/// Signs heads, each once.
#[derive(Debug)]
pub struct HeadSigner {
    key: CheckpointKey,
    origin: String,
    /// The last one of each tenant.
    kept: Mutex<HashMap<String, Kept>>,
}

#[derive(Clone, Debug)]
struct Kept {
    size: u64,
    root: Hash,
    checkpoint: String,
}

impl HeadSigner {
    /// Signs with `key`; the names of the logs begin with `origin`.
    pub fn new(key: CheckpointKey, origin: String) -> Self {
        Self { key, origin, kept: Mutex::default() }
    }

    /// The checkpoint of a head, which must have been read back after its commit.
    pub fn sign(&self, tenant: &str, size: u64, root: Hash) -> Result<String, CheckpointError> {
        if let Some(kept) = self.kept(tenant).filter(|kept| (kept.size, kept.root) == (size, root)) {
            return Ok(kept.checkpoint);
        }
        let origin = checkpoint_name(&self.origin, tenant);
        let checkpoint = Checkpoint { origin, size, root }.sign(&self.key)?;
        self.keep(tenant, Kept { size, root, checkpoint: checkpoint.clone() });
        Ok(checkpoint)
    }

    fn kept(&self, tenant: &str) -> Option<Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(tenant).cloned()
    }

    fn keep(&self, tenant: &str, checkpoint: Kept) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_KEPT && !kept.contains_key(tenant) {
            kept.clear();
        }
        kept.insert(tenant.to_owned(), checkpoint);
    }
}
