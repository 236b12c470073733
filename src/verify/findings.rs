//! What does not hold.

use std::fmt;

/// How many findings are kept in words. The rest is counted.
const MAX_KEPT: usize = 20;

/// One thing that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which event, note, tile, position or row.
    pub subject: String,
    /// Which field or link, and what is wrong with it.
    pub problem: String,
}

/// All that does not hold: the first ones in words, and how many there are.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    kept: Vec<Finding>,
    total: u64,
}

impl Findings {
    /// Adds one.
    pub fn add(&mut self, subject: impl fmt::Display, problem: impl fmt::Display) {
        self.total += 1;
        if self.kept.len() < MAX_KEPT {
            self.kept.push(Finding { subject: subject.to_string(), problem: problem.to_string() });
        }
    }

    /// The first ones.
    pub fn kept(&self) -> &[Finding] {
        &self.kept
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Whether all holds.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }
}

/// Why a verification did not come to its end, and what it had found until then.
#[derive(Debug)]
pub struct BrokenOff<E> {
    /// What does not hold, whatever the rest would have shown.
    pub findings: Findings,
    /// What cannot be had.
    pub error: E,
}

impl<E> From<E> for BrokenOff<E> {
    fn from(error: E) -> Self {
        Self { findings: Findings::default(), error }
    }
}

impl<E> BrokenOff<E> {
    /// The same with another error.
    pub fn map<F>(self, map: impl FnOnce(E) -> F) -> BrokenOff<F> {
        BrokenOff { findings: self.findings, error: map(self.error) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.problem)
    }
}
