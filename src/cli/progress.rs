//! How far a long command has got: a bar on stderr, if that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

use crate::model::Printable;

/// A bar. Where stderr is no terminal, nothing is drawn.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Counts things called `unit`.
    pub(super) fn new(unit: &str) -> Self {
        let template =
            format!("[{{elapsed_precise}}] {{wide_bar}} {{human_pos}} of {{human_len}} {unit}, {{eta}} left");
        let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
        Self(ProgressBar::new(0).with_style(style))
    }

    /// Counts things called `unit` of which nobody knows how many there are.
    pub(super) fn endless(unit: &str) -> Self {
        let template = format!("[{{elapsed_precise}}] {{spinner}} {{human_pos}} {unit}, {{msg}}");
        let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_spinner());
        Self(ProgressBar::no_length().with_style(style))
    }

    /// Shows how many of how many.
    pub(super) fn at(&self, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
    }

    /// Shows how many, and says something beside it.
    pub(super) fn at_with(&self, done: u64, message: String) {
        self.0.set_position(done);
        self.0.set_message(Printable(&message).to_string());
    }

    /// Takes it away.
    pub(super) fn end(&self) {
        self.0.finish_and_clear();
    }
}
