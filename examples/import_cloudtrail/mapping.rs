//! From a CloudTrail record to an event.

use std::error::Error;

use auditlog::client::{ActionType, ActorType, NewEvent, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::{
    limits::{self, clip},
    resource,
};

/// What a record becomes, and where it belongs.
#[derive(Debug)]
pub(crate) struct Mapped {
    /// The account.
    pub(crate) tenant: String,
    /// The region.
    pub(crate) project: String,
    /// The rest.
    pub(crate) event: NewEvent,
}

/// The fields of a record that the mapping knows.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    aws_region: String,
    #[serde(rename = "eventID")]
    event_id: String,
    event_name: String,
    event_source: String,
    event_time: String,
    recipient_account_id: String,
    #[serde(default, rename = "requestID")]
    request_id: String,
    request_parameters: Option<Map<String, Value>>,
    #[serde(default, rename = "sourceIPAddress")]
    source_ip_address: String,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    error_code: String,
    #[serde(default)]
    user_identity: UserIdentity,
}

/// Who called. An AWS service that calls by itself has only `invokedBy`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct UserIdentity {
    r#type: String,
    user_name: String,
    arn: String,
    principal_id: String,
    invoked_by: String,
}

/// Maps one line.
pub(crate) fn map(line: &str) -> Result<Mapped, Box<dyn Error>> {
    let record: Record = serde_json::from_str(line)?;
    let event = event(&record)?;
    Ok(Mapped { tenant: record.recipient_account_id, project: record.aws_region, event })
}

fn event(record: &Record) -> Result<NewEvent, Box<dyn Error>> {
    let parameters = record.request_parameters.clone().unwrap_or_default();
    let time: Timestamp = record.event_time.parse().map_err(|error| format!("eventTime: {error}"))?;
    let (resource_type, actor) = (resource_type(&record.event_source), actor(&record.user_identity));
    let resource_id = resource::id(&record.event_name, &parameters).unwrap_or(&record.event_id);
    let event = NewEvent::new(action(&record.event_name), clip(resource_type, 128), clip(resource_id, 256))
        .at_with_bits(time, id_bits(&record.event_id))?
        .resource_name(clip(resource::name(&parameters), 512))
        .actor(actor.0, clip(actor.1, 256))
        .actor_name(clip(&actor_name(&record.user_identity), 512))
        .message(clip(&message(record, actor.1), 4096));
    Ok(changes(attributes(context(event, record), record), &parameters))
}

fn context(event: NewEvent, record: &Record) -> NewEvent {
    event
        .source_ip(clip(&record.source_ip_address, 256))
        .user_agent(clip(&record.user_agent, 512))
        .request_id(clip(&record.request_id, 256))
}

/// What has no field of its own. `aws.*` leaves room for keys of others.
fn attributes(event: NewEvent, record: &Record) -> NewEvent {
    let identity = &record.user_identity;
    let all = [
        ("aws.account", &record.recipient_account_id),
        ("aws.region", &record.aws_region),
        ("aws.event_id", &record.event_id),
        ("aws.event_name", &record.event_name),
        ("aws.event_source", &record.event_source),
        ("aws.error_code", &record.error_code),
        ("aws.identity_type", &identity.r#type),
        ("aws.identity_arn", &identity.arn),
        ("aws.principal_id", &identity.principal_id),
        ("aws.invoked_by", &identity.invoked_by),
    ];
    let told = all.into_iter().filter(|(_, value)| !value.is_empty());
    told.fold(event, |event, (key, value)| event.attribute(key, clip(value, 1024)))
}

/// CloudTrail tells what was asked for, and not what was there before.
fn changes(event: NewEvent, parameters: &Map<String, Value>) -> NewEvent {
    let (changes, complete) = limits::fit(parameters);
    let event = changes.into_iter().fold(event, |event, (field, value)| event.set(field, value));
    if complete { event } else { event.attribute("import.changes", "shortened") }
}

/// `iam` of `iam.amazonaws.com`.
fn resource_type(event_source: &str) -> &str {
    event_source.split('.').next().unwrap_or(event_source)
}

/// What the verb at the head of the name does. Some names of AWS's own events end in the verb:
/// `EndSecretVersionDelete`.
pub(crate) fn action(event_name: &str) -> ActionType {
    const CREATE: [&str; 14] = [
        "Create",
        "Put",
        "Run",
        "Attach",
        "Allocate",
        "Authorize",
        "Start",
        "Add",
        "Associate",
        "Register",
        "Import",
        "Enable",
        "Tag",
        "Copy",
    ];
    const DELETE: [&str; 12] = [
        "Delete",
        "Terminate",
        "Detach",
        "Remove",
        "Release",
        "Revoke",
        "Disassociate",
        "Deregister",
        "Stop",
        "Disable",
        "Untag",
        "Cancel",
    ];
    let verb = resource::words(event_name).0;
    match () {
        () if event_name.ends_with("Delete") || DELETE.contains(&verb) => ActionType::Delete,
        () if CREATE.contains(&verb) => ActionType::Create,
        () => ActionType::Update,
    }
}

/// The type and the id. A role that somebody assumed is still somebody; AWS itself is a service, also in a role that it
/// has made for itself.
fn actor(identity: &UserIdentity) -> (ActorType, &str) {
    let UserIdentity { user_name, arn, principal_id, invoked_by, .. } = identity;
    let id = [user_name, arn, principal_id, invoked_by].into_iter().find(|id| !id.is_empty()).map(String::as_str);
    match (id, identity.r#type.as_str()) {
        (None, _) => (ActorType::System, ""),
        (Some(id), "" | "AWSService") => (ActorType::Service, id),
        (Some(id), _) if arn.contains(":assumed-role/AWSServiceRoleFor") => (ActorType::Service, id),
        (Some(id), _) => (ActorType::User, id),
    }
}

/// `role/session` of an assumed role; the others' ids say enough.
fn actor_name(identity: &UserIdentity) -> String {
    let name = identity.arn.split_once(":assumed-role/").map_or("", |(_, name)| name);
    name.to_owned()
}

fn message(record: &Record, actor: &str) -> String {
    let Record { event_name, event_source, error_code, .. } = record;
    let outcome = if error_code.is_empty() { String::new() } else { format!(", which failed: {error_code}") };
    format!("{actor} called {event_name} of {event_source}{outcome}")
}

/// The same record has the same id each time.
fn id_bits(event_id: &str) -> [u8; 10] {
    let hash = Sha256::digest(event_id);
    std::array::from_fn(|at| hash[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verb_is_an_action() {
        for (names, expected) in [
            (&["CreateVpc", "RunInstances", "AuthorizeSecurityGroupIngress", "StartLogging"][..], ActionType::Create),
            (&["DeleteVpc", "StopLogging", "ReleaseAddress", "StartSecretVersionDelete"], ActionType::Delete),
            (&["ModifyImageAttribute", "UpdateFunctionCode20150331v2", "ConsoleLogin", "", "é"], ActionType::Update),
        ] {
            assert!(names.iter().all(|name| action(name) == expected), "{names:?}");
        }
    }

    #[test]
    fn an_actor_is_somebody_a_service_or_the_system() {
        let identity = |json: &str| serde_json::from_str::<UserIdentity>(json).unwrap();
        let role = identity(r#"{"type":"AssumedRole","arn":"arn:aws:sts::1:assumed-role/r/s","principalId":"P"}"#);
        assert_eq!(actor(&role), (ActorType::User, "arn:aws:sts::1:assumed-role/r/s"));
        assert_eq!(actor_name(&role), "r/s");
        let linked = identity(r#"{"type":"AssumedRole","arn":"arn:aws:sts::1:assumed-role/AWSServiceRoleForRDS/s"}"#);
        assert_eq!(actor(&linked).0, ActorType::Service);
        let user = identity(r#"{"type":"IAMUser","arn":"arn:aws:iam::1:user/ann","userName":"ann"}"#);
        assert_eq!(actor(&user), (ActorType::User, "ann"));
        let service = identity(r#"{"invokedBy":"secretsmanager.amazonaws.com"}"#);
        assert_eq!(actor(&service), (ActorType::Service, "secretsmanager.amazonaws.com"));
        assert_eq!(actor(&identity("{}")), (ActorType::System, ""));
    }

    #[test]
    fn the_same_line_is_the_same_event_at_its_own_time() {
        let line = r#"{"awsRegion":"us-east-1","eventID":"e","eventName":"CreateVpc","eventSource":"ec2.amazonaws.com",
            "eventTime":"2023-07-10T11:55:08Z","recipientAccountId":"1","requestParameters":{"cidr":"10.0.0.0/16"}}"#;
        let mapped = map(line).unwrap();
        assert_eq!(mapped.event, map(line).unwrap().event);
        assert_ne!(mapped.event.id(), map(&line.replace(r#""e""#, r#""f""#)).unwrap().event.id());
        assert_eq!(mapped.event.time(), "2023-07-10T11:55:08Z".parse::<Timestamp>().unwrap());
        assert_eq!((mapped.tenant.as_str(), mapped.project.as_str()), ("1", "us-east-1"));
        assert!(map(&line.replace("2023", "1923")).is_err());
        assert!(map(&line.replace("2023-07", "July")).is_err());
        assert!(map("{}").is_err() && map("").is_err());
    }
}
