//! The one place that signs heads.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use crate::{
    merkle::{Checkpoint, CheckpointError, CheckpointKey, Hash, epoch_name, manifest_name},
    store::LogHead,
};

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
    head: LogHead,
    checkpoint: String,
}

impl HeadSigner {
    /// Signs with `key`; the names of the logs begin with `origin`.
    pub fn new(key: CheckpointKey, origin: String) -> Self {
        Self { key, origin, kept: Mutex::default() }
    }

    /// The checkpoint of a head, which must have been read back after its commit.
    pub fn sign(&self, tenant: &str, head: &LogHead) -> Result<String, CheckpointError> {
        if let Some(kept) = self.kept(tenant).filter(|kept| kept.head == *head) {
            return Ok(kept.checkpoint);
        }
        let checkpoint = self.sign_past(tenant, head.epoch, head.frontier.size(), head.frontier.root())?;
        self.keep(tenant, Kept { head: head.clone(), checkpoint: checkpoint.clone() });
        Ok(checkpoint)
    }

    /// The checkpoint of a size that lies below a committed head, whose root is `root`. It is not kept: the head is what is
    /// asked for again.
    pub fn sign_past(&self, tenant: &str, epoch: u32, size: u64, root: Hash) -> Result<String, CheckpointError> {
        Checkpoint { origin: epoch_name(&self.origin, tenant, epoch), size, root }.sign(&self.key)
    }

    /// What the service says of an export, as a note under a name of its own, so that it can never be taken for a
    /// checkpoint. The note's text is that name and then `lines`, which must end in a newline.
    pub fn sign_manifest(&self, tenant: &str, lines: &str) -> Result<String, CheckpointError> {
        let name = manifest_name(&self.origin, tenant);
        self.key.sign_note(&name, &format!("{name}\n{lines}"))
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
