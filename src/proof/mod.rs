//! Proving: signed heads, proofs and leaves of a tenant's log.
//!
//! Whatever is asked is answered from one head. All that is read of the tree lies below it and never changes, so no
//! transaction holds the answers together.

mod signer;
mod stored;

use std::{ops::Range, sync::Arc};

use crate::{
    auth::{Export, Permit, Prove},
    merkle::{
        CheckpointError, Hash, ProofError, TreeReader, prove_consistency, prove_inclusion, root_at, verify_inclusion,
    },
    model::{EventId, NoteId, Scope, leaf::leaf_hash, limits::PAGE_BYTES},
    store::{LogHead, StoreError},
};

pub use signer::HeadSigner;

/// One tenant's log, as the store reads it over one connection.
pub trait Log: TreeReader<Error = StoreError> {
    /// The committed head; that of no leaves where nothing was recorded.
    fn head(&mut self) -> Result<LogHead, StoreError>;

    /// The leaf index of an event within `scope`, or of the note on it.
    fn find(&mut self, scope: &Scope, event: EventId, note: Option<NoteId>) -> Result<Option<u64>, StoreError>;

    /// The leaves `range`, in order, made from the rows as they are now. Leaves that are not there are left out.
    fn leaves(&mut self, range: Range<u64>) -> Result<Vec<Vec<u8>>, StoreError>;
}

/// Where logs are read.
pub trait Logs {
    /// Runs `work` on the log of `tenant`, on a thread that may block; once more where the connection breaks.
    fn read<T: Send + 'static>(
        &self,
        tenant: &str,
        work: impl Fn(&mut dyn Log) -> Result<T, ProveError> + Send + 'static,
    ) -> impl Future<Output = Result<T, ProveError>> + Send;
}

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A size or a place beyond the log.
    #[error("must be at most the log's size, which is {head_size}; it is {asked}")]
    BeyondHead {
        /// What it is of the request.
        field: &'static str,
        /// What was asked for.
        asked: u64,
        /// How long the log is.
        head_size: u64,
    },
    /// The leaf came later.
    #[error("must be above the leaf's index, which is {leaf_index}; it is {size}")]
    LeafNotBelow {
        /// The leaf's.
        leaf_index: u64,
        /// What was asked for.
        size: u64,
    },
    /// The sizes are in the wrong order.
    #[error("must be at most new_size, which is {new_size}; it is {old_size}")]
    OldAboveNew {
        /// What was asked for.
        old_size: u64,
        /// What was asked for, or the log's size.
        new_size: u64,
    },
    /// The stored log contradicts itself: somebody has changed the database. The log must say so, not the caller.
    #[error("the log of {scope} contradicts itself ({what}): find out more with auditlog verify")]
    Contradiction {
        /// The tenant.
        scope: Scope,
        /// Where.
        what: String,
    },
    /// There is no key.
    #[error(transparent)]
    NoKey(#[from] KeyMissing),
    /// A head could not be signed.
    #[error("a checkpoint could not be signed: {0}")]
    Sign(#[from] CheckpointError),
}

/// Nothing can be signed.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "this server has no key to sign with: its operator makes one with `auditlog key new` and gives the same file to every \
     replica, at {0} or wherever checkpoint.key_file says"
)]
pub struct KeyMissing(pub String);

/// A head and its signed form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedHead {
    /// How many leaves the log has.
    pub size: u64,
    /// Its root.
    pub root: Hash,
    /// The signed note.
    pub checkpoint: String,
}

/// What to prove the place of.
#[derive(Clone, Debug)]
pub struct InclusionRequest {
    /// Where the event is looked for: the tenant or one of its projects.
    pub scope: Scope,
    /// The event.
    pub event: EventId,
    /// The note on it, if that is what the proof is about.
    pub note: Option<NoteId>,
    /// The size to prove it at; `None` for the current one.
    pub tree_size: Option<u64>,
}

/// That a leaf is in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inclusion {
    /// Its place.
    pub leaf_index: u64,
    /// At which size.
    pub tree_size: u64,
    /// The leaf.
    pub leaf: Vec<u8>,
    /// The audit path.
    pub hashes: Vec<Hash>,
    /// The checkpoint, if that size is the current one.
    pub checkpoint: Option<String>,
}

/// That the log has only grown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consistency {
    /// The proof.
    pub hashes: Vec<Hash>,
    /// The checkpoint, if the new size is the current one.
    pub checkpoint: Option<String>,
}

/// Leaves that follow one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaves {
    /// Encoded.
    pub leaves: Vec<Vec<u8>>,
    /// How many the log has.
    pub tree_size: u64,
}

/// What signs, or why nothing does. Clones share what was signed.
pub type Signing = Result<Arc<HeadSigner>, KeyMissing>;

/// Proves. The head's signature is the only thing that it adds to what is stored; without a key it proves unsigned.
#[derive(Clone)]
pub struct Prover<L> {
    logs: L,
    signing: Signing,
}

impl<L: Logs> Prover<L> {
    /// Proves from `logs`, and signs their heads.
    pub fn new(logs: L, signing: Signing) -> Self {
        Self { logs, signing }
    }

    /// The signed head.
    pub async fn checkpoint(&self, permit: &Permit<Prove>) -> Result<SignedHead, ProveError> {
        let signer = self.signer()?;
        let tenant = permit.scope().tenant();
        let head = self.logs.read(tenant, |log| Ok(log.head()?)).await?;
        let (size, root) = (head.frontier.size(), head.frontier.root());
        Ok(SignedHead { size, root, checkpoint: signer.sign(tenant, &head)? })
    }

    /// What signs.
    pub fn signer(&self) -> Result<&HeadSigner, KeyMissing> {
        self.signing.as_deref().map_err(Clone::clone)
    }

    /// The checkpoint of the first `size` leaves, for who exports what lies below them: of the head, or of what stands
    /// below a committed one.
    pub async fn checkpoint_of_export(&self, permit: &Permit<Export>, size: u64) -> Result<String, ProveError> {
        let (signer, scope) = (self.signer()?, permit.scope().to_tenant());
        let tenant = permit.scope().tenant();
        let (epoch, root) = self.logs.read(tenant, move |log| root(log, &scope, size)).await?;
        Ok(signer.sign_past(tenant, epoch, size, root)?)
    }

    /// What the service says of an export, signed; `lines` follow the name.
    pub fn sign_manifest(&self, tenant: &str, lines: &str) -> Result<String, ProveError> {
        Ok(self.signer()?.sign_manifest(tenant, lines)?)
    }

    /// That an event or a note is in the log; `None` where there is no such thing in the scope.
    pub async fn inclusion(
        &self,
        permit: &Permit<Prove>,
        request: InclusionRequest,
    ) -> Result<Option<Inclusion>, ProveError> {
        let scope = permit.scope().clone();
        let found = self.logs.read(permit.scope().tenant(), move |log| include(log, &scope, &request)).await?;
        let Some((head, mut inclusion)) = found else { return Ok(None) };
        inclusion.checkpoint = self.checkpoint_at(permit, &head, inclusion.tree_size)?;
        Ok(Some(inclusion))
    }

    /// That the log of `new_size` leaves (`None`: today's) begins with that of `old_size`.
    pub async fn consistency(
        &self,
        permit: &Permit<Prove>,
        old_size: u64,
        new_size: Option<u64>,
    ) -> Result<Consistency, ProveError> {
        let scope = permit.scope().clone();
        let work = move |log: &mut dyn Log| {
            let head = log.head()?;
            let head_size = head.frontier.size();
            let new_size = new_size.unwrap_or(head_size);
            let proof = prove_consistency(&mut &mut *log, head_size, old_size, new_size);
            Ok((head, new_size, proof.map_err(|error| explain(error, &scope, "new_size"))?))
        };
        let (head, new_size, hashes) = self.logs.read(permit.scope().tenant(), work).await?;
        Ok(Consistency { hashes, checkpoint: self.checkpoint_at(permit, &head, new_size)? })
    }

    /// At most `count` leaves from `start` on; fewer where they would outgrow a message, and none only at the end.
    pub async fn leaves(&self, permit: &Permit<Prove>, start: u64, count: u64) -> Result<Leaves, ProveError> {
        let scope = permit.scope().clone();
        self.logs.read(permit.scope().tenant(), move |log| list(log, &scope, start, count)).await
    }

    /// Only the current head is signed: an earlier size may never have been one. Without a key, nothing is.
    fn checkpoint_at(
        &self,
        permit: &Permit<Prove>,
        head: &LogHead,
        size: u64,
    ) -> Result<Option<String>, CheckpointError> {
        let signer = self.signing.as_ref().ok().filter(|_| size == head.frontier.size());
        signer.map(|signer| signer.sign(permit.scope().tenant(), head)).transpose()
    }
}

/// The proof is held against the root before it is given away, so that a log that was tampered with is noticed here too.
fn include(
    log: &mut dyn Log,
    tenant: &Scope,
    request: &InclusionRequest,
) -> Result<Option<(LogHead, Inclusion)>, ProveError> {
    let Some(leaf_index) = log.find(&request.scope, request.event, request.note)? else { return Ok(None) };
    // Read after the leaf was found, so that it is among the head's leaves.
    let head = log.head()?;
    let head_size = head.frontier.size();
    if leaf_index >= head_size {
        return Err(contradiction(tenant, format!("leaf {leaf_index} is beyond the head, {head_size}")));
    }
    let tree_size = request.tree_size.unwrap_or(head_size);
    let hashes = prove_inclusion(&mut &mut *log, head_size, leaf_index, tree_size);
    let hashes = hashes.map_err(|error| explain(error, tenant, "tree_size"))?;
    let root = root_below(log, tenant, &head, tree_size)?;
    let leaf = log.leaves(leaf_index..leaf_index + 1)?.pop().unwrap_or_default();
    verify_inclusion(&leaf_hash(&leaf), leaf_index, tree_size, &root, &hashes)
        .map_err(|_| contradiction(tenant, format!("leaf {leaf_index} is not the one that was sealed")))?;
    Ok(Some((head, Inclusion { leaf_index, tree_size, leaf, hashes, checkpoint: None })))
}

/// The epoch of today's log, and the root of its first `size` leaves.
fn root(log: &mut dyn Log, tenant: &Scope, size: u64) -> Result<(u32, Hash), ProveError> {
    let head = log.head()?;
    Ok((head.epoch, root_below(log, tenant, &head, size)?))
}

fn root_below(log: &mut dyn Log, tenant: &Scope, head: &LogHead, size: u64) -> Result<Hash, ProveError> {
    match size == head.frontier.size() {
        true => Ok(head.frontier.root()),
        false => {
            root_at(&mut &mut *log, head.frontier.size(), size).map_err(|error| explain(error, tenant, "tree_size"))
        }
    }
}

fn list(log: &mut dyn Log, tenant: &Scope, start: u64, count: u64) -> Result<Leaves, ProveError> {
    let tree_size = log.head()?.frontier.size();
    if start > tree_size {
        return Err(ProveError::BeyondHead { field: "start", asked: start, head_size: tree_size });
    }
    let range = start..tree_size.min(start.saturating_add(count));
    if range.is_empty() {
        return Ok(Leaves { leaves: Vec::new(), tree_size });
    }
    let mut leaves = log.leaves(range.clone())?;
    if leaves.len() as u64 != range.end - range.start {
        let found = leaves.len();
        return Err(contradiction(tenant, format!("of the leaves {range:?} there are {found}")));
    }
    leaves.truncate(fitting(&leaves));
    Ok(Leaves { leaves, tree_size })
}

/// How many of the leaves go into one message: all that fit, and one in any case.
fn fitting(leaves: &[Vec<u8>]) -> usize {
    let sizes = leaves.iter().scan(0, |bytes, leaf| {
        *bytes += leaf.len();
        Some(*bytes)
    });
    sizes.take_while(|&bytes| bytes <= PAGE_BYTES).count().max(1)
}

fn contradiction(tenant: &Scope, what: String) -> ProveError {
    ProveError::Contradiction { scope: tenant.clone(), what }
}

/// `field` is what the size comes from that may be beyond the head.
fn explain(error: ProofError<StoreError>, tenant: &Scope, field: &'static str) -> ProveError {
    match error {
        ProofError::Reader(error) => ProveError::Store(error),
        ProofError::BeyondHead { size, head_size } => ProveError::BeyondHead { field, asked: size, head_size },
        ProofError::LeafNotBelow { leaf_index, size } => ProveError::LeafNotBelow { leaf_index, size },
        ProofError::OldAboveNew { old_size, new_size } => ProveError::OldAboveNew { old_size, new_size },
        error @ (ProofError::Incomplete { .. } | ProofError::Arithmetic(_)) => contradiction(tenant, error.to_string()),
    }
}

#[cfg(test)]
mod tests;
