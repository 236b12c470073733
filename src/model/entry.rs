//! What goes into the append path.

use super::{
    draft::Draft,
    event::{Actor, Salt},
    leaf::{self, Hash},
    name::Scope,
};

/// A draft with where it goes and who says so: one line of work for the append path.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where the event is recorded; for a note, the scope in which its event is looked up.
    pub scope: Scope,
    /// The authenticated caller: an event's recorder, a note's author.
    pub recorder: Actor,
    /// What to append.
    pub draft: Draft,
    salt: Salt,
    body_commitment: Hash,
}

/// A salt for a body. It is the operating system's random bytes, because a generator's state, seen in the memory of the
/// process, would tell the salts of bodies that have been erased since it was seeded.
///
/// # Errors
/// If the system gives none.
pub fn salt() -> Result<Salt, getrandom::Error> {
    let mut salt = Salt::default();
    getrandom::fill(&mut salt)?;
    Ok(salt)
}

/// The same for so many bodies, of one read.
///
/// # Errors
/// As [`salt`].
pub fn salts(count: usize) -> Result<Vec<Salt>, getrandom::Error> {
    let mut salts = vec![Salt::default(); count];
    getrandom::fill(salts.as_flattened_mut())?;
    Ok(salts)
}

impl Entry {
    /// Commits to the draft's body with `salt`, which must be [fresh](salt()). It happens here, on the caller's thread, because
    /// everybody waits for the one that appends.
    pub fn new(scope: Scope, recorder: Actor, draft: Draft, salt: Salt) -> Self {
        let body_commitment = match &draft {
            Draft::Event(draft) => leaf::event_commitment(&salt, &draft.content, &recorder),
            Draft::Note(draft) => leaf::note_commitment(&salt, &recorder, &draft.text),
        };
        Self { scope, recorder, draft, salt, body_commitment }
    }

    /// What the body is salted with, if this gets a place in the log.
    pub fn salt(&self) -> &Salt {
        &self.salt
    }

    /// SHA-256 of the salt and the encoded body.
    pub fn body_commitment(&self) -> &Hash {
        &self.body_commitment
    }

    /// About as many bytes as the entry takes; never less than its text.
    pub fn encoded_bound(&self) -> usize {
        match &self.draft {
            Draft::Event(draft) => draft.content.text_len(),
            Draft::Note(draft) => draft.text.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_salts_are_equal() {
        let mut all: BTreeSet<Salt> = salts(1000).unwrap().into_iter().collect();
        all.extend((0..10).map(|_| salt().unwrap()));
        assert_eq!(all.len(), 1010);
    }
}
