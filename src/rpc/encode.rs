//! From values of the model to protobuf messages; events go straight from their rows to bytes.

use prost::Message as _;

use crate::{
    model::{
        BodyView, Encoder, ErasureView, EventReceipt, EventView, NoteReceipt, NoteRules, Sealed, UpdateNote,
        view::{ChangeView, ContextView, Text},
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

/// An event with its notes, as an encoded `auditlog.v1.Event`. `rules` say whether it takes more notes.
///
/// # Errors
/// If a column of its row is not the JSON that this service writes.
pub fn event(event: &EventView<'_>, rules: &NoteRules) -> serde_json::Result<Vec<u8>> {
    let mut out = Encoder::with_capacity(event.encoded_bound());
    put_event(&mut out, event, rules)?;
    Ok(out.into_bytes())
}

/// The fields of such an event.
pub fn put_event(out: &mut Encoder, event: &EventView<'_>, rules: &NoteRules) -> serde_json::Result<()> {
    put_name(out, event);
    out.number(2, proto::ActionType::from(event.action) as u64);
    match &event.body {
        Ok(body) => put_content(out, event.resource_type, body)?,
        Err(_) => out.message(3, |resource| resource.text(1, event.resource_type)),
    }
    out.message(9, |time| time.time(event.id.time()));
    out.message(10, |time| time.time(event.sealed.record_time));
    out.present_number(11, event.sealed.leaf_index.cast_unsigned());
    event.body.iter().for_each(|body| out.bytes(12, &body.salt));
    event.notes.iter().for_each(|stored| out.bytes(13, &note(stored.clone()).encode_to_vec()));
    match &event.body {
        Ok(BodyView { recorder, .. }) => {
            out.message(14, |actor| actor.actor(recorder.kind, recorder.id, recorder.name))
        }
        Err(erasure) => put_erasure(out, erasure, &event.sealed),
    }
    let accepts_notes = rules.check(event.resource_type, event.body.is_err(), event.notes.len()).is_ok();
    out.number(17, accepts_notes.into());
    Ok(())
}

fn put_name(out: &mut Encoder, event: &EventView<'_>) {
    let mut id = [0; 36];
    let id = event.id.text(&mut id);
    match event.project {
        "" => out.text_of(1, &["tenants/", event.tenant, "/events/", id]),
        project => out.text_of(1, &["tenants/", event.tenant, "/projects/", project, "/events/", id]),
    }
}

/// The fields 3 to 8.
fn put_content(out: &mut Encoder, resource_type: &str, body: &BodyView<'_>) -> serde_json::Result<()> {
    let BodyView { resource_id, resource_name, actor, message, .. } = *body;
    out.message(3, |part| part.resource(resource_type, resource_id, resource_name));
    out.message(4, |part| part.actor(actor.kind, actor.id, actor.name));
    out.text(5, message);
    for ChangeView { field, old_value, new_value } in body.changes()? {
        let (old, new) = (old_value.as_ref().map(Text::as_str), new_value.as_ref().map(Text::as_str));
        out.message(6, |part| part.change(field.as_str(), old, new));
    }
    if let Some(ContextView { source_ip, user_agent, request_id, trace_id }) = body.context()? {
        let texts = [source_ip.as_str(), user_agent.as_str(), request_id.as_str(), trace_id.as_str()];
        out.message(7, |part| part.texts(texts));
    }
    for (key, value) in body.attributes()? {
        out.message(8, |part| part.texts([key.as_str(), value.as_str()]));
    }
    Ok(())
}

/// What is left of an event when its body is gone, the fields 15 and 16: enough to check its leaf.
fn put_erasure(out: &mut Encoder, erasure: &ErasureView<'_>, sealed: &Sealed) {
    out.message(15, |part| {
        part.message(1, |time| time.time(erasure.time));
        part.text(2, erasure.reason);
    });
    out.bytes(16, &sealed.body_commitment);
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
