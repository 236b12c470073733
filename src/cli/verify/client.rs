//! As a client: what the service lists, proves and signs.

use crate::{
    cli::{CliError, remote::Remote},
    merkle::{Checkpoint, CheckpointError, VerifierKey, is_of_tenant},
    verify::{BrokenOff, Findings, ListedCheck},
};

use super::{
    Report,
    walk::{Walk, get_checkpoint},
};

/// What is verified, and against what.
pub(super) struct Question<'q> {
    pub(super) tenant: &'q str,
    pub(super) key: Option<&'q VerifierKey>,
    pub(super) saved: Option<&'q Checkpoint>,
}

/// What came out, with the checkpoint that the service has signed.
pub(super) struct Answer {
    pub(super) report: Report,
    pub(super) checkpoint: String,
}

/// Verifies the tenant's log as the service shows it.
pub(super) async fn verify(remote: &Remote, question: &Question<'_>) -> Result<Answer, BrokenOff<CliError>> {
    let parent = format!("tenants/{}", question.tenant);
    let reply = get_checkpoint(remote, &parent).await?;
    let checkpoint = match Checkpoint::read(&reply.checkpoint, question.key) {
        Ok(checkpoint) => checkpoint,
        Err(error) => return Ok(Answer { report: unsigned(&parent, &error), checkpoint: reply.checkpoint }),
    };
    let mut check = ListedCheck::new(checkpoint.clone(), question.saved);
    if !is_of_tenant(&checkpoint.origin, question.tenant) {
        check.add("the checkpoint", format!("is of {}, not of {parent}", checkpoint.origin));
    }
    if u64::try_from(reply.tree_size()).ok() != Some(checkpoint.size) || reply.root_hash != checkpoint.root {
        check.add("the checkpoint", "says another size or root than the reply that it came in");
    }
    let (mut walk, log) = (Walk::new(remote, &parent, check), format!("the log of {parent}"));
    if let Err(error) = walk_and_compare(&mut walk, &checkpoint).await {
        if let Some(refusal) = walk.refusal.take() {
            walk.check.add("the service", refusal);
        }
        return Err(BrokenOff { findings: walk.check.break_off(&log, question.saved), error });
    }
    let report = walk.check.finish(&log, question.saved);
    Ok(Answer {
        report: explained(Report::of_log(&parent, report, question.saved), question, &checkpoint),
        checkpoint: reply.checkpoint,
    })
}

async fn walk_and_compare(walk: &mut Walk<'_>, checkpoint: &Checkpoint) -> Result<(), CliError> {
    walk.run().await?;
    match walk.check.has_root() {
        true => Ok(()),
        false => walk.find_first_difference(checkpoint).await,
    }
}

/// Without a checkpoint that can be believed there is nothing to hold the log against.
fn unsigned(parent: &str, error: &CheckpointError) -> Report {
    let mut findings = Findings::default();
    findings.add(format!("the checkpoint of {parent}"), error);
    Report::new(findings)
}

fn explained(mut report: Report, question: &Question<'_>, checkpoint: &Checkpoint) -> Report {
    report.line("checkpoint", &checkpoint.origin);
    report.shown(
        "every event and note that the service lists below the checkpoint's size makes the leaf at its place, and the \
         leaves make the root of the service's checkpoint",
    );
    match question.key {
        Some(_) => {
            report.shown(format!("the checkpoint of {} leaves is signed by {}", checkpoint.size, checkpoint.origin))
        }
        None => report.not_shown("that the operator's key has signed the checkpoint: give --verifier-key"),
    }
    if question.saved.is_none() {
        report.not_shown(
            "that this is the log of yesterday, and the log that others see: compare with a saved checkpoint",
        );
    }
    report.not_shown("when and why a body was erased: that is in no leaf");
    report
}
