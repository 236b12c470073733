//! Signed notes, and the names under which one key speaks.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use ed25519_dalek::VerifyingKey;
use signed_note::{Note, VerifierList, new_ed25519_verifier_key};

use super::{Checkpoint, CheckpointError, VerifierKey, log_name};

/// The bytes of an Ed25519 key in a verifier key: 0x01, and the key.
const KEY_BYTES: usize = 33;

/// The text of a signed note, without looking at its signatures.
pub fn note_text(note: &str) -> Result<String, CheckpointError> {
    let note = Note::from_bytes(note.as_bytes()).map_err(|_| CheckpointError::Malformed)?;
    text_of(&note)
}

fn text_of(note: &Note) -> Result<String, CheckpointError> {
    String::from_utf8(note.text().to_vec()).map_err(|_| CheckpointError::Malformed)
}

impl Checkpoint {
    /// Reads a checkpoint; with a key, as [`Self::verify_any_epoch`] does, and without one, as [`Self::parse`] does.
    pub fn read(note: &str, key: Option<&VerifierKey>) -> Result<Self, CheckpointError> {
        match key {
            Some(key) => Self::verify_any_epoch(note, key),
            None => Self::parse(note),
        }
    }

    /// Reads a checkpoint of the key's log, in whichever of its epochs, that the key has signed. One private key signs for all
    /// of them, so the verifier key of any one is good for each, under that one's name.
    pub fn verify_any_epoch(note: &str, key: &VerifierKey) -> Result<Self, CheckpointError> {
        let origin = Self::parse(note)?.origin;
        match log_name(&origin) == log_name(key.name()) {
            true => Self::verify(note, &key.under(&origin)?),
            false => Self::verify(note, key),
        }
    }
}

impl VerifierKey {
    /// The same public key under another name.
    pub fn under(&self, name: &str) -> Result<Self, CheckpointError> {
        let unnamed = || CheckpointError::Name(name.to_owned());
        let key = self.public_key().ok_or_else(unnamed)?;
        let key = VerifyingKey::from_bytes(&key).map_err(|_| unnamed())?;
        Self::parse(&new_ed25519_verifier_key(name, &key))
    }

    /// The Ed25519 public key itself.
    pub fn public_key(&self) -> Option<[u8; KEY_BYTES - 1]> {
        // Neither the name nor the hash has a plus sign, and base64 may.
        let base64 = self.1.splitn(3, '+').nth(2)?;
        let bytes = BASE64_STANDARD.decode(base64).ok()?;
        let [_, key @ ..]: [u8; KEY_BYTES] = bytes.try_into().ok()?;
        Some(key)
    }

    /// The text of a note that must be signed by this key under its name. Other signatures do not matter.
    pub fn verify_note(&self, note: &str) -> Result<String, CheckpointError> {
        let note = Note::from_bytes(note.as_bytes()).map_err(|_| CheckpointError::Malformed)?;
        let known = VerifierList::new(vec![Box::new(self.0.clone())]);
        note.verify(&known).map_err(|error| self.explain(&error))?;
        text_of(&note)
    }
}
