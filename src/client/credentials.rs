//! Who the emitter says it is, and what it says it may do.

use std::fmt;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

use crate::auth::{Grant, claims, jwt::AUTHORIZATION};

/// What goes with every call: a token, which the service verifies, or claims, which it trusts where a gateway or a mesh
/// vouches for them.
///
/// ```
/// use auditlog::client::Credentials;
///
/// let credentials = Credentials::service("cluster-service")
///     .name("Cluster service")
///     .role("event_recorder", "tenants/acme")
///     .permission("audit.create", "tenants/demo/projects/web");
/// ```
#[derive(Clone, Debug)]
pub struct Credentials {
    subject: String,
    subject_type: &'static str,
    name: String,
    roles: Vec<String>,
    permissions: Vec<String>,
    token: Option<Token>,
}

/// A token, which does not show itself.
#[derive(Clone)]
struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(a token)")
    }
}

/// Why [`Credentials`] cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("credentials: {key}: {problem}")]
pub struct CredentialsInvalid {
    key: &'static str,
    problem: String,
}

impl Credentials {
    /// A person, with an id of 1 to 256 printable ASCII characters.
    pub fn user(subject: impl Into<String>) -> Self {
        Self::new(subject.into(), "user")
    }

    /// A service, with an id of 1 to 256 printable ASCII characters.
    pub fn service(subject: impl Into<String>) -> Self {
        Self::new(subject.into(), "service")
    }

    fn new(subject: String, subject_type: &'static str) -> Self {
        Self { subject, subject_type, name: String::new(), roles: Vec::new(), permissions: Vec::new(), token: None }
    }

    /// A signed token, for a service in mode `jwt`. Who calls and what they may stands in it: nothing can be added.
    pub fn token(token: impl Into<String>) -> Self {
        Self { token: Some(Token(token.into())), ..Self::new(String::new(), "") }
    }

    /// The name for people: any UTF-8 of at most 512 bytes without control characters.
    pub fn name(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// Adds a role at `scope`: `*`, `tenants/{t}` or `tenants/{t}/projects/{p}`. `event_recorder` is the one that
    /// recording takes.
    pub fn role(mut self, role: &str, scope: &str) -> Self {
        self.roles.push(format!("{role}@{scope}"));
        self
    }

    /// Adds a permission, such as `audit.create`, at `scope`: `*`, `tenants/{t}` or `tenants/{t}/projects/{p}`.
    pub fn permission(mut self, permission: &str, scope: &str) -> Self {
        self.permissions.push(format!("{permission}@{scope}"));
        self
    }

    /// The claims as call metadata, read once more the way the service will: better a word here than at the first call.
    pub(crate) fn metadata(&self) -> Result<MetadataMap, CredentialsInvalid> {
        match &self.token {
            Some(token) => self.of_token(token),
            None => self.of_claims(),
        }
    }

    fn of_token(&self, Token(token): &Token) -> Result<MetadataMap, CredentialsInvalid> {
        let invalid = |problem: &str| CredentialsInvalid { key: AUTHORIZATION, problem: problem.to_owned() };
        if !(self.name.is_empty() && self.roles.is_empty() && self.permissions.is_empty()) {
            return Err(invalid("a token says all itself: no name, role or permission can be added"));
        }
        let is_plain = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        let bearer = format!("Bearer {token}").parse::<MetadataValue<Ascii>>().ok().filter(|_| is_plain);
        let mut bearer = bearer.ok_or_else(|| invalid("the token must be printable ASCII without spaces"))?;
        bearer.set_sensitive(true);
        let mut metadata = MetadataMap::new();
        metadata.insert(AUTHORIZATION, bearer);
        Ok(metadata)
    }

    fn of_claims(&self) -> Result<MetadataMap, CredentialsInvalid> {
        let name = utf8_percent_encode(&self.name, NON_ALPHANUMERIC).to_string();
        let mut metadata = MetadataMap::new();
        metadata.insert(claims::SUBJECT, value(claims::SUBJECT, &self.subject)?);
        metadata.insert(claims::SUBJECT_TYPE, MetadataValue::from_static(self.subject_type));
        if !name.is_empty() {
            metadata.insert(claims::SUBJECT_NAME, value(claims::SUBJECT_NAME, &name)?);
        }
        append_grants(&mut metadata, claims::ROLES, &self.roles)?;
        append_grants(&mut metadata, claims::PERMISSIONS, &self.permissions)?;
        match claims::read(metadata.as_ref()) {
            Ok(_) => Ok(metadata),
            Err(error) => Err(CredentialsInvalid { key: claims::SUBJECT, problem: error.to_string() }),
        }
    }
}

fn append_grants(metadata: &mut MetadataMap, key: &'static str, grants: &[String]) -> Result<(), CredentialsInvalid> {
    for grant in grants {
        // One grant is one header, and a comma in it would make two: it must not slip through.
        Grant::parse(grant).map_err(|error| CredentialsInvalid { key, problem: format!("{grant:?} {error}") })?;
        metadata.append(key, value(key, grant)?);
    }
    Ok(())
}

fn value(key: &'static str, text: &str) -> Result<MetadataValue<Ascii>, CredentialsInvalid> {
    text.parse().map_err(|_| CredentialsInvalid { key, problem: format!("{text:?} must be printable ASCII") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_read_back_as_they_were_meant() {
        let credentials = Credentials::service("svc, with a comma")
            .name("Größe, 100 % \u{1f980}")
            .role("event_recorder", "*")
            .role("tenant_viewer", "tenants/a")
            .permission("audit.create", "tenants/a/projects/p");
        let principal = claims::read(credentials.metadata().unwrap().as_ref()).unwrap();
        assert_eq!(principal.actor.id, "svc, with a comma");
        assert_eq!(principal.actor.name, "Größe, 100 % \u{1f980}");
        assert_eq!(principal.actor.kind, crate::model::ActorType::Service);
        assert_eq!((principal.roles.len(), principal.permissions.len()), (2, 1));
    }

    #[test]
    fn that_the_service_would_refuse_are_refused_here() {
        for credentials in [
            Credentials::user(""),
            Credentials::user("ä"),
            Credentials::user("a\nb"),
            Credentials::user("a".repeat(257)),
            Credentials::user("a").name("\0"),
            Credentials::user("a").role("event_recorder", "acme"),
            Credentials::user("a").role("a@*,tenant_admin", "*"),
            Credentials::user("a").permission("", "*"),
            Credentials::token(""),
            Credentials::token("a b"),
            Credentials::token("a.b.c").role("event_recorder", "*"),
        ] {
            assert!(credentials.metadata().is_err(), "{credentials:?}");
        }
    }
}
