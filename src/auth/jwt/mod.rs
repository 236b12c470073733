//! Mode `jwt`: callers bring a signed token (RFC 7519) in `authorization: Bearer …`.
//!
//! [`keys`] holds what signatures are checked with, and each key its one algorithm: a token's header never chooses.
//! [`source`] reads keys from files and addresses, [`keyring`] keeps them fresh, [`verify`] checks a token, and
//! [`mapping`] turns its claims into a principal. [`issue`] makes tokens, for development and operators.

mod budget;
mod error;
mod fetch;
pub mod issue;
mod keyring;
mod keys;
#[cfg(any(test, fuzzing))]
pub mod laws;
mod mapping;
mod source;
pub(super) mod verify;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

pub use error::JwtError;
pub use verify::TokenVerifier;

/// The metadata key that a token comes in.
pub const AUTHORIZATION: &str = "authorization";

/// How far the clocks of issuer and service may be apart: a token is taken this long after `exp` and before `nbf`.
pub const LEEWAY: Duration = Duration::from_secs(30);

/// `[jwt]`, resolved. `Default` has no key, and nothing can be verified with that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtConfig {
    /// File with the secret of HS256, at least 32 bytes; one line end at its end is not part of it.
    pub secret_file: Option<PathBuf>,
    /// PEM file with a public key: RSA for RS256, P-256 for ES256, Ed25519 for EdDSA.
    pub public_key_file: Option<PathBuf>,
    /// A JSON Web Key Set (RFC 7517): an `http://` or `https://` address, else a file.
    pub jwks: Option<String>,
    /// How often an address is asked again although no token had an unknown key; more than zero.
    pub jwks_refresh: Duration,
    /// Who may have issued the token, if that matters.
    pub issuer: BTreeSet<String>,
    /// For whom it must have been issued, if that matters, and it should.
    pub audience: BTreeSet<String>,
    /// What the claims are called.
    pub claims: ClaimNames,
    /// What an item of the roles or permissions claim stands for, as lists of `name@scope`.
    pub grants: BTreeMap<String, Vec<String>>,
}

/// What the claims are called: each a name, or a JSON pointer (RFC 6901) such as `/realm_access/roles`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimNames {
    /// The caller's id.
    pub subject: String,
    /// Their name for people.
    pub name: String,
    /// `user` or `service`.
    pub subject_type: String,
    /// Roles: an array, or a string with spaces between.
    pub roles: String,
    /// Permissions, likewise.
    pub permissions: String,
}

impl Default for JwtConfig {
    fn default() -> Self {
        Self {
            secret_file: None,
            public_key_file: None,
            jwks: None,
            jwks_refresh: Duration::from_secs(600),
            issuer: BTreeSet::new(),
            audience: BTreeSet::new(),
            claims: ClaimNames::default(),
            grants: BTreeMap::new(),
        }
    }
}

impl Default for ClaimNames {
    fn default() -> Self {
        Self {
            subject: "sub".to_owned(),
            name: "name".to_owned(),
            subject_type: "subject_type".to_owned(),
            roles: "roles".to_owned(),
            permissions: "permissions".to_owned(),
        }
    }
}

impl JwtConfig {
    /// Whether there is anything to check a signature with.
    pub fn has_keys(&self) -> bool {
        self.secret_file.is_some() || self.public_key_file.is_some() || self.jwks.is_some()
    }

    /// Whether the key set comes over a connection that somebody in between could change.
    pub fn fetches_in_the_clear(&self) -> bool {
        self.jwks.as_deref().is_some_and(|jwks| jwks.starts_with("http://"))
    }

    /// Whether every list of `grants` can be read.
    ///
    /// # Errors
    /// The first item that is no `name@scope`.
    pub fn validate_grants(&self) -> Result<(), JwtError> {
        mapping::Mapping::new(self).map(drop)
    }
}
