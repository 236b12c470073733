//! The service `auditlog.v1.ProofService`.
//!
//! Its methods go the same way as those of `AuditLogService`: who calls; the scope named; the caller's rights on the tenant,
//! whose log it is; the other fields; and only then the store.

use tonic::{Request, Response, Status, async_trait};

use super::{Api, call::Call, decode, encode, status::Failure};
use crate::{
    auth::{Permit, Prove},
    proof::{ProveError, Prover},
    proto::auditlog::v1::{
        GetCheckpointRequest, GetCheckpointResponse, GetConsistencyProofRequest, GetConsistencyProofResponse,
        GetInclusionProofRequest, GetInclusionProofResponse, ListLeavesRequest, ListLeavesResponse,
        proof_service_server::ProofService,
    },
    store::Store,
};

#[async_trait]
impl ProofService for Api {
    async fn get_checkpoint(
        &self,
        request: Request<GetCheckpointRequest>,
    ) -> Result<Response<GetCheckpointResponse>, Status> {
        let (call, message) = Call::open(request);
        call.reply(self.checkpoint(&call, &message).await)
    }

    async fn get_inclusion_proof(
        &self,
        request: Request<GetInclusionProofRequest>,
    ) -> Result<Response<GetInclusionProofResponse>, Status> {
        let (call, message) = Call::open(request);
        call.reply(self.inclusion(&call, &message).await)
    }

    async fn get_consistency_proof(
        &self,
        request: Request<GetConsistencyProofRequest>,
    ) -> Result<Response<GetConsistencyProofResponse>, Status> {
        let (call, message) = Call::open(request);
        call.reply(self.consistency(&call, &message).await)
    }

    async fn list_leaves(&self, request: Request<ListLeavesRequest>) -> Result<Response<ListLeavesResponse>, Status> {
        let (call, message) = Call::open(request);
        self.give(&call, self.leaves(&call, &message).await)
    }
}

impl Api {
    async fn checkpoint(&self, call: &Call, message: &GetCheckpointRequest) -> Result<GetCheckpointResponse, Failure> {
        let principal = call.principal()?;
        let tenant = decode::tenant(&message.parent)?;
        call.concerns(&tenant);
        let permit = self.authorizer.prove(principal, &tenant)?;
        let head = self.prove(&permit, |prover, permit| async move { prover.checkpoint(&permit).await }).await?;
        call.reads(&permit).await?;
        Ok(encode::signed_head(head))
    }

    async fn inclusion(
        &self,
        call: &Call,
        message: &GetInclusionProofRequest,
    ) -> Result<GetInclusionProofResponse, Failure> {
        let principal = call.principal()?;
        let (scope, id) = decode::scope_of_name(&message.name)?;
        call.concerns(&scope);
        let permit = self.authorizer.prove(principal, &scope)?;
        let request = self.decoder().inclusion(message, scope, id)?;
        let missing = if request.note.is_some() { Failure::NoteNotFound } else { Failure::EventNotFound };
        let proving = |prover: Prover<Store>, permit| async move { prover.inclusion(&permit, request).await };
        let inclusion = self.prove(&permit, proving).await?;
        call.reads(&permit).await?;
        Ok(encode::inclusion(inclusion.ok_or(missing)?))
    }

    async fn consistency(
        &self,
        call: &Call,
        message: &GetConsistencyProofRequest,
    ) -> Result<GetConsistencyProofResponse, Failure> {
        let principal = call.principal()?;
        let tenant = decode::tenant(&message.parent)?;
        call.concerns(&tenant);
        let permit = self.authorizer.prove(principal, &tenant)?;
        let (old_size, new_size) = self.decoder().consistency(message)?;
        let proving =
            |prover: Prover<Store>, permit| async move { prover.consistency(&permit, old_size, new_size).await };
        let consistency = self.prove(&permit, proving).await?;
        call.reads(&permit).await?;
        Ok(encode::consistency(consistency))
    }

    async fn leaves(&self, call: &Call, message: &ListLeavesRequest) -> Result<ListLeavesResponse, Failure> {
        let principal = call.principal()?;
        let tenant = decode::tenant(&message.parent)?;
        call.concerns(&tenant);
        let permit = self.authorizer.prove(principal, &tenant)?;
        let query = self.decoder().leaves(message)?;
        let proving =
            |prover: Prover<Store>, permit| async move { prover.leaves(&permit, query.start, query.count).await };
        let leaves = self.prove(&permit, proving).await?;
        call.reads(&permit).await?;
        Ok(encode::leaves(leaves))
    }

    /// Proves when it is the caller's turn to read.
    async fn prove<T, P>(
        &self,
        permit: &Permit<Prove>,
        proving: impl FnOnce(Prover<Store>, Permit<Prove>) -> P,
    ) -> Result<T, Failure>
    where
        T: Send + 'static,
        P: Future<Output = Result<T, ProveError>> + Send + 'static,
    {
        let proving = proving(self.prover.clone(), permit.clone());
        Ok(self.query.in_turn(permit.principal(), proving).await??)
    }
}
