//! Making foreign values fit the service's default limits.

use serde_json::{Map, Value};

const MAX_CHANGES: usize = 100;
const MAX_FIELD_BYTES: usize = 512;
const MAX_VALUE_BYTES: usize = 8192;
/// Of the 64 KiB of an event; the rest of it stays below 20 KiB by its own limits.
const MAX_CHANGES_BYTES: usize = 44 * 1024;
/// Tags and lengths of one change, at most.
const FRAMING_BYTES: usize = 16;

/// The parameters as changes, each leaf by its path, and whether nothing had to be left out. Where there are too many
/// leaves, each parameter is one change, as JSON.
pub(crate) fn fit(parameters: &Map<String, Value>) -> (Vec<(String, String)>, bool) {
    let mut leaves = Vec::new();
    parameters.iter().for_each(|(key, value)| flatten(key.clone(), value, &mut leaves));
    if leaves.len() > MAX_CHANGES {
        leaves = parameters.iter().map(|(key, value)| (key.clone(), show(value))).collect();
    }
    let mut bytes = 0;
    let mut fitted: Vec<_> = leaves.iter().map(|(f, v)| (clip(f, MAX_FIELD_BYTES), clip(v, MAX_VALUE_BYTES))).collect();
    fitted.truncate(MAX_CHANGES);
    fitted.retain(|(field, value)| {
        let total = bytes + field.len() + value.len() + FRAMING_BYTES;
        let fits = !field.is_empty() && total <= MAX_CHANGES_BYTES;
        bytes = if fits { total } else { bytes };
        fits
    });
    let complete = fitted == leaves;
    (fitted, complete)
}

/// At most `max_bytes` of `text`, cut between characters, without the control characters that the service refuses.
pub(crate) fn clip(text: &str, max_bytes: usize) -> String {
    let allowed = |c: char| if c.is_control() && !matches!(c, '\t' | '\n' | '\r') { '\u{fffd}' } else { c };
    let mut clipped = String::new();
    for c in text.chars().map(allowed) {
        if clipped.len() + c.len_utf8() > max_bytes {
            break;
        }
        clipped.push(c);
    }
    clipped
}

fn flatten(path: String, value: &Value, leaves: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            fields.iter().for_each(|(key, value)| flatten(format!("{path}.{key}"), value, leaves));
        }
        Value::Array(items) if !items.is_empty() => {
            items.iter().enumerate().for_each(|(at, value)| flatten(format!("{path}[{at}]"), value, leaves));
        }
        _ => leaves.push((path, show(value))),
    }
}

/// A text as it is, anything else as JSON.
fn show(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fit_json(value: Value) -> (Vec<(String, String)>, bool) {
        fit(value.as_object().unwrap())
    }

    #[test]
    fn leaves_go_by_their_paths() {
        let (changes, complete) = fit_json(json!({"a": {"b": [1, {"c": "x\n\"y\""}]}, "d": [], "e": null, "f": true}));
        let expected = [("a.b[0]", "1"), ("a.b[1].c", "x\n\"y\""), ("d", "[]"), ("e", "null"), ("f", "true")];
        assert_eq!(changes, expected.map(|(field, value)| (field.to_owned(), value.to_owned())));
        assert!(complete);
    }

    #[test]
    fn too_much_is_shortened_and_told() {
        let (changes, complete) = fit_json(json!({"a": vec![1; 101], "b": "c"}));
        assert_eq!((changes.len(), changes[1].1.as_str(), complete), (2, "c", true));
        let (changes, complete) = fit_json(json!({"a": vec!["ä".repeat(5000); 90]}));
        assert_eq!((changes[0].1.len(), complete), (8192, false));
        assert!(changes.iter().map(|(field, value)| field.len() + value.len()).sum::<usize>() <= MAX_CHANGES_BYTES);
        assert_eq!(fit_json(json!({"": "x", "a": "\u{0}"})), (vec![("a".to_owned(), "\u{fffd}".to_owned())], false));
    }

    #[test]
    fn clips_between_characters() {
        assert_eq!(clip("aä", 2), "a");
        assert_eq!(clip("aä", 3), "aä");
        assert_eq!(clip("\u{0}", 2), "");
    }
}
