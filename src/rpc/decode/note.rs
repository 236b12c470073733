//! The note that a caller asks to add.

use super::{Decoder, Path, Violations};
use crate::{
    model::{
        IdOrigin, NameError, NoteDraft, TextRule,
        time_id::{EventId, NoteId, TimeId},
    },
    proto::auditlog::v1 as proto,
};

impl Decoder<'_> {
    /// The note for the event that `request.name` names with the id `event_id`. `fresh` is an id of the server's at the
    /// present time.
    pub fn note(
        mut self,
        request: &proto::AddUpdateNoteRequest,
        event_id: &str,
        fresh: TimeId,
    ) -> Result<NoteDraft, Violations> {
        let event_id = self.named_id(event_id);
        let identity = self.note_identity(&request.note_id, fresh);
        self.text(Path::ROOT.field("text"), &request.text, TextRule::required(self.limits.note_bytes));
        let draft = event_id.zip(identity).map(|(event_id, (id, id_origin))| NoteDraft {
            id,
            id_origin,
            event_id,
            text: request.text.clone(),
        });
        self.finish(draft)
    }

    pub(super) fn named_id(&mut self, text: &str) -> Option<EventId> {
        let refuse = |error| self.refuse(Path::ROOT.field("name"), NameError::from(error));
        EventId::parse(text).map_err(refuse).ok()
    }

    /// Unlike an event's, a note's time is not the one in its id but that of the commit, so any time is fine in it.
    fn note_identity(&mut self, text: &str, fresh: TimeId) -> Option<(NoteId, IdOrigin)> {
        match text {
            "" => Some((fresh, IdOrigin::Server)),
            _ => Some((self.event_id(Path::ROOT.field("note_id"), text)?, IdOrigin::Client)),
        }
    }
}
