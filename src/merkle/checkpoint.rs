//! Checkpoints: a log's size and root, signed (C2SP tlog-checkpoint inside a C2SP signed-note).

use std::fmt;

use signed_note::{NoteError, StandardVerifier, Verifier as _, VerifierError, is_key_name_valid};
use tlog_tiles as tlog;

use super::{CheckpointKey, Hash, note_text};

/// A head that somebody may sign, or has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name, which is the key's name as well; see [`checkpoint_name`](super::checkpoint_name).
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
        Self::of_text(&note_text(note)?)
    }

    /// Reads a signed note that must be of the key's log and signed by it. Other signatures do not matter.
    pub fn verify(note: &str, key: &VerifierKey) -> Result<Self, CheckpointError> {
        let checkpoint = Self::of_text(&key.verify_note(note)?)?;
        match checkpoint.origin == key.name() {
            true => Ok(checkpoint),
            false => Err(CheckpointError::Origin { expected: key.name().to_owned(), found: checkpoint.origin }),
        }
    }

    /// Extension lines, which others may add, are passed over.
    fn of_text(text: &str) -> Result<Self, CheckpointError> {
        let text = tlog::Checkpoint::from_bytes(text.as_bytes()).map_err(|_| CheckpointError::Malformed)?;
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
