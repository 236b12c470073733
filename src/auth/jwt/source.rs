//! Where keys come from.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{
    JwtConfig,
    error::JwtError,
    fetch::JwksAddress,
    keys::{self, Key},
};

/// Where keys come from.
pub(super) enum Source {
    Secret(PathBuf),
    PublicKey(PathBuf),
    JwksFile(PathBuf),
    JwksAddress(Box<JwksAddress>),
}

/// A source, and what it gave when it last gave anything.
pub(super) struct Held {
    source: Source,
    pub(super) keys: Vec<Key>,
    /// When it last gave them.
    answered: Instant,
    /// So that a source that is away is told once and not at each attempt.
    is_away: bool,
}

impl Source {
    /// The sources that the settings name.
    pub(super) fn all(settings: &JwtConfig) -> Result<Vec<Self>, JwtError> {
        let jwks = settings.jwks.as_deref().map(Self::of_jwks).transpose()?;
        let secret = settings.secret_file.clone().map(Self::Secret);
        let public_key = settings.public_key_file.clone().map(Self::PublicKey);
        Ok(secret.into_iter().chain(public_key).chain(jwks).collect())
    }

    fn of_jwks(place: &str) -> Result<Self, JwtError> {
        match place.starts_with("http://") || place.starts_with("https://") {
            true => JwksAddress::new(place).map(Box::new).map(Self::JwksAddress),
            false => Ok(Self::JwksFile(place.into())),
        }
    }

    /// Whether a token's `kid` tells whether its key is among those of this source.
    pub(super) fn has_key_ids(&self) -> bool {
        matches!(self, Self::JwksFile(_) | Self::JwksAddress(_))
    }

    fn name(&self) -> String {
        match self {
            Self::Secret(path) | Self::PublicKey(path) | Self::JwksFile(path) => path.display().to_string(),
            Self::JwksAddress(address) => address.as_text(),
        }
    }

    async fn read(&self) -> Result<Vec<Key>, JwtError> {
        match self {
            Self::Secret(path) => keys::of_secret(&self.name(), &file("jwt.secret_file", path)?).map(|key| vec![key]),
            Self::PublicKey(path) => {
                keys::of_pem(&self.name(), &file("jwt.public_key_file", path)?).map(|key| vec![key])
            }
            Self::JwksFile(path) => keys::of_jwks(&self.name(), &file("jwt.jwks", path)?),
            Self::JwksAddress(address) => keys::of_jwks(&self.name(), &address.get().await?),
        }
    }
}

/// The bytes of a file of keys, which are wiped when they are dropped.
pub(super) fn file(setting: &'static str, path: &Path) -> Result<Zeroizing<Vec<u8>>, JwtError> {
    let read = fs::read(path).map(Zeroizing::new);
    read.map_err(|source| JwtError::File { setting, path: path.to_owned(), source })
}

impl Held {
    /// Reads the source for the first time, when there is nothing to fall back on.
    pub(super) async fn open(source: Source) -> Result<Self, JwtError> {
        let keys = source.read().await?;
        Ok(Self { source, keys, answered: Instant::now(), is_away: false })
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// Whether it is time to read the source again. Files cost little; an address is somebody else's, and is left alone for as
    /// long as its last answer is fresh.
    pub(super) fn is_due(&self, refresh: std::time::Duration) -> bool {
        !matches!(self.source, Source::JwksAddress(_)) || self.answered.elapsed() >= refresh
    }

    /// Reads the source again. While it is away, its last keys stay.
    pub(super) async fn renew(&mut self) {
        match self.source.read().await {
            Ok(keys) => {
                (self.keys, self.answered) = (keys, Instant::now());
                if std::mem::take(&mut self.is_away) {
                    tracing::info!(source = self.source.name(), "the keys of tokens can be read again");
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_away, true) {
                    tracing::warn!(%error, "the keys of tokens cannot be read; those that were read before stay");
                }
            }
        }
    }
}
