//! Mode `metadata`: a trusted gateway tells who the caller is and what they were granted, in call metadata.
//!
//! Whatever is malformed or ambiguous refuses the whole call: half-understood claims must not half-open a door.

use http::HeaderMap;
use percent_encoding::percent_decode_str;

use crate::model::{Actor, ActorType, TextRule};

use super::{
    authenticate::CredentialsError,
    principal::{Grant, MAX_NAME_BYTES, MAX_SUBJECT_BYTES, Principal},
};

/// Once: the caller's id, 1 to 256 printable ASCII characters.
pub const SUBJECT: &str = "x-audit-subject";
/// At most once: `user` (the default) or `service`.
pub const SUBJECT_TYPE: &str = "x-audit-subject-type";
/// At most once: the name for people, percent-encoded UTF-8 of at most 512 bytes.
pub const SUBJECT_NAME: &str = "x-audit-subject-name";
/// Any number of times: roles as `name@scope`, separated by commas.
pub const ROLES: &str = "x-audit-roles";
/// Any number of times: permissions as `name@scope`, separated by commas.
pub const PERMISSIONS: &str = "x-audit-permissions";

/// The most characters of a grant that are repeated to the caller, so that what is wrong with it still fits in.
const MAX_SHOWN_LEN: usize = 128;

/// Reads the caller from the call's metadata.
pub fn read(headers: &HeaderMap) -> Result<Principal, CredentialsError> {
    let id = single(headers, SUBJECT)?.ok_or(CredentialsError::Missing)?;
    if id.is_empty() || id.len() > MAX_SUBJECT_BYTES {
        return Err(CredentialsError::invalid(SUBJECT, "must be 1 to 256 printable ASCII characters"));
    }
    Ok(Principal {
        actor: Actor { kind: subject_type(headers)?, id: id.to_owned(), name: subject_name(headers)? },
        roles: grants(headers, ROLES)?,
        permissions: grants(headers, PERMISSIONS)?,
    })
}

fn subject_type(headers: &HeaderMap) -> Result<ActorType, CredentialsError> {
    match single(headers, SUBJECT_TYPE)? {
        None | Some("user") => Ok(ActorType::User),
        Some("service") => Ok(ActorType::Service),
        Some(_) => Err(CredentialsError::invalid(SUBJECT_TYPE, "must be user or service")),
    }
}

fn subject_name(headers: &HeaderMap) -> Result<String, CredentialsError> {
    let encoded = single(headers, SUBJECT_NAME)?.unwrap_or_default();
    let invalid = |problem: String| CredentialsError::invalid(SUBJECT_NAME, problem);
    let name = percent_decode_str(encoded).decode_utf8().ok().filter(|_| has_whole_escapes(encoded));
    let name = name.ok_or_else(|| invalid("must be percent-encoded UTF-8".into()))?;
    TextRule::optional(MAX_NAME_BYTES).check(&name).map_err(|error| invalid(error.to_string()))?;
    Ok(name.into_owned())
}

/// Whether two hexadecimal digits follow each `%` (RFC 3986, section 2.1). A decoder takes any other `%` as it stands.
fn has_whole_escapes(encoded: &str) -> bool {
    let is_escape = |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    encoded.split('%').skip(1).all(is_escape)
}

/// The grants of all headers `name`. Empty list elements are passed over (RFC 9110, section 5.6.1.2).
fn grants(headers: &HeaderMap, name: &'static str) -> Result<Vec<Grant>, CredentialsError> {
    let mut grants = Vec::new();
    for value in headers.get_all(name) {
        let items = printable(name, value)?.split(',').map(str::trim).filter(|item| !item.is_empty());
        for item in items {
            let shown = item.get(..MAX_SHOWN_LEN).unwrap_or(item);
            let invalid = |error| CredentialsError::invalid(name, format!("{shown:?} {error}"));
            grants.push(Grant::parse(item).map_err(invalid)?);
        }
    }
    Ok(grants)
}

fn single<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<Option<&'h str>, CredentialsError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(CredentialsError::invalid(name, "must be sent once; it came more than once"));
    }
    printable(name, value).map(Some)
}

fn printable<'h>(name: &'static str, value: &'h http::HeaderValue) -> Result<&'h str, CredentialsError> {
    let text = value.to_str().ok().filter(|text| text.bytes().all(|b| (0x20..0x7f).contains(&b)));
    text.ok_or_else(|| CredentialsError::invalid(name, "must be printable ASCII"))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |&(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        };
        let mut map = HeaderMap::new();
        pairs.iter().map(pair).for_each(|(name, value)| {
            map.append(name, value);
        });
        map
    }

    #[test]
    fn reads_all_there_is() {
        let headers = headers(&[
            (SUBJECT, "ann@example.com"),
            (SUBJECT_TYPE, "service"),
            (SUBJECT_NAME, "Ann%20%C3%84"),
            (ROLES, "tenant_admin@tenants/a, ,project_viewer@tenants/a/projects/p"),
            (ROLES, "event_recorder@*"),
            (PERMISSIONS, ""),
        ]);
        let principal = read(&headers).unwrap();
        assert_eq!(
            principal.actor,
            Actor { kind: ActorType::Service, id: "ann@example.com".into(), name: "Ann Ä".into() }
        );
        let roles: Vec<String> = principal.roles.iter().map(|g| format!("{}@{}", g.name, g.scope)).collect();
        assert_eq!(roles, ["tenant_admin@tenants/a", "project_viewer@tenants/a/projects/p", "event_recorder@*"]);
        assert!(principal.permissions.is_empty());
    }

    #[test]
    fn refuses_what_it_does_not_understand() {
        let long = "a".repeat(257);
        for pairs in [
            &[(SUBJECT, "")][..],
            &[(SUBJECT, "ä")],
            &[(SUBJECT, "a\tb")],
            &[(SUBJECT, &long)],
            &[(SUBJECT, "a"), (SUBJECT, "a")],
            &[(SUBJECT, "a"), (SUBJECT_TYPE, "system")],
            &[(SUBJECT, "a"), (SUBJECT_TYPE, "user"), (SUBJECT_TYPE, "service")],
            &[(SUBJECT, "a"), (SUBJECT_NAME, "%FF")],
            &[(SUBJECT, "a"), (SUBJECT_NAME, "%00")],
            &[(SUBJECT, "a"), (SUBJECT_NAME, "100%")],
            &[(SUBJECT, "a"), (SUBJECT_NAME, "a%2")],
            &[(SUBJECT, "a"), (SUBJECT_NAME, "100%zz")],
            &[(SUBJECT, "a"), (ROLES, "tenant_admin")],
            &[(SUBJECT, "a"), (ROLES, "tenant_admin@acme")],
            &[(SUBJECT, "a"), (ROLES, "tenant_admin@tenants/a/../b")],
            &[(SUBJECT, "a"), (ROLES, "@tenants/a")],
            &[(SUBJECT, "a"), (PERMISSIONS, "audit.get@*@*")],
            &[(SUBJECT, "a"), (PERMISSIONS, "audit.get@tenants/a audit.list@tenants/a")],
        ] {
            assert!(matches!(read(&headers(pairs)), Err(CredentialsError::Invalid { .. })), "{pairs:?}");
        }
        assert_eq!(read(&headers(&[(ROLES, "tenant_admin@tenants/a")])), Err(CredentialsError::Missing));
    }

    /// A header that is believed and not set by the gateway is one that a client may send. All are set for the whole server,
    /// which counts in each location as long as none sets any.
    #[test]
    fn the_gateway_sets_each_of_them_wherever_it_passes_a_call_on() {
        let configuration = include_str!("../../deploy/nginx.conf");
        let (server, locations) = configuration.split_once("\n        location ").unwrap();
        for name in [SUBJECT, SUBJECT_TYPE, SUBJECT_NAME, ROLES, PERMISSIONS] {
            assert_eq!(server.matches(&format!("\n        grpc_set_header {name} ")).count(), 1, "{name}");
        }
        assert!(locations.contains("grpc_pass ") && !locations.contains("grpc_set_header"));
    }

    proptest! {
        #[test]
        fn never_panics(value in prop::collection::vec(any::<u8>(), 0..300)) {
            let Ok(value) = HeaderValue::from_bytes(&value) else { return Ok(()) };
            for name in [SUBJECT, SUBJECT_TYPE, SUBJECT_NAME, ROLES, PERMISSIONS] {
                let mut headers = headers(&[(SUBJECT, "a")]);
                headers.insert(name, value.clone());
                let _ = read(&headers);
            }
        }
    }
}
