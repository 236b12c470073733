//! What holds of names, whatever comes in.

use super::{EventId, EventName, Scope, TextRule, TraceId};

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
