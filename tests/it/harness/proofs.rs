//! Proofs, asked for at the boundary and checked with our verifiers.

use auditlog::{
    merkle::{Checkpoint, CheckpointKey, Hash, VerifierKey, checkpoint_name},
    proto::auditlog::v1::{
        GetCheckpointRequest, GetCheckpointResponse, GetConsistencyProofRequest, GetConsistencyProofResponse,
        GetInclusionProofRequest, GetInclusionProofResponse, ListLeavesRequest, ListLeavesResponse,
        proof_service_client::ProofServiceClient,
    },
};
use tonic::{Status, transport::Channel};

use super::{Caller, Database, TestApp};

impl Database {
    /// The key that signs for it.
    pub fn key(&self) -> CheckpointKey {
        CheckpointKey::parse(&std::fs::read_to_string(self.key_file()).unwrap()).unwrap()
    }

    /// What verifies the log of `tenants/{tenant}`, named as the settings are by default.
    pub fn verifier_key(&self, tenant: &str) -> String {
        self.key().verifier_key(&checkpoint_name("auditlog.local", tenant))
    }
}

impl TestApp {
    pub fn proofs(&self) -> ProofServiceClient<Channel> {
        ProofServiceClient::new(self.channel.clone())
    }

    pub async fn checkpoint(&self, caller: &Caller, parent: &str) -> Result<GetCheckpointResponse, Status> {
        let request = GetCheckpointRequest { parent: parent.to_owned() };
        Ok(self.proofs().get_checkpoint(caller.call(request)).await?.into_inner())
    }

    pub async fn inclusion(
        &self,
        caller: &Caller,
        name: &str,
        note_id: &str,
        tree_size: i64,
    ) -> Result<GetInclusionProofResponse, Status> {
        let request = GetInclusionProofRequest { name: name.to_owned(), tree_size, note_id: note_id.to_owned() };
        Ok(self.proofs().get_inclusion_proof(caller.call(request)).await?.into_inner())
    }

    pub async fn consistency(
        &self,
        caller: &Caller,
        parent: &str,
        old_size: i64,
        new_size: i64,
    ) -> Result<GetConsistencyProofResponse, Status> {
        let request = GetConsistencyProofRequest { parent: parent.to_owned(), old_size, new_size };
        Ok(self.proofs().get_consistency_proof(caller.call(request)).await?.into_inner())
    }

    pub async fn leaves(
        &self,
        caller: &Caller,
        parent: &str,
        start: i64,
        page_size: i32,
    ) -> Result<ListLeavesResponse, Status> {
        let request = ListLeavesRequest { parent: parent.to_owned(), start, page_size };
        Ok(self.proofs().list_leaves(caller.call(request)).await?.into_inner())
    }

    /// All leaves, page by page.
    pub async fn all_leaves(&self, caller: &Caller, parent: &str) -> Vec<Vec<u8>> {
        let mut leaves = Vec::new();
        loop {
            let page = self.leaves(caller, parent, leaves.len() as i64, 0).await.unwrap();
            leaves.extend(page.leaves);
            if leaves.len() as i64 == page.tree_size {
                return leaves;
            }
        }
    }
}

/// A checkpoint whose signature is good under the key that `auditlog key show` prints.
#[track_caller]
pub fn verified(checkpoint: &str, key: &str) -> Checkpoint {
    Checkpoint::verify(checkpoint, &VerifierKey::parse(key).unwrap()).unwrap()
}

pub fn hashes(hashes: &[Vec<u8>]) -> Vec<Hash> {
    hashes.iter().map(|hash| hash.as_slice().try_into().unwrap()).collect()
}
