//! What holds of claims, whatever comes in.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{
    CredentialsError, Grant, Principal,
    claims::{self, PERMISSIONS, ROLES, SUBJECT},
};
use crate::model::{ActorType, TextRule, laws::text};

/// The most bytes of what a caller is told about their credentials: it travels in a header.
const MAX_ERROR_BYTES: usize = 1024;

/// Reads call metadata as a text of lines `name: value`. What cannot be a header is passed over.
pub fn headers(bytes: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Some(at) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..at]);
        let value = HeaderValue::from_bytes(line[at + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

/// Claims grant what they say and nothing else, or they are refused as a whole.
pub fn claims(bytes: &[u8]) {
    let headers = headers(bytes);
    match claims::read(&headers) {
        Ok(caller) => {
            principal(&caller);
            assert_eq!(headers.get_all(SUBJECT).iter().collect::<Vec<_>>(), [&caller.actor.id]);
            assert_eq!(counted(&caller.roles), said(&headers, ROLES));
            assert_eq!(counted(&caller.permissions), said(&headers, PERMISSIONS));
        }
        Err(error) => refusal(&error),
    }
}

/// A caller who was let in can be stored as a recorder, and is never the system itself.
pub fn principal(principal: &Principal) {
    assert_ne!(principal.actor.kind, ActorType::System);
    text(&principal.actor.id, TextRule::required(256));
    text(&principal.actor.name, TextRule::optional(512));
    for grant in principal.roles.iter().chain(&principal.permissions) {
        assert_eq!(Grant::parse(&shown(grant)).as_ref(), Ok(grant));
    }
}

/// A refusal says what is wrong, in a few words.
pub fn refusal(error: &CredentialsError) {
    let said = error.to_string();
    assert!(!said.is_empty() && said.len() <= MAX_ERROR_BYTES, "{} bytes: {said}", said.len());
}

fn shown(grant: &Grant) -> String {
    format!("{}@{}", grant.name, grant.scope)
}

/// Each grant, and how many times it is there.
fn counted(grants: &[Grant]) -> BTreeMap<String, usize> {
    count(grants.iter().map(shown))
}

/// The same of what the headers say, read in the simplest way.
fn said(headers: &HeaderMap, name: &str) -> BTreeMap<String, usize> {
    let values: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    let values = values.join(",");
    count(values.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()))
}

fn count(items: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    items.for_each(|item| *counts.entry(item).or_default() += 1);
    counts
}
