//! The first links: from fields to commitments and leaves.

use crate::model::{
    ActionType, Event, EventName, UpdateNote,
    leaf::{self, Hash, leaf_hash},
};

use super::Findings;

const EVENT_BODY: &str = "body_commitment does not fit the body: it, resource_type, resource_id, resource_name, actor_type, \
                          actor_id, actor_name, recorder_type, recorder_id, recorder_name, message, changes, context, \
                          attributes or salt was changed";
const EVENT_LEAF: &str = "leaf_hash does not fit the leaf: it, tenant_id, project_id, event_id, action_type, resource_type, \
                          record_time or body_commitment was changed";
const NOTE_BODY: &str =
    "body_commitment does not fit the body: it, author_type, author_id, author_name, text or salt was changed";
const NOTE_LEAF: &str = "leaf_hash does not fit the leaf: it, note_id, event_id, create_time, body_commitment or the \
                         project of its event was changed";
const COMMITMENT: &str = "body_commitment was changed: leaf_hash fits the commitment that the body makes";

fn leaf_with(event: &Event, action: ActionType, commitment: &Hash) -> Vec<u8> {
    leaf::event_leaf(&event.name, action, &event.resource_type, event.sealed.record_time, commitment)
}

/// Holds what stands in an event's row together.
pub(super) fn check_event(name: &str, event: &Event, stored: &Hash, findings: &mut Findings) {
    let (made, kept) = (leaf::commitment_of_event(event), event.sealed.body_commitment);
    let hash = |action, commitment| leaf_hash(&leaf_with(event, action, commitment));
    let (body_fits, leaf_fits) = (made == kept, hash(event.action, &kept) == *stored);
    if !body_fits && hash(event.action, &made) == *stored {
        return findings.add(name, COMMITMENT);
    }
    if !body_fits {
        findings.add(name, EVENT_BODY);
    }
    if leaf_fits {
        return;
    }
    match ActionType::ALL.into_iter().find(|&action| hash(action, &kept) == *stored) {
        Some(action) => findings.add(
            name,
            format!("action_type was changed: it is {}, and leaf_hash fits {}", event.action.as_str(), action.as_str()),
        ),
        None => findings.add(name, EVENT_LEAF),
    }
}

/// Holds what stands in a note's row together.
pub(super) fn check_note(
    name: &str,
    event: Option<&EventName>,
    note: &UpdateNote,
    stored: &Hash,
    findings: &mut Findings,
) {
    let (made, kept) = (leaf::commitment_of_note(note), note.sealed.body_commitment);
    let Some(event) = event else {
        findings.add(name, "its event is not there: event_id of the note was changed, or the event was removed");
        if made != kept {
            findings.add(name, NOTE_BODY);
        }
        return;
    };
    let fits = |commitment| leaf_hash(&leaf::note_leaf(event, note.id, note.sealed.record_time, commitment)) == *stored;
    match (made == kept, fits(&kept)) {
        (true, true) => (),
        (false, _) if fits(&made) => findings.add(name, COMMITMENT),
        (body_fits, leaf_fits) => {
            if !body_fits {
                findings.add(name, NOTE_BODY);
            }
            if !leaf_fits {
                findings.add(name, NOTE_LEAF);
            }
        }
    }
}
