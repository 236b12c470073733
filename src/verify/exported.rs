//! Verifying an exported file against its manifest, from its bytes alone.

use std::io::{self, Read};

use crate::model::{
    Event, Position,
    leaf::{self, leaf_hash},
};

use super::{
    BrokenOff, Findings, Recomputed,
    csv_rows::{CsvRow, CsvRows, Unreadable},
    manifest::Manifest,
};

/// What an exported file turned out to be.
#[derive(Debug)]
pub struct ExportReport {
    /// Rows, without the header row.
    pub rows: u64,
    /// How many leaves they make, if they have what it takes.
    pub leaves: u64,
    /// The row that could not be read, and why, of a file which is, all the same, the one that the manifest is about.
    pub unread: Option<String>,
    /// What does not hold.
    pub findings: Findings,
}

/// One leaf of the file: 48 bytes of memory.
struct Leaf {
    position: u64,
    hash: [u8; 32],
    row: u64,
}

/// Reads the whole file. `progress` is told how many bytes have passed.
///
/// For the log of a whole tenant it keeps 48 bytes for each leaf, because the rows may come in another order than the
/// leaves; for any other export, next to nothing.
///
/// # Errors
/// If the file cannot be had. Whatever stands in it is a finding.
pub fn check_export(
    file: impl Read,
    manifest: &Manifest,
    mut progress: impl FnMut(u64),
) -> Result<ExportReport, BrokenOff<io::Error>> {
    let mut check = ExportCheck {
        manifest,
        leaves: Vec::new(),
        count: 0,
        rows: 0,
        last: None,
        unread: None,
        findings: Findings::default(),
    };
    let walked = match CsvRows::open(file) {
        Ok(mut rows) => check.walk(&mut rows, &mut progress),
        Err(Unreadable::File(error)) => Err(error),
        Err(Unreadable::Content(problem)) => {
            check.findings.add("the header row", problem);
            Ok(())
        }
    };
    if let Err(error) = walked {
        return Err(BrokenOff { findings: check.findings, error });
    }
    if manifest.is_of_whole_log() && manifest.proof_columns && check.unread.is_none() {
        check.rebuild();
    }
    let ExportCheck { rows, count, findings, unread, .. } = check;
    Ok(ExportReport { rows, leaves: count, unread, findings })
}

struct ExportCheck<'m> {
    manifest: &'m Manifest,
    leaves: Vec<Leaf>,
    count: u64,
    rows: u64,
    /// The place of the row before, and what it is.
    last: Option<(Position, String)>,
    unread: Option<String>,
    findings: Findings,
}

/// What a finding calls a row.
pub fn row_name(number: u64, id: &str) -> String {
    format!("row {number} (event {id})")
}

impl ExportCheck<'_> {
    fn walk(&mut self, rows: &mut CsvRows<impl Read>, progress: &mut impl FnMut(u64)) -> io::Result<()> {
        if rows.has_proof_columns() != self.manifest.proof_columns {
            self.findings.add("the header row", "has not the columns that the manifest tells");
        }
        loop {
            match rows.next_row() {
                Ok(Some(row)) => self.row(row, rows.has_proof_columns()),
                Ok(None) => break,
                Err(Unreadable::File(error)) => return Err(error),
                Err(Unreadable::Content(problem)) => return self.stop(rows, &problem),
            }
            if self.rows.is_multiple_of(1024) {
                progress(rows.bytes());
            }
        }
        progress(rows.bytes());
        if self.rows != self.manifest.row_count {
            let problem = format!("has {} rows, and by its manifest {}", self.rows, self.manifest.row_count);
            self.findings.add("the file", problem);
        }
        if rows.sha256() != self.manifest.sha256 {
            self.findings.add("the file", "its bytes are not those that the service sent: SHA-256 differs");
        }
        Ok(())
    }

    /// The file cannot be read on. That is a finding only of a file that was changed: what the service has sent may be too much for
    /// this program.
    fn stop(&mut self, rows: &mut CsvRows<impl Read>, problem: &str) -> io::Result<()> {
        let name = format!("row {}", self.rows + 1);
        rows.skip_rest()?;
        match rows.sha256() == self.manifest.sha256 {
            true => self.unread = Some(format!("{name} {problem}")),
            false => self.findings.add(name, problem),
        }
        Ok(())
    }

    fn row(&mut self, row: CsvRow, can_verify: bool) {
        self.rows = row.number;
        let name = row_name(row.number, &row.id);
        match row.event {
            Err(_) if !can_verify => (),
            Err(problem) => self.findings.add(name, problem),
            Ok(event) => self.event(name, row.number, &event),
        }
    }

    fn event(&mut self, name: String, row: u64, event: &Event) {
        if !self.manifest.parent.contains(&event.name.scope) {
            self.findings.add(&name, format!("is not in {}", self.manifest.parent));
        }
        self.require_order(&name, event);
        self.leaf(&name, row, event.sealed.leaf_index, || leaf::of_event(event));
        for note in &event.notes {
            let name = format!("the note {} in {name}", note.id);
            self.leaf(&name, row, note.sealed.leaf_index, || leaf::of_note(&event.name, note));
        }
    }

    fn require_order(&mut self, name: &str, event: &Event) {
        let here = Position::of(event.name.id, event.sealed.leaf_index, self.manifest.order);
        if let Some((last, before)) = self.last.replace((here, name.to_owned()))
            && !here.is_behind(last, self.manifest.order)
        {
            self.findings.add(name, format!("stands behind {before}, against the order of the export"));
        }
    }

    fn leaf(&mut self, name: &str, row: u64, position: i64, make: impl FnOnce() -> Vec<u8>) {
        self.count += 1;
        let position = u64::try_from(position).unwrap_or(u64::MAX);
        if position >= self.manifest.log_size {
            let problem =
                format!("leaf_index {position} is not below the export's log size, {}", self.manifest.log_size);
            return self.findings.add(name, problem);
        }
        if self.manifest.is_of_whole_log() {
            self.leaves.push(Leaf { position, hash: leaf_hash(&make()), row });
        }
    }

    /// Rebuilds the tree, for which every leaf must be there, once.
    fn rebuild(&mut self) {
        let mut leaves = std::mem::take(&mut self.leaves);
        leaves.sort_unstable_by_key(|leaf| (leaf.position, leaf.row));
        let (mut tree, mut next, mut is_complete) = (Recomputed::new(None), 0, true);
        for leaf in &leaves {
            if leaf.position < next {
                self.findings.add(format!("row {}", leaf.row), format!("leaf_index {} comes twice", leaf.position));
                is_complete = false;
                continue;
            }
            is_complete &= self.require_none_missing(next, leaf.position);
            next = leaf.position + 1;
            if is_complete {
                tree.push(&[leaf.hash]);
            }
        }
        is_complete &= self.require_none_missing(next, self.manifest.log_size);
        if is_complete && tree.root() != self.manifest.checkpoint.root {
            self.findings.add(
                "the file",
                "its rows do not make the root of the checkpoint: a cell was changed; --proofs tells in which row",
            );
        }
    }

    fn require_none_missing(&mut self, from: u64, to: u64) -> bool {
        match to.saturating_sub(from) {
            0 => return true,
            1 => self.findings.add(format!("position {from}"), "no row and no note has it: it was dropped"),
            _ => self.findings.add(
                format!("positions {from} to {}", to - 1),
                "no row and no note has any of them: they were dropped",
            ),
        }
        false
    }
}
