//! How many deeds of each caller are known, so that nobody who makes up scopes takes the place of the others.

use std::{collections::HashMap, hash::Hash};

use super::deed::{Caller, Deed};

/// The most denials at a time, and as many reads, of all callers together. Both take a few megabytes, and at most twenty where
/// all names are as long as may be.
pub(super) const MOST: usize = 4096;
/// The most of them of one caller. It is larger than the next one, because where a caller guesses the names of tenants, it takes a
/// moment to find out that there are none.
pub(super) const MOST_OF_CALLER: usize = 256;
/// The most of them of one caller at one tenant, and so the most events of denials that one caller can bring into a log in an
/// interval.
const MOST_OF_CALLER_AT_TENANT: usize = 64;

/// Counts what is taken.
pub(super) struct Shares {
    most_of_caller_at_tenant: usize,
    total: usize,
    of_caller: HashMap<Caller, usize>,
    of_caller_at_tenant: HashMap<(Caller, String), usize>,
}

impl Shares {
    pub(super) fn of_denials() -> Self {
        Self::new(MOST_OF_CALLER_AT_TENANT)
    }

    /// Each read is recorded at once or with others: a place less means more events, so that a tenant's share is the whole.
    pub(super) fn of_reads() -> Self {
        Self::new(MOST_OF_CALLER)
    }

    fn new(most_of_caller_at_tenant: usize) -> Self {
        let (of_caller, of_caller_at_tenant) = (HashMap::new(), HashMap::new());
        Self { most_of_caller_at_tenant, total: 0, of_caller, of_caller_at_tenant }
    }

    /// Takes a place for a deed, if there is one.
    pub(super) fn take(&mut self, deed: &Deed) -> bool {
        let at_tenant = at_tenant(deed);
        let own = taken(&self.of_caller, &deed.caller);
        let own_at_tenant = taken(&self.of_caller_at_tenant, &at_tenant);
        if self.total >= MOST || own >= MOST_OF_CALLER || own_at_tenant >= self.most_of_caller_at_tenant {
            return false;
        }
        self.total += 1;
        *self.of_caller.entry(deed.caller.clone()).or_default() += 1;
        *self.of_caller_at_tenant.entry(at_tenant).or_default() += 1;
        true
    }

    /// Gives the place back that was taken for a deed.
    pub(super) fn give_back(&mut self, deed: &Deed) {
        self.total = self.total.saturating_sub(1);
        give_one(&mut self.of_caller, &deed.caller);
        give_one(&mut self.of_caller_at_tenant, &at_tenant(deed));
    }

    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        self.of_caller.len() + self.of_caller_at_tenant.len()
    }
}

fn at_tenant(deed: &Deed) -> (Caller, String) {
    (deed.caller.clone(), deed.scope.tenant().to_owned())
}

fn taken<K: Eq + Hash>(counts: &HashMap<K, usize>, key: &K) -> usize {
    counts.get(key).copied().unwrap_or(0)
}

fn give_one<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    let Some(count) = counts.get_mut(key) else { return };
    *count -= 1;
    if *count == 0 {
        counts.remove(key);
    }
}
