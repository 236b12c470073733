//! Two days in the life of a tenant.

use std::collections::BTreeMap;

use crate::{
    model::Timestamp,
    proto::auditlog::v1::{
        ActionType, Actor, ActorType, Event, FieldChange, RecordEventRequest, RequestContext, Resource,
    },
};

use super::TENANT;

/// The place of the event that gets [`NOTE`].
pub(super) const NOTED: usize = 9;
pub(super) const NOTE: &str =
    "Cilium replaces Calico, for network policies by DNS name. Agreed in the platform review.";

const ANN: (ActorType, &str, &str) = (ActorType::User, "ann@example.com", "Ann Adams");
const BEN: (ActorType, &str, &str) = (ActorType::User, "ben@example.com", "Ben Okoro");
const DEPLOYER: (ActorType, &str, &str) = (ActorType::Service, "svc-deployer", "Deployer");
const SYSTEM: (ActorType, &str, &str) = (ActorType::System, "", "");

const CREATE: ActionType = ActionType::Create;
const UPDATE: ActionType = ActionType::Update;
const DELETE: ActionType = ActionType::Delete;

/// One sample, short enough to be read as a line of a table.
struct Sample {
    minutes_ago: i64,
    project: Option<&'static str>,
    actor: (ActorType, &'static str, &'static str),
    action: ActionType,
    /// Type, id and name.
    resource: (&'static str, &'static str, &'static str),
    message: &'static str,
    /// Field, old and new value.
    changes: &'static [(&'static str, Option<&'static str>, Option<&'static str>)],
}

/// The samples, oldest first, the last a few minutes before `now`.
pub(super) fn events(now: Timestamp) -> Vec<RecordEventRequest> {
    SAMPLES.iter().map(|sample| sample.request(now)).collect()
}

#[rustfmt::skip]
const SAMPLES: [Sample; 12] = [
    Sample { minutes_ago: 2870, project: None, actor: ANN, action: CREATE, resource: ("project", "web", "Web shop"),
        message: "Created project Web shop", changes: &[] },
    Sample { minutes_ago: 2866, project: None, actor: ANN, action: CREATE, resource: ("project", "data", "Data platform"),
        message: "Created project Data platform", changes: &[] },
    Sample { minutes_ago: 2851, project: None, actor: ANN, action: CREATE, resource: ("user", "ben@example.com", "Ben Okoro"),
        message: "Invited Ben Okoro", changes: &[] },
    Sample { minutes_ago: 2849, project: None, actor: ANN, action: UPDATE, resource: ("user", "ben@example.com", "Ben Okoro"),
        message: "Made Ben Okoro an editor of Web shop", changes: &[("roles", None, Some("project_editor@projects/web"))] },
    Sample { minutes_ago: 2790, project: None, actor: ANN, action: CREATE, resource: ("clusterprofile", "cp-standard", "standard"),
        message: "Created cluster profile standard", changes: &[("version", None, Some("1.0.0")), ("network", None, Some("calico"))] },
    Sample { minutes_ago: 1502, project: Some("web"), actor: BEN, action: CREATE, resource: ("cluster", "web-prod", "web-prod"),
        message: "Created cluster web-prod from profile standard", changes: &[("nodes", None, Some("3"))] },
    Sample { minutes_ago: 1490, project: Some("data"), actor: DEPLOYER, action: CREATE, resource: ("cluster", "data-staging", "data-staging"),
        message: "Created cluster data-staging from profile standard", changes: &[("nodes", None, Some("2"))] },
    Sample { minutes_ago: 610, project: Some("web"), actor: SYSTEM, action: UPDATE, resource: ("cluster", "web-prod", "web-prod"),
        message: "Installed a security update", changes: &[("kubernetes_version", Some("1.33.4"), Some("1.33.5"))] },
    Sample { minutes_ago: 342, project: Some("data"), actor: ANN, action: CREATE, resource: ("apikey", "key-7f3a", "warehouse loader"),
        message: "Created API key warehouse loader", changes: &[("expires", None, Some("2027-01-01"))] },
    Sample { minutes_ago: 95, project: None, actor: ANN, action: UPDATE, resource: ("clusterprofile", "cp-standard", "standard"),
        message: "Changed cluster profile standard", changes: &[("version", Some("1.0.0"), Some("1.1.0")), ("network", Some("calico"), Some("cilium"))] },
    Sample { minutes_ago: 41, project: Some("web"), actor: DEPLOYER, action: UPDATE, resource: ("cluster", "web-prod", "web-prod"),
        message: "Scaled cluster web-prod from 3 to 5 nodes", changes: &[("nodes", Some("3"), Some("5"))] },
    Sample { minutes_ago: 6, project: Some("data"), actor: BEN, action: DELETE, resource: ("cluster", "data-staging", "data-staging"),
        message: "Deleted cluster data-staging", changes: &[("nodes", Some("2"), None)] },
];

impl Sample {
    fn request(&self, now: Timestamp) -> RecordEventRequest {
        let parent = self.project.map_or(TENANT.to_owned(), |project| format!("{TENANT}/projects/{project}"));
        RecordEventRequest { parent, event: Some(self.event(now)), event_id: String::new() }
    }

    fn event(&self, now: Timestamp) -> Event {
        let (kind, id, name) = self.resource;
        Event {
            action_type: self.action.into(),
            resource: Some(Resource { r#type: kind.into(), id: id.into(), name: name.into() }),
            actor: Some(self.actor()),
            message: self.message.into(),
            changes: self.changes.iter().map(change).collect(),
            context: self.context(),
            attributes: self.attributes(),
            event_time: Some(self.event_time(now)),
            ..Event::default()
        }
    }

    fn actor(&self) -> Actor {
        let (kind, id, name) = self.actor;
        Actor { r#type: kind.into(), id: id.into(), name: name.into() }
    }

    /// People come through the console; the address is one that RFC 5737 keeps for documentation.
    fn context(&self) -> Option<RequestContext> {
        (self.actor.0 == ActorType::User).then(|| RequestContext {
            source_ip: "192.0.2.17".into(),
            user_agent: "Mozilla/5.0 (X11; Linux x86_64)".into(),
            request_id: format!("req-{:04}", self.minutes_ago),
            trace_id: String::new(),
        })
    }

    fn attributes(&self) -> BTreeMap<String, String> {
        let is_person = self.actor.0 == ActorType::User;
        is_person.then(|| ("console_version".to_owned(), "4.2".to_owned())).into_iter().collect()
    }

    fn event_time(&self, now: Timestamp) -> prost_types::Timestamp {
        let seconds = now.timestamp() - self.minutes_ago * 60;
        prost_types::Timestamp { seconds, nanos: 0 }
    }
}

fn change(&(field, old, new): &(&'static str, Option<&'static str>, Option<&'static str>)) -> FieldChange {
    FieldChange { field: field.into(), old_value: old.map(Into::into), new_value: new.map(Into::into) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_noted_event_takes_notes_and_time_goes_on() {
        assert_eq!(SAMPLES[NOTED].resource.0, "clusterprofile");
        assert!(SAMPLES.is_sorted_by(|a, b| a.minutes_ago > b.minutes_ago));
    }
}
