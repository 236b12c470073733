//! The key that signs checkpoints.
//!
//! Its file is one line of text, `PRIVATE+KEY+auditlog-v1+` and the standard base64 of 33 bytes: 0x01, which stands for
//! Ed25519 in C2SP signed notes, and the 32 bytes of the private key (RFC 8032's seed). There is no name in it, as there
//! is in the signer keys of `signed_note`, because one key signs for every tenant, each under a name of its own.

use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use ed25519_dalek::{SECRET_KEY_LENGTH, SignatureError, Signer as _, SigningKey};
use signed_note::{Note, is_key_name_valid, key_id, new_ed25519_verifier_key};
use zeroize::Zeroizing;

use super::CheckpointError;

/// What a key file begins with.
const PREFIX: &str = "PRIVATE+KEY+auditlog-v1+";
/// Ed25519, as C2SP signed notes number it.
const ED25519: u8 = 1;

/// The private key of an installation. Its memory is cleared when it goes.
#[derive(Clone)]
pub struct CheckpointKey(SigningKey);

/// Why a text is no checkpoint key. The text itself is never shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Something else.
    #[error("it holds no checkpoint key, which is one line that begins with {PREFIX}")]
    Format,
    /// Cut off or mistyped.
    #[error("what follows {PREFIX} is not the base64 of an Ed25519 key, which has 44 characters")]
    Base64,
}

impl CheckpointKey {
    /// The key with these 32 private bytes, which must come from a source of randomness that is fit for keys.
    pub fn from_seed(seed: &[u8; SECRET_KEY_LENGTH]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// Reads a key file's text; white space around it does not matter.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let base64 = text.trim().strip_prefix(PREFIX).ok_or(KeyError::Format)?;
        let bytes = Zeroizing::new(BASE64_STANDARD.decode(base64).map_err(|_| KeyError::Base64)?);
        match bytes.split_first() {
            Some((&ED25519, seed)) => Ok(Self(SigningKey::try_from(seed).map_err(|_| KeyError::Base64)?)),
            _ => Err(KeyError::Base64),
        }
    }

    /// A key file's text, with the line's end.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([ED25519; 1 + SECRET_KEY_LENGTH]);
        bytes[1..].copy_from_slice(self.0.as_bytes());
        let base64 = Zeroizing::new(BASE64_STANDARD.encode(bytes));
        Zeroizing::new([PREFIX, base64.as_str(), "\n"].concat())
    }

    /// The 32 bytes of the public key.
    pub fn public_key(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// What a verifier is given to know the notes signed under `name`: `name+hash+base64`.
    pub fn verifier_key(&self, name: &str) -> String {
        new_ed25519_verifier_key(name, &self.0.verifying_key())
    }

    /// `text`, which must end in a newline, as a note signed under `name`, which must have neither spaces nor `+` in it.
    pub fn sign_note(&self, name: &str, text: &str) -> Result<String, CheckpointError> {
        match is_key_name_valid(name) {
            true => self.sign_bytes(name, text.as_bytes()),
            false => Err(CheckpointError::Name(name.to_owned())),
        }
    }

    pub(super) fn sign_bytes(&self, name: &str, text: &[u8]) -> Result<String, CheckpointError> {
        let mut note = Note::new(text, &[]).map_err(CheckpointError::Note)?;
        note.add_sigs(&[&NamedKey { name, key: &self.0 }]).map_err(CheckpointError::Note)?;
        String::from_utf8(note.to_bytes()).map_err(|_| CheckpointError::Malformed)
    }
}

impl fmt::Debug for CheckpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckpointKey").field("public_key", &self.public_key()).finish_non_exhaustive()
    }
}

/// The key under one name. `signed_note::StandardSigner` is made from a text with the name and the private key in it,
/// which would spread the key over as many strings as there are tenants.
struct NamedKey<'a> {
    name: &'a str,
    key: &'a SigningKey,
}

impl signed_note::Signer for NamedKey<'_> {
    fn name(&self) -> &str {
        self.name
    }

    fn key_id(&self) -> u32 {
        let public_key = self.key.verifying_key();
        key_id(self.name, &[&[ED25519], public_key.as_bytes().as_slice()].concat())
    }

    fn sign(&self, text: &[u8]) -> Result<Vec<u8>, SignatureError> {
        Ok(self.key.try_sign(text)?.to_vec())
    }
}
