//! Why tokens cannot be verified, or made.

use std::{io, path::PathBuf};

use crate::auth::principal::GrantError;

/// Why tokens cannot be verified, or made. No text shows any part of a key.
#[derive(Debug, thiserror::Error)]
pub enum JwtError {
    /// A file of keys cannot be read.
    #[error("cannot read {}, which {setting} names", path.display())]
    File {
        /// The setting or flag that names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file or a reply holds no key that can be used.
    #[error("{origin}: {problem}")]
    Key {
        /// The file or address.
        origin: String,
        /// What is wrong there.
        problem: String,
    },
    /// The address did not give a key set.
    #[error("cannot get the key set from {address}: {problem}")]
    Fetch {
        /// The address.
        address: String,
        /// Why.
        problem: String,
    },
    /// An item of `[jwt.grants]` is none.
    #[error("[jwt.grants] {value:?}: {grant:?} {error}")]
    Grant {
        /// The foreign value.
        value: String,
        /// What it should stand for.
        grant: String,
        /// What is wrong with that.
        error: GrantError,
    },
    /// No token could be signed.
    #[error("cannot sign the token: {0}")]
    Sign(String),
}

impl JwtError {
    pub(super) fn key(origin: &str, problem: impl Into<String>) -> Self {
        Self::Key { origin: origin.to_owned(), problem: problem.into() }
    }
}
