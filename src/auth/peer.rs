//! Who is at the other end of the connection, as its client certificate says.

use std::{collections::BTreeSet, sync::Arc};

use super::CredentialsError;

/// What the transport knows of the other end; it is among the extensions of each request.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// The DNS and URI names of the certificate that the other end has proven to hold; empty without one.
    pub names: Arc<[String]>,
}

/// The names that may vouch for callers.
#[derive(Clone, Debug, Default)]
pub struct Vouchers(Arc<BTreeSet<String>>);

impl Vouchers {
    /// Only certificates with one of these names may be at the other end; where there are none, anybody may.
    pub fn new(names: BTreeSet<String>) -> Self {
        Self(Arc::new(names))
    }

    /// Whether `peer` may say anything about anybody.
    pub fn admit(&self, peer: Option<&Peer>) -> Result<(), CredentialsError> {
        let names = peer.map(|peer| &*peer.names).unwrap_or_default();
        match self.0.is_empty() || names.iter().any(|name| self.0.contains(name)) {
            true => Ok(()),
            false => Err(CredentialsError::NotVouched { names: names.to_vec() }),
        }
    }
}
