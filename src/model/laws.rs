//! What holds of names, whatever comes in.

use super::{ActorView, BodyView, ErasureView, Event, EventId, EventName, EventView, Scope, TextRule, TraceId};

/// A text that is a name is shown as it came, so that no two texts mean one thing.
pub fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(scope) = Scope::parse(text) {
        assert_eq!(scope.to_string(), text);
        assert!(scope.contains(&scope) && scope.to_tenant().contains(&scope));
        assert_eq!(scope.contains(&scope.to_tenant()), scope.project().is_none());
        let is_a_step = |part| matches!(part, "" | "." | "..");
        assert!(text.is_ascii() && !text.split('/').any(is_a_step), "it could be taken for a path: {text:?}");
    }
    if let Ok(id) = EventId::parse(text) {
        assert_eq!(id.to_string(), text);
        assert_eq!(EventId::from_bytes(*id.as_bytes()), Some(id));
        assert_eq!(id.time().timestamp_millis(), id.millis());
    }
    if let Ok((scope, id)) = EventName::split(text) {
        assert_eq!(format!("{scope}/events/{id}"), text);
        if let Ok(id) = EventId::parse(id) {
            assert_eq!(EventName { scope, id }.to_string(), text);
        }
    }
    if let Some(id) = TraceId::parse(text) {
        assert_eq!(id.to_string(), text);
    }
}

/// A text that was taken in is what the store takes: no longer than allowed, and no NUL or other control character in it.
pub fn text(text: &str, rule: TextRule) {
    assert!(!rule.required || !text.is_empty(), "an empty text was taken");
    assert!(text.len() <= rule.max_bytes, "{} bytes were taken, and {} are allowed", text.len(), rule.max_bytes);
    assert!(!text.chars().any(|c| c.is_control() && !"\t\n\r".contains(c)), "{text:?} was taken");
}

/// Gives `read` the event as its row has it.
pub fn viewed<T>(event: &Event, read: impl FnOnce(&EventView<'_>) -> T) -> T {
    fn json(value: &impl serde::Serialize) -> String {
        serde_json::to_string(value).expect("structs, vectors and maps with string keys always serialize")
    }
    fn actor(actor: &super::Actor) -> ActorView<'_> {
        ActorView { kind: actor.kind, id: &actor.id, name: &actor.name }
    }
    let content = event.body.as_ref().ok().map(|body| &body.content);
    let changes = content.map(|content| json(&content.changes)).unwrap_or_default();
    let context = content.and_then(|content| content.context.as_ref()).map(json);
    let attributes = content.map(|content| json(&content.attributes)).unwrap_or_default();
    let body = event.body.as_ref().map(|body| BodyView {
        resource_id: &body.content.resource.id,
        resource_name: &body.content.resource.name,
        actor: actor(&body.content.actor),
        recorder: actor(&body.recorder),
        message: &body.content.message,
        changes: &changes,
        context: context.as_deref(),
        attributes: &attributes,
        salt: body.salt,
    });
    read(&EventView {
        tenant: event.name.scope.tenant(),
        project: event.name.scope.project().unwrap_or_default(),
        id: event.name.id,
        action: event.action,
        resource_type: &event.resource_type,
        sealed: event.sealed,
        body: body.map_err(|erasure| ErasureView { time: erasure.time, reason: &erasure.reason }),
        notes: &event.notes,
    })
}
