//! What an exported file was to have, and what its verification shows of that.

use crate::{
    merkle::VerifierKey,
    verify::{Findings, Manifest},
};

use super::Report;

/// Tells which export it is.
pub(super) fn tell(report: &mut Report, manifest: &Manifest) {
    report.line("export", format!("{}, log size {}", manifest.parent, manifest.log_size));
    report.line("filter", &manifest.filter);
    report.line("order", manifest.order.as_str());
    report.line("covers", covers(manifest));
}

/// Which part of the log the file has, if all else holds. Who is handed a file knows only from here what it leaves out.
fn covers(manifest: &Manifest) -> String {
    let Manifest { parent, log_size, .. } = manifest;
    if manifest.is_of_whole_log() && manifest.proof_columns {
        format!("the whole log of {log_size} leaves")
    } else if manifest.is_of_whole_log() {
        format!("the whole log of {log_size} leaves, by the service's word")
    } else if manifest.filter.is_none() {
        format!("only {parent}, in the log's first {log_size} leaves")
    } else {
        format!("only what the filter chose of {parent}, in the log's first {log_size} leaves")
    }
}

/// Finds what keeps the file from being shown to have the whole log.
pub(super) fn require_whole(manifest: &Manifest, findings: &mut Findings) {
    if !manifest.is_of_whole_log() {
        findings.add("the export", format!("covers {}", covers(manifest)));
    } else if !manifest.proof_columns {
        findings.add("the export", "has no proof columns, without which the rows do not make the log's root");
    }
}

/// What all this shows, and what it does not.
pub(super) fn explain(report: &mut Report, manifest: &Manifest, key: Option<&VerifierKey>, proved: Option<u64>) {
    let is_rebuilt = manifest.is_of_whole_log() && manifest.proof_columns;
    report.shown("the file is, byte for byte, the one that the manifest is about, with all of its rows");
    if key.is_some() {
        report
            .shown(format!("the manifest and its checkpoint of {} are signed by the key", manifest.checkpoint.origin));
    } else {
        report.not_shown(
            "that the operator's key has signed the manifest and its checkpoint: anybody may have made them",
        );
        report.holds_only("consistent with the manifest, whose signatures were not checked (give --verifier-key)");
    }
    let size = manifest.log_size;
    if is_rebuilt && key.is_some() {
        report.shown(format!(
            "complete and genuine: the rows and notes are all {size} leaves of the log, and make the root of its checkpoint"
        ));
    } else if is_rebuilt {
        report.shown(format!("the rows and notes are {size} leaves, and make the root in the manifest's checkpoint"));
    } else if manifest.is_of_whole_log() {
        report.not_shown("that no row is missing: without proof_columns the rows do not make the log's root");
    } else {
        report.not_shown("that no row is missing: of a part of the log, that is the service's word (the manifest)");
    }
    match proved {
        Some(count) => report.shown(format!("each of the {count} rows and notes is in the log of the checkpoint")),
        None if is_rebuilt => (),
        None if manifest.proof_columns => report.not_shown("that the rows are in the log: --proofs shows it"),
        None => report.not_shown("that the rows are in the log: the file was exported without proof_columns"),
    }
}
