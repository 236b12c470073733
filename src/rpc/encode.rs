//! From values of the model to protobuf messages.

use crate::{
    model::{
        Content, Erasure, Event, EventBody, EventName, EventReceipt, NoteReceipt, NoteRules, Sealed, UpdateNote,
        wire::timestamp,
    },
    proof::{Consistency, Inclusion, Leaves, SignedHead},
    proto::auditlog::v1 as proto,
};

/// The receipt of one event.
pub fn event_receipt(receipt: &EventReceipt) -> proto::EventReceipt {
    proto::EventReceipt {
        name: receipt.name.to_string(),
        event_time: Some(timestamp(receipt.name.id.time())),
        record_time: Some(timestamp(receipt.record_time)),
        leaf_index: Some(receipt.leaf_index),
    }
}

/// The reply to an added note.
pub fn note_receipt(receipt: NoteReceipt) -> proto::AddUpdateNoteResponse {
    proto::AddUpdateNoteResponse { event_name: receipt.event.to_string(), note: Some(note(receipt.note)) }
}

/// An event with its notes. `rules` say whether it takes more of them.
pub fn event(event: Event, rules: &NoteRules) -> proto::Event {
    let Event { name, action, resource_type, sealed, body, notes } = event;
    let accepts_update_notes = rules.check(&resource_type, body.is_err(), notes.len()).is_ok();
    let (record_time, leaf_index) = (Some(timestamp(sealed.record_time)), Some(sealed.leaf_index));
    let told = match body {
        Ok(body) => whole(body),
        Err(erasure) => erased(resource_type, &sealed, erasure),
    };
    proto::Event {
        name: name.to_string(),
        action_type: proto::ActionType::from(action).into(),
        event_time: Some(event_time(&name)),
        record_time,
        leaf_index,
        update_notes: notes.into_iter().map(note).collect(),
        accepts_update_notes,
        ..told
    }
}

fn event_time(name: &EventName) -> prost_types::Timestamp {
    timestamp(name.id.time())
}

fn whole(body: EventBody) -> proto::Event {
    let Content { resource, actor, message, changes, context, attributes } = body.content;
    proto::Event {
        resource: Some(resource.into()),
        actor: Some(actor.into()),
        message,
        changes: changes.into_iter().map(Into::into).collect(),
        context: context.map(Into::into),
        attributes,
        salt: body.salt.to_vec(),
        recorder: Some(body.recorder.into()),
        ..proto::Event::default()
    }
}

/// What is left of an event when its body is gone: enough to check its leaf.
fn erased(resource_type: String, sealed: &Sealed, erasure: Erasure) -> proto::Event {
    proto::Event {
        resource: Some(proto::Resource { r#type: resource_type, ..proto::Resource::default() }),
        erasure: Some(proto::Erasure { erase_time: Some(timestamp(erasure.time)), reason: erasure.reason }),
        body_commitment: sealed.body_commitment.to_vec(),
        ..proto::Event::default()
    }
}

/// A head and its checkpoint.
pub fn signed_head(head: SignedHead) -> proto::GetCheckpointResponse {
    let SignedHead { size, root, checkpoint } = head;
    proto::GetCheckpointResponse { checkpoint, tree_size: Some(to_i64(size)), root_hash: root.to_vec() }
}

/// That a leaf is in the log.
pub fn inclusion(inclusion: Inclusion) -> proto::GetInclusionProofResponse {
    let Inclusion { leaf_index, tree_size, leaf, hashes, checkpoint } = inclusion;
    proto::GetInclusionProofResponse {
        leaf_index: Some(to_i64(leaf_index)),
        tree_size: to_i64(tree_size),
        leaf,
        hashes: hashes.iter().map(|hash| hash.to_vec()).collect(),
        checkpoint: checkpoint.unwrap_or_default(),
    }
}

/// That the log has only grown.
pub fn consistency(consistency: Consistency) -> proto::GetConsistencyProofResponse {
    let Consistency { hashes, checkpoint } = consistency;
    let hashes = hashes.iter().map(|hash| hash.to_vec()).collect();
    proto::GetConsistencyProofResponse { hashes, checkpoint: checkpoint.unwrap_or_default() }
}

/// Leaves that follow one another.
pub fn leaves(leaves: Leaves) -> proto::ListLeavesResponse {
    let Leaves { leaves, tree_size } = leaves;
    proto::ListLeavesResponse { leaves, tree_size: to_i64(tree_size) }
}

/// Sizes come from 64-bit columns with a sign.
fn to_i64(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

fn note(note: UpdateNote) -> proto::UpdateNote {
    let UpdateNote { id, sealed, body } = note;
    let (author, text, salt, body_commitment) = match body {
        Some(body) => (Some(body.author.into()), body.text, body.salt.to_vec(), Vec::new()),
        None => (None, String::new(), Vec::new(), sealed.body_commitment.to_vec()),
    };
    proto::UpdateNote {
        note_id: id.to_string(),
        author,
        text,
        create_time: Some(timestamp(sealed.record_time)),
        leaf_index: Some(sealed.leaf_index),
        salt,
        body_commitment,
    }
}
