//! What is to be proved.

use super::{Decoder, Path, Violations};
use crate::{
    model::{NoteId, Scope},
    proof::InclusionRequest,
    proto::auditlog::v1 as proto,
};

/// The leaves of a reply that asks for no fewer (AIP-158): they are small.
const MAX_LEAVES: u64 = 1000;

/// Which leaves are asked for.
#[derive(Clone, Copy, Debug)]
pub struct LeavesQuery {
    /// The first one.
    pub start: u64,
    /// The most of them.
    pub count: u64,
}

impl Decoder<'_> {
    /// The proof of what `request.name` names within `scope` with the id `event_id`.
    pub fn inclusion(
        mut self,
        request: &proto::GetInclusionProofRequest,
        scope: Scope,
        event_id: &str,
    ) -> Result<InclusionRequest, Violations> {
        let event = self.named_id(event_id);
        let note = self.note_id(&request.note_id);
        let tree_size = self.size("tree_size", request.tree_size).filter(|size| *size > 0);
        self.finish(event.map(|event| InclusionRequest { scope, event, note, tree_size }))
    }

    /// The old size and the new one, of which the current one is `None`.
    pub fn consistency(
        mut self,
        request: &proto::GetConsistencyProofRequest,
    ) -> Result<(u64, Option<u64>), Violations> {
        let old_size = self.size("old_size", request.old_size);
        let new_size = self.size("new_size", request.new_size);
        self.finish(old_size.zip(new_size).map(|(old, new)| (old, Some(new).filter(|size| *size > 0))))
    }

    /// A stretch of leaves.
    pub fn leaves(mut self, request: &proto::ListLeavesRequest) -> Result<LeavesQuery, Violations> {
        let start = self.size("start", request.start);
        let asked = self.size("page_size", request.page_size.into());
        let count = asked.map(|asked| if asked == 0 { MAX_LEAVES } else { MAX_LEAVES.min(asked) });
        self.finish(start.zip(count).map(|(start, count)| LeavesQuery { start, count }))
    }

    /// A number of leaves, which is not negative.
    fn size(&mut self, field: &'static str, size: i64) -> Option<u64> {
        let found = u64::try_from(size).ok();
        self.require(Path::ROOT.field(field), found, format_args!("must not be negative; it is {size}"))
    }

    fn note_id(&mut self, text: &str) -> Option<NoteId> {
        (!text.is_empty()).then(|| self.event_id(Path::ROOT.field("note_id"), text)).flatten()
    }
}
