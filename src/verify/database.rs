//! Verifying straight from the database: rows, tiles and head, each as it stands there.

mod rows;
mod tiles;

use std::time::Duration;

use crate::{
    merkle::{Checkpoint, Hash, TILE_LEVELS, TILE_WIDTH, finished_tiles},
    model::Event,
    store::{AuditReader, AuditRow, NoteOnEvent, StoreError, StoredHead},
};

use self::rows::Rows;
use super::{BrokenOff, Findings, LogReport, MAX_GAP, Recomputed, compare_with_saved, leaves, standing};

/// Why a log could not be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is known of the log from elsewhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected<'e> {
    /// An earlier checkpoint of it.
    pub saved: Option<&'e Checkpoint>,
    /// The public key that signs its checkpoints.
    pub key: Option<[u8; 32]>,
}

/// Verifies the log of one tenant in the database at `url`, over one connection that cannot write. No statement may take
/// longer than `timeout`. `progress` is told how many leaves have passed, and how many there are.
///
/// # Errors
/// If the database cannot be had, or read to its end. Whatever stands in it is a finding.
pub fn verify_database(
    url: &str,
    timeout: Duration,
    tenant: &str,
    expected: Expected<'_>,
    progress: impl FnMut(u64, u64),
) -> Result<LogReport, BrokenOff<VerifyError>> {
    let mut reader = AuditReader::open(url, timeout, tenant).map_err(VerifyError::from)?;
    let head = reader.head().map_err(VerifyError::from)?;
    let mut check = DatabaseCheck::new(&mut reader, tenant, head.as_ref(), expected.saved);
    let result = check.run(head, expected.key, progress);
    // Also where the rest cannot be read: a log that was rolled back, or is another one, is no less so.
    check.compare(expected.saved);
    match result {
        Ok(()) => Ok(check.finish()),
        Err(error) => Err(BrokenOff { findings: check.report.findings, error: error.into() }),
    }
}

struct DatabaseCheck<'r> {
    reader: &'r mut AuditReader,
    log: String,
    /// What the head says.
    size: u64,
    epoch: u32,
    tree: Recomputed,
    is_tree_lost: bool,
    /// The position that comes next.
    next: u64,
    /// The leaves of the tile that is being walked through: name, and the hash in the row, if there is a row.
    window: Vec<(String, Option<Hash>)>,
    /// What has the position before.
    last: String,
    report: LogReport,
}

impl<'r> DatabaseCheck<'r> {
    fn new(reader: &'r mut AuditReader, tenant: &str, head: Option<&StoredHead>, saved: Option<&Checkpoint>) -> Self {
        Self {
            reader,
            log: format!("the log of tenants/{tenant}"),
            epoch: standing::epoch(head),
            size: head.map_or(0, |head| u64::try_from(head.size).unwrap_or(0)),
            tree: Recomputed::new(saved.map(|saved| saved.size)),
            is_tree_lost: false,
            next: 0,
            window: Vec::new(),
            last: String::new(),
            report: LogReport {
                size: 0,
                root: [0; 32],
                events: 0,
                notes: 0,
                has_key: true,
                findings: Findings::default(),
            },
        }
    }

    fn run(
        &mut self,
        head: Option<StoredHead>,
        key: Option<[u8; 32]>,
        progress: impl FnMut(u64, u64),
    ) -> Result<(), StoreError> {
        self.walk(progress)?;
        self.close_window()?;
        if let Some(head) = head.filter(|_| !self.is_tree_lost) {
            self.compare_frontier(&head);
        }
        self.find_strays()?;
        self.check_standing(key)
    }

    /// Events and notes as one sequence.
    fn walk(&mut self, mut progress: impl FnMut(u64, u64)) -> Result<(), StoreError> {
        let below = i64::try_from(self.size).unwrap_or(i64::MAX);
        let (mut events, mut notes) = (Rows::<Event>::default(), Rows::<NoteOnEvent>::default());
        loop {
            let page = events.fill(|after| self.reader.events(after, below))?;
            let page = notes.fill(|after| self.reader.notes(after, below))? || page;
            if page {
                progress(self.next, self.size);
            }
            match (events.place(), notes.place()) {
                (None, None) => break,
                (Some(event), note) if note.is_none_or(|note| event <= note) => {
                    events.page.pop_front().into_iter().try_for_each(|row| self.event(row))?;
                }
                _ => notes.page.pop_front().into_iter().try_for_each(|row| self.note(row))?,
            }
        }
        self.skip_to(self.size)?;
        progress(self.next, self.size);
        Ok(())
    }

    fn event(&mut self, row: AuditRow<Event>) -> Result<(), StoreError> {
        self.report.events += 1;
        let findings = &mut self.report.findings;
        match (&row.content, &row.leaf_hash) {
            (Ok(event), Ok(stored)) => leaves::check_event(&row.name, event, stored, findings),
            (Err(bad), _) | (_, Err(bad)) => findings.add(&row.name, bad),
        }
        self.place(row.leaf_index, row.name, row.leaf_hash.ok())
    }

    fn note(&mut self, row: AuditRow<NoteOnEvent>) -> Result<(), StoreError> {
        self.report.notes += 1;
        let findings = &mut self.report.findings;
        match (&row.content, &row.leaf_hash) {
            (Ok((event, note)), Ok(stored)) => {
                leaves::check_note(&row.name, event.as_ref(), note, stored, findings);
            }
            (Err(bad), _) | (_, Err(bad)) => findings.add(&row.name, bad),
        }
        self.place(row.leaf_index, row.name, row.leaf_hash.ok())
    }

    /// Each position once, and none left out.
    fn place(&mut self, position: i64, name: String, hash: Option<Hash>) -> Result<(), StoreError> {
        let position = u64::try_from(position).unwrap_or(0);
        if position < self.next {
            let problem = format!("leaf_index {position} is taken by {} as well", self.last);
            self.report.findings.add(name, problem);
            return Ok(());
        }
        self.skip_to(position)?;
        self.last.clone_from(&name);
        self.take(name, hash)
    }

    fn skip_to(&mut self, position: u64) -> Result<(), StoreError> {
        let missing = self.next..position;
        match position.saturating_sub(self.next) {
            0 => return Ok(()),
            1 => self.report.findings.add(format!("position {}", self.next), "no event and no note has it"),
            _ => self
                .report
                .findings
                .add(format!("positions {} to {}", self.next, position - 1), "no event and no note has any of them"),
        }
        if missing.end - missing.start > MAX_GAP {
            self.is_tree_lost = true;
        }
        if self.is_tree_lost {
            self.next = position;
            return Ok(());
        }
        missing.into_iter().try_for_each(|position| self.take(format!("position {position}"), None))
    }

    fn take(&mut self, name: String, hash: Option<Hash>) -> Result<(), StoreError> {
        self.next += 1;
        if self.is_tree_lost {
            return Ok(());
        }
        self.window.push((name, hash));
        if self.window.len() as u64 == TILE_WIDTH { self.close_window() } else { Ok(()) }
    }

    /// Rows and tiles that are in no log. The log may have grown since the walk began, which is no fault.
    fn find_strays(&mut self) -> Result<(), StoreError> {
        let mut tiles = Vec::new();
        for level in 0..TILE_LEVELS {
            let beyond = self.reader.tiles_from(level, finished_tiles(self.size, level))?;
            tiles.extend(beyond.into_iter().map(|index| (i16::from(level), index)));
        }
        let other = self.reader.tiles_of_other_levels(TILE_LEVELS)?;
        let size = self.reader.head()?.map_or(0, |head| u64::try_from(head.size).unwrap_or(0));
        let findings = &mut self.report.findings;
        if size < self.size {
            findings.add(&self.log, format!("went back from {} leaves to {size} while it was read", self.size));
        }
        let is_finished = |(level, index): &(i16, i64)| {
            let index = u64::try_from(*index);
            index.is_ok_and(|index| index < finished_tiles(size, u8::try_from(*level).unwrap_or(TILE_LEVELS)))
        };
        for (level, index) in tiles.into_iter().filter(|tile| !is_finished(tile)).chain(other) {
            findings.add(format!("tile {level}/{index}"), format!("is beyond the head, which says {size} leaves"));
        }
        for (name, position) in self.reader.strays()? {
            findings.add(name, format!("leaf_index {position} is not in the log, whose head says {size} leaves"));
        }
        Ok(())
    }

    /// Whose key signs the log, and which of its epochs were acknowledged.
    fn check_standing(&mut self, key: Option<[u8; 32]>) -> Result<(), StoreError> {
        let findings = &mut self.report.findings;
        self.report.has_key = standing::check_key(self.reader, key, findings)?;
        standing::check_epochs(self.reader, &self.log, self.epoch, findings)
    }

    fn compare(&mut self, saved: Option<&Checkpoint>) {
        let (log, findings) = (&self.log, &mut self.report.findings);
        if self.is_tree_lost {
            findings.add(log, "the tree cannot be made: too many leaves are missing in a row");
        }
        compare_with_saved(log, self.size, self.epoch, self.tree.root_at(), saved, findings);
    }

    fn finish(self) -> LogReport {
        LogReport { size: self.size, root: self.tree.root(), ..self.report }
    }
}
