//! Checkpoints: a log's size and root, signed (C2SP tlog-checkpoint inside a C2SP signed-note).

use std::fmt;

use signed_note::{Note, NoteError, StandardVerifier, Verifier as _, VerifierError, VerifierList, is_key_name_valid};
use tlog_tiles as tlog;

use super::{CheckpointKey, Hash};

/// The longest origin, in bytes.
const MAX_ORIGIN_BYTES: usize = 256;

/// A head that somebody may sign, or has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name, which is the key's name as well; see [`checkpoint_name`].
    pub origin: String,
    /// How many leaves the log has.
    pub size: u64,
    /// Their root.
    pub root: Hash,
}

/// Why a text is no checkpoint, or not the one that it should be.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Not a signed note, or not one with the lines of a checkpoint.
    #[error("this is no checkpoint: a signed note whose lines are origin, size and base64 of the root")]
    Malformed,
    /// Nobody whose key is known has signed it.
    #[error("it is not signed by {0}")]
    NotSigned(String),
    /// A signature that does not fit.
    #[error("the signature of {0} is not valid: it was changed, or made with another key")]
    InvalidSignature(String),
    /// Signed, but about another log.
    #[error("the checkpoint is of {found}, but the key is for {expected}")]
    Origin {
        /// The key's name.
        expected: String,
        /// The origin line.
        found: String,
    },
    /// No key can have that name.
    #[error("{0:?} cannot be the name of a log: it must have no spaces and no +")]
    Name(String),
    /// Not of the form `name+hash+base64`, or damaged.
    #[error("this is no verifier key of the form name+hash+base64: {0}")]
    VerifierKey(#[from] VerifierError),
    /// The signature could not be made.
    #[error(transparent)]
    Note(NoteError),
}

impl CheckpointError {
    /// Whether it is well formed, and yet not what the key has signed.
    pub fn is_of_signature(&self) -> bool {
        matches!(self, Self::NotSigned(_) | Self::InvalidSignature(_) | Self::Origin { .. })
    }
}

/// The name of a tenant's log: both the origin line of its checkpoints and the name of the key that signs them.
pub fn checkpoint_name(origin: &str, tenant: &str) -> String {
    format!("{origin}/tenants/{tenant}")
}

/// The name of a tenant's log in one of its epochs, which are counted from 1: the first one is called like the log. The next
/// one begins when an operator acknowledges that the database went back, and has another name, so that nobody finds two
/// histories under one.
pub fn epoch_name(origin: &str, tenant: &str, epoch: u32) -> String {
    match epoch {
        ..=1 => checkpoint_name(origin, tenant),
        _ => format!("{}/epochs/{epoch}", checkpoint_name(origin, tenant)),
    }
}

/// The name under which the manifests of a tenant's exports are signed. No log is called so: ids have no `/` in them.
pub fn manifest_name(origin: &str, tenant: &str) -> String {
    format!("{}/exports", checkpoint_name(origin, tenant))
}

/// Whether the names of logs may begin with `text`: 1 to 256 visible ASCII characters without `+`, and no `/` at the end.
pub fn is_origin(text: &str) -> bool {
    let is_visible = text.bytes().all(|byte| byte.is_ascii_graphic());
    is_visible && is_key_name_valid(text) && text.len() <= MAX_ORIGIN_BYTES && !text.ends_with('/')
}

impl Checkpoint {
    /// The signed note.
    pub fn sign(&self, key: &CheckpointKey) -> Result<String, CheckpointError> {
        let unnamed = || CheckpointError::Name(self.origin.clone());
        if !is_key_name_valid(&self.origin) {
            return Err(unnamed());
        }
        let text = tlog::Checkpoint::new(&self.origin, self.size, tlog::Hash(self.root), "").map_err(|_| unnamed())?;
        key.sign_bytes(&self.origin, &text.to_bytes())
    }

    /// Reads a signed note without looking at its signatures.
    pub fn parse(note: &str) -> Result<Self, CheckpointError> {
        let note = Note::from_bytes(note.as_bytes()).map_err(|_| CheckpointError::Malformed)?;
        Self::of_text(note.text())
    }

    /// Reads a signed note that must be of the key's log and signed by it. Other signatures do not matter.
    pub fn verify(note: &str, key: &VerifierKey) -> Result<Self, CheckpointError> {
        let note = Note::from_bytes(note.as_bytes()).map_err(|_| CheckpointError::Malformed)?;
        let known = VerifierList::new(vec![Box::new(key.0.clone())]);
        note.verify(&known).map_err(|error| key.explain(&error))?;
        let checkpoint = Self::of_text(note.text())?;
        match checkpoint.origin == key.name() {
            true => Ok(checkpoint),
            false => Err(CheckpointError::Origin { expected: key.name().to_owned(), found: checkpoint.origin }),
        }
    }

    /// Extension lines, which others may add, are passed over.
    fn of_text(text: &[u8]) -> Result<Self, CheckpointError> {
        let text = tlog::Checkpoint::from_bytes(text).map_err(|_| CheckpointError::Malformed)?;
        Ok(Self { origin: text.origin().to_owned(), size: text.size(), root: text.hash().0 })
    }
}

/// The public key of one log, with the log's name.
#[derive(Clone)]
pub struct VerifierKey(pub(super) StandardVerifier, pub(super) String);

impl VerifierKey {
    /// Reads `name+hash+base64`.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        Ok(Self(StandardVerifier::new(text.trim())?, text.trim().to_owned()))
    }

    /// The log's name.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    pub(super) fn explain(&self, error: &NoteError) -> CheckpointError {
        let name = self.name().to_owned();
        match error {
            NoteError::InvalidSignature { .. } => CheckpointError::InvalidSignature(name),
            _ => CheckpointError::NotSigned(name),
        }
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({}+{:08x})", self.name(), self.0.key_id())
    }
}
