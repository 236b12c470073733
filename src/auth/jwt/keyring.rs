//! The keys as they are now, kept fresh.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::{self, Instant},
};

use super::{
    JwtConfig,
    budget::Budget,
    error::JwtError,
    keys::KeySet,
    source::{Held, Source},
};

/// How often files are read again.
const FILES_EVERY: Duration = Duration::from_secs(10);
/// How long a caller with an unknown key may wait for the keys to be read again.
const MAX_WAIT: Duration = Duration::from_secs(6);

/// The keys as they are now.
pub(super) struct Keyring {
    current: RwLock<Arc<KeySet>>,
    held: Arc<Mutex<Vec<Held>>>,
    budget: Budget,
    refresh: Duration,
    has_key_ids: bool,
}

impl Keyring {
    /// Reads all sources; each must be there, and give at least one key.
    pub(super) async fn open(settings: &JwtConfig) -> Result<Self, JwtError> {
        let mut held = Vec::new();
        for source in Source::all(settings)? {
            held.push(Held::open(source).await?);
        }
        Ok(Self {
            current: RwLock::new(Arc::new(keys(&held))),
            has_key_ids: held.iter().any(|held| held.source().has_key_ids()),
            held: Arc::new(Mutex::new(held)),
            budget: Budget::new(Instant::now()),
            refresh: settings.jwks_refresh,
        })
    }

    /// The keys as they are now.
    pub(super) fn current(&self) -> Arc<KeySet> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a token's unknown key is a reason to read the sources again.
    pub(super) fn may_learn(&self) -> bool {
        self.has_key_ids
    }

    /// The keys after a look at the sources, because those of `seen` do not suffice. One looks for all who wait, and it is
    /// not done more often than the budget allows: who asks is a stranger.
    pub(super) async fn learn(self: &Arc<Self>, seen: &Arc<KeySet>) -> Arc<KeySet> {
        // A caller whose time is up goes on with the keys that there are.
        let _ = time::timeout(MAX_WAIT, self.look_again(seen)).await;
        self.current()
    }

    async fn look_again(self: &Arc<Self>, seen: &Arc<KeySet>) {
        let held = Arc::clone(&self.held).lock_owned().await;
        if !Arc::ptr_eq(seen, &self.current()) || !self.budget.take(Instant::now()) {
            return;
        }
        // A task of its own: a caller who goes away must not end the look, for which the budget has paid.
        let _ = tokio::spawn(Arc::clone(self).renew_all(held)).await;
    }

    async fn renew_all(self: Arc<Self>, mut held: OwnedMutexGuard<Vec<Held>>) {
        for held in held.iter_mut() {
            held.renew().await;
        }
        self.put(&held);
    }

    /// Reads the sources again and again, as often as each may be.
    pub(super) async fn keep_fresh(self: Arc<Self>) {
        loop {
            time::sleep(self.refresh.min(FILES_EVERY)).await;
            let mut held = self.held.lock().await;
            for held in held.iter_mut().filter(|held| held.is_due(self.refresh)) {
                held.renew().await;
            }
            self.put(&held);
        }
    }

    fn put(&self, held: &[Held]) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys(held));
    }
}

fn keys(held: &[Held]) -> KeySet {
    KeySet(held.iter().flat_map(|held| held.keys.iter().cloned()).collect())
}
