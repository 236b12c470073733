//! As a client: what the service lists, proves and signs.

use std::iter;

use prost::Message as _;
use tonic::Code;

use crate::{
    cli::{CliError, listed_event, progress::Progress, remote::Remote},
    merkle::{Checkpoint, CheckpointError, Frontier, Hash, VerifierKey, is_of_tenant, verify_consistency},
    model::leaf::leaf_hash,
    proto::auditlog::v1::{
        GetCheckpointRequest, GetConsistencyProofRequest, Leaf, ListEventsRequest, ListLeavesRequest, Order,
        audit_log_service_client::AuditLogServiceClient, leaf::Kind, proof_service_client::ProofServiceClient,
    },
    verify::{Findings, ListedCheck},
};

use super::Report;

/// The most events and leaves of one call.
const PAGE: i32 = 1000;

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
pub(super) async fn verify(remote: &Remote, question: &Question<'_>) -> Result<Answer, CliError> {
    let parent = format!("tenants/{}", question.tenant);
    let client = ProofServiceClient::new(remote.channel.clone());
    let request = GetCheckpointRequest { parent: parent.clone() };
    let reply = remote.call(request, |request| get_checkpoint(client.clone(), request)).await?;
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
    let mut walk = Walk { remote, parent: parent.clone(), check, token: Some(String::new()), refusal: None };
    walk.run().await?;
    if !walk.check.has_root() {
        walk.find_first_difference(&checkpoint).await?;
    }
    let report = walk.check.finish(&format!("the log of {parent}"), question.saved);
    Ok(Answer {
        report: explained(Report::of_log(&parent, report, question.saved), question, &checkpoint),
        checkpoint: reply.checkpoint,
    })
}

async fn get_checkpoint(
    mut client: ProofServiceClient<tonic::transport::Channel>,
    request: tonic::Request<GetCheckpointRequest>,
) -> Result<tonic::Response<crate::proto::auditlog::v1::GetCheckpointResponse>, tonic::Status> {
    client.get_checkpoint(request).await
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

struct Walk<'r> {
    remote: &'r Remote,
    parent: String,
    check: ListedCheck,
    /// Of the next page of events; `None` at the end.
    token: Option<String>,
    /// Why the service lists no leaves, which it does not where rows are missing.
    refusal: Option<String>,
}

impl Walk<'_> {
    async fn run(&mut self) -> Result<(), CliError> {
        let progress = Progress::new("leaves");
        let size = self.check.size();
        while self.check.next() < size {
            progress.at(self.check.next(), size);
            let leaves = self.leaves().await?;
            let count = if leaves.is_empty() { PAGE.unsigned_abs().into() } else { leaves.len() as u64 };
            let end = size.min(self.check.next() + count);
            while !self.check.has_listed(end - 1) && self.list_events().await? {}
            for leaf in &leaves[..leaves.len().min(usize::try_from(end - self.check.next()).unwrap_or(0))] {
                self.check.leaf(leaf, &name_of(leaf));
            }
            while leaves.is_empty() && self.check.next() < end {
                self.check.no_leaf();
            }
        }
        progress.end();
        self.look_beyond().await
    }

    /// What is listed beyond the checkpoint must have been recorded since, so that a later checkpoint covers it.
    async fn look_beyond(&mut self) -> Result<(), CliError> {
        let end = self.present_size().await?;
        while !self.check.has_listed(end) && self.list_events().await? {}
        let Some((position, name)) = self.check.farthest().cloned() else { return Ok(()) };
        let size = self.present_size().await?;
        if position >= size {
            self.check.add(name, format!("is listed at position {position}, and the log has {size} leaves"));
        }
        Ok(())
    }

    async fn present_size(&self) -> Result<u64, CliError> {
        let client = ProofServiceClient::new(self.remote.channel.clone());
        let request = GetCheckpointRequest { parent: self.parent.clone() };
        let reply = self.remote.call(request, |request| get_checkpoint(client.clone(), request)).await?;
        Ok(u64::try_from(reply.tree_size()).unwrap_or(0))
    }

    /// The next leaves; none once the service does not list them. What the events make has to do then.
    async fn leaves(&mut self) -> Result<Vec<Vec<u8>>, CliError> {
        if self.refusal.is_some() {
            return Ok(Vec::new());
        }
        let refusal = match self.leaves_from(self.check.next()).await {
            Ok(leaves) if !leaves.is_empty() => return Ok(leaves),
            Ok(_) => "there are none".to_owned(),
            Err(CliError::Call { failed, .. }) if failed.code() == Code::Internal && !failed.is_temporary() => {
                failed.to_string()
            }
            Err(error) => return Err(error),
        };
        self.refusal = Some(format!("does not list the leaves from position {} on: {refusal}", self.check.next()));
        Ok(Vec::new())
    }

    async fn leaves_from(&self, start: u64) -> Result<Vec<Vec<u8>>, CliError> {
        let client = ProofServiceClient::new(self.remote.channel.clone());
        let start = i64::try_from(start).unwrap_or(i64::MAX);
        let request = ListLeavesRequest { parent: self.parent.clone(), start, page_size: PAGE };
        let send = |request| {
            let mut client = client.clone();
            async move { client.list_leaves(request).await }
        };
        Ok(self.remote.call(request, send).await?.leaves)
    }

    /// Takes the next page of events. Whether there was one.
    async fn list_events(&mut self) -> Result<bool, CliError> {
        let Some(page_token) = self.token.take() else { return Ok(false) };
        let client = AuditLogServiceClient::new(self.remote.channel.clone());
        let request = ListEventsRequest {
            parent: self.parent.clone(),
            page_size: PAGE,
            page_token,
            order: Order::Log.into(),
            ..ListEventsRequest::default()
        };
        let send = |request| {
            let mut client = client.clone();
            async move { client.list_events(request).await }
        };
        let page = self.remote.call(request, send).await?;
        for event in page.events {
            let name = event.name.clone();
            match listed_event::read(event) {
                Ok(event) => self.check.event(&event),
                Err(problem) => self.check.add(name, problem),
            }
        }
        self.token = Some(page.next_page_token).filter(|token| !token.is_empty());
        Ok(true)
    }

    /// The leaves do not make the root. The consistency proofs of the service tell up to where they do: they are made from
    /// what was sealed, and the tree here from what is listed.
    async fn find_first_difference(&mut self, checkpoint: &Checkpoint) -> Result<(), CliError> {
        if let Some(refusal) = self.refusal.take() {
            self.check.add("the service", refusal);
            return Ok(());
        }
        let states = self.check.tree().states().to_vec();
        let Some(begin) = self.last_consistent(&states, checkpoint).await? else { return Ok(()) };
        let leaves = match self.leaves_from(begin.size()).await {
            Ok(leaves) => leaves,
            Err(CliError::Call { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        let first = begin.size();
        let states = states_from(begin, &leaves, checkpoint.size);
        let Some(last) = self.last_consistent(&states, checkpoint).await? else { return Ok(()) };
        let place = usize::try_from(last.size() - first).unwrap_or(usize::MAX);
        let name = leaves.get(place).map_or_else(|| "nothing".to_owned(), |leaf| name_of(leaf));
        let problem = format!(
            "its fields do not make the leaf that was sealed at position {}: one of them was changed since, or something \
             else was there; what comes behind it is not told from it",
            last.size()
        );
        self.check.add(name, problem);
        Ok(())
    }

    /// The last of `states` with which the sealed log begins.
    async fn last_consistent(
        &self,
        states: &[Frontier],
        checkpoint: &Checkpoint,
    ) -> Result<Option<Frontier>, CliError> {
        let (mut holds, mut fails) = (0, states.len());
        while holds + 1 < fails {
            let middle = usize::midpoint(holds, fails);
            match self.is_consistent(&states[middle], checkpoint).await {
                Ok(true) => holds = middle,
                Ok(false) => fails = middle,
                // The findings so far have to do.
                Err(CliError::Call { .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(states.get(holds).cloned())
    }

    async fn is_consistent(&self, state: &Frontier, checkpoint: &Checkpoint) -> Result<bool, CliError> {
        let client = ProofServiceClient::new(self.remote.channel.clone());
        let size = |size| i64::try_from(size).unwrap_or(i64::MAX);
        let request = GetConsistencyProofRequest {
            parent: self.parent.clone(),
            old_size: size(state.size()),
            new_size: size(checkpoint.size),
        };
        let send = |request| {
            let mut client = client.clone();
            async move { client.get_consistency_proof(request).await }
        };
        let proof = self.remote.call(request, send).await?.hashes;
        let hashes: Option<Vec<Hash>> = proof.into_iter().map(|hash| hash.try_into().ok()).collect();
        let verify = |hashes: Vec<Hash>| {
            verify_consistency(state.size(), &state.root(), checkpoint.size, &checkpoint.root, &hashes)
        };
        Ok(hashes.is_some_and(|hashes| verify(hashes).is_ok()))
    }
}

/// What the tree is at `begin` and behind each of the leaves, as far as `size`.
fn states_from(begin: Frontier, leaves: &[Vec<u8>], size: u64) -> Vec<Frontier> {
    let behind = leaves.iter().scan(begin.clone(), |state, leaf| {
        state.push(leaf_hash(leaf));
        Some(state.clone())
    });
    iter::once(begin).chain(behind).take_while(|state| state.size() <= size).collect()
}

/// What a leaf says that it is.
fn name_of(leaf: &[u8]) -> String {
    match Leaf::decode(leaf).map(|leaf| leaf.kind) {
        Ok(Some(Kind::Event(event))) => event.name,
        Ok(Some(Kind::Note(note))) => format!("note {} on {}", note.note_id, note.event_name),
        _ => "a leaf of no known kind".to_owned(),
    }
}
