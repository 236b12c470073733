//! The first leaf that is not the one that was sealed.

use std::iter;

use crate::{
    cli::CliError,
    merkle::{Checkpoint, Frontier, Hash, verify_consistency},
    model::leaf::leaf_hash,
    proto::auditlog::v1::{GetConsistencyProofRequest, proof_service_client::ProofServiceClient},
};

use super::walk::{Walk, name_of};

impl Walk<'_> {
    /// The leaves do not make the root. The consistency proofs of the service tell up to where they do: they are made from
    /// what was sealed, and the tree here from what is listed.
    pub(super) async fn find_first_difference(&mut self, checkpoint: &Checkpoint) -> Result<(), CliError> {
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
