//! Who the emitter says it is, and what it says it may do.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

use crate::auth::{Grant, claims};

/// The claims that go with every call, as metadata. The service trusts them where a gateway or a mesh vouches for them.
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
        Self { subject, subject_type, name: String::new(), roles: Vec::new(), permissions: Vec::new() }
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
    pub(super) fn metadata(&self) -> Result<MetadataMap, CredentialsInvalid> {
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
        ] {
            assert!(credentials.metadata().is_err(), "{credentials:?}");
        }
    }
}
