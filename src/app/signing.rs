//! Which key signs, settled at the start. Recording never depends on it.

use std::{io, path::Path, sync::Arc};

use crate::{
    checkpoint_key::{self, KeyFileError},
    config::CheckpointConfig,
    merkle::CheckpointKey,
    proof::{HeadSigner, KeyMissing, Signing},
    store::{Store, StoreError},
};

/// Why the service must not sign, and so does not start.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// The file is there and no good, or could not be made.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// Another key has signed for this database.
    #[error(
        "the checkpoints of this database are signed with the key whose public half is {stored}, and {file} holds \
         another, {found}: give this replica the file that the others have, or the copy that was kept of it. A second key \
         would make a second history"
    )]
    OtherKey {
        /// Its public half, in hex.
        stored: String,
        /// That of the file.
        found: String,
        /// The file.
        file: String,
    },
    /// The database could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The thread that asks has panicked.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What signs. The schema must be up to date.
pub(super) async fn open(config: &CheckpointConfig, store: &Store) -> Result<Signing, SigningError> {
    let (config, store) = (config.clone(), store.clone());
    tokio::task::spawn_blocking(move || find(&config, &store)).await.map_err(io::Error::other)?
}

fn find(config: &CheckpointConfig, store: &Store) -> Result<Signing, SigningError> {
    let key = match checkpoint_key::load(&config.key_file) {
        Err(KeyFileError::Missing(_)) if may_make_one(store)? => make(config)?,
        Err(missing @ KeyFileError::Missing(_)) => {
            warn_of(&missing, &config.key_file, store.signing_key()?);
            return Ok(Err(KeyMissing(config.key_file.display().to_string())));
        }
        loaded => loaded?,
    };
    check(config, store, &key)?;
    Ok(Ok(Arc::new(HeadSigner::new(key, config.origin.clone()))))
}

/// On a server there may be other replicas, each of which would make its own. And where one was lost, a new one would
/// not be of use.
fn may_make_one(store: &Store) -> Result<bool, StoreError> {
    Ok(!store.is_on_server() && store.signing_key()?.is_none())
}

/// Where a key has signed before, only that one will do.
fn warn_of(missing: &KeyFileError, file: &Path, stored: Option<[u8; 32]>) {
    match stored.map(hex::encode) {
        None => tracing::warn!("nothing is signed, neither checkpoints nor exports: {missing}"),
        Some(public_key) => tracing::warn!(
            public_key,
            "nothing is signed, neither checkpoints nor exports: the key file that this database was signed with is not \
             there; put it back where checkpoint.key_file says ({}), and make no new one",
            file.display()
        ),
    }
}

fn make(config: &CheckpointConfig) -> Result<CheckpointKey, KeyFileError> {
    let key = checkpoint_key::create(&config.key_file)?;
    tracing::info!(file = %config.key_file.display(), "made the key that signs checkpoints: keep a copy of it");
    Ok(key)
}

fn check(config: &CheckpointConfig, store: &Store, key: &CheckpointKey) -> Result<(), SigningError> {
    let found = key.public_key();
    let stored = store.claim_signing_key(&found)?;
    match stored == found {
        true => Ok(()),
        false => Err(SigningError::OtherKey {
            stored: hex::encode(stored),
            found: hex::encode(found),
            file: config.key_file.display().to_string(),
        }),
    }
}
