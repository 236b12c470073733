//! What is printed of a verification: lines of `key: value`, for people and for programs.

use std::{fmt::Display, io};

use crate::{
    cli::{CliError, one_line},
    merkle::Checkpoint,
    model::Printable,
    verify::{BrokenOff, Findings, LogReport},
};

/// What was found.
#[derive(Debug)]
pub(super) struct Report {
    lines: Vec<(&'static str, String)>,
    findings: Findings,
    shown: Vec<String>,
    not_shown: Vec<String>,
    is_of_empty_log: bool,
    /// What is printed as the result if there is no finding.
    result: &'static str,
}

impl Report {
    pub(super) fn new(findings: Findings) -> Self {
        Self {
            lines: Vec::new(),
            findings,
            shown: Vec::new(),
            not_shown: Vec::new(),
            is_of_empty_log: false,
            result: "holds",
        }
    }

    /// Of a whole log; `saved` is the checkpoint that it was compared with.
    pub(super) fn of_log(scope: &str, log: LogReport, saved: Option<&Checkpoint>) -> Self {
        let LogReport { size, root, events, notes, findings, .. } = log;
        let mut report = Self::new(findings);
        report.is_of_empty_log = size == 0;
        report.line("log", scope);
        report.line("size", size);
        report.line("events", events);
        report.line("notes", notes);
        report.line("root", hex::encode(root));
        if let Some(saved) = saved {
            report.shown(format!("the log extends the saved checkpoint of {} leaves", saved.size));
        }
        report
    }

    /// Of a verification that did not come to its end. What it had found by then does not hold, whatever the rest would have shown;
    /// where that is nothing, there is only the error.
    pub(super) fn of_broken_off(broken_off: BrokenOff<CliError>) -> Result<Self, CliError> {
        let BrokenOff { findings, error } = broken_off;
        if findings.is_empty() {
            return Err(error);
        }
        let mut report = Self::new(findings);
        report.line("broke off", one_line(&error));
        Ok(report)
    }

    pub(super) fn line(&mut self, key: &'static str, value: impl ToString) {
        self.lines.push((key, value.to_string()));
    }

    /// Adds what all of it shows, if there is no finding.
    pub(super) fn shown(&mut self, what: impl Into<String>) {
        self.shown.push(what.into());
    }

    /// Adds what it does not show in any case.
    pub(super) fn not_shown(&mut self, what: impl Into<String>) {
        self.not_shown.push(what.into());
    }

    /// Says in place of `holds` that less than that was found.
    pub(super) fn holds_only(&mut self, result: &'static str) {
        self.result = result;
    }

    /// Refuses a log without a leaf: nothing of it was checked, and its name may be misspelled.
    pub(super) fn require_log(&self, tenant: &str) -> Result<(), CliError> {
        match self.is_of_empty_log && self.holds() {
            true => Err(CliError::NoSuchLog(tenant.to_owned())),
            false => Ok(()),
        }
    }

    pub(super) fn holds(&self) -> bool {
        self.findings.is_empty()
    }

    /// Prints it; the error is that it does not hold.
    pub(super) fn print(&self) -> Result<(), CliError> {
        self.write(&mut io::stdout().lock()).map_err(|error| CliError::Io("write to standard output", error))?;
        match self.findings.total() {
            0 => Ok(()),
            total => Err(CliError::DoesNotHold(total)),
        }
    }

    fn write(&self, out: &mut impl io::Write) -> io::Result<()> {
        let total = self.findings.total();
        self.lines.iter().try_for_each(|(key, value)| entry(out, key, value))?;
        self.findings.kept().iter().try_for_each(|finding| entry(out, "finding", finding))?;
        if total > self.findings.kept().len() as u64 {
            writeln!(out, "more findings: {}", total - self.findings.kept().len() as u64)?;
        }
        if self.holds() {
            self.shown.iter().try_for_each(|what| entry(out, "shown", what))?;
            self.not_shown.iter().try_for_each(|what| entry(out, "not shown", what))?;
        }
        writeln!(out, "result: {}", if self.holds() { self.result } else { "does not hold" })?;
        out.flush()
    }
}

/// One line. What is told there may be named by whom all this is to verify.
fn entry(out: &mut impl io::Write, key: &str, value: impl Display) -> io::Result<()> {
    writeln!(out, "{key}: {}", Printable(&value.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name that would print a verdict of its own, and hide the true one.
    const FORGED: &str = "x\nresult: holds\n\u{1b}[8m";

    fn printed(report: &Report) -> String {
        let mut out = Vec::new();
        report.write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_name_forges_no_line_and_hides_none() {
        let mut findings = Findings::default();
        findings.add(FORGED, "is listed at position 1, where the log has no leaf");
        findings.add("the service", FORGED);
        let mut report = Report::new(findings);
        report.line("checkpoint", FORGED);
        assert_eq!(
            printed(&report),
            "checkpoint: x\\nresult: holds\\n\\u{1b}[8m\n\
             finding: x\\nresult: holds\\n\\u{1b}[8m: is listed at position 1, where the log has no leaf\n\
             finding: the service: x\\nresult: holds\\n\\u{1b}[8m\n\
             result: does not hold\n"
        );
        let mut report = Report::new(Findings::default());
        report.shown(FORGED);
        report.not_shown(FORGED);
        let text = printed(&report);
        assert!(text.lines().count() == 3 && !text.contains('\u{1b}') && text.ends_with("\nresult: holds\n"), "{text}");
    }

    #[test]
    fn a_long_name_leaves_room_for_what_is_wrong() {
        let mut findings = Findings::default();
        findings.add("x".repeat(1 << 20), "is not there");
        let text = printed(&Report::new(findings));
        assert!(text.len() < 5000 && text.contains("x: is not there\n"), "{} bytes", text.len());
    }
}
