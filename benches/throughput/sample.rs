//! What is recorded: the same event for the service and for the raw baselines, with a resource id that varies.

use auditlog::proto::auditlog::v1::{
    ActionType, Actor, ActorType, BatchRecordEventsRequest, Event, FieldChange, RecordEventRequest, RequestContext,
    Resource,
};

pub const TENANT: &str = "tenants/bench";
pub const PROJECTS: u32 = 20;
const MESSAGE: &str = "Ann changed the node count of the cluster after the weekly capacity review";
const AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64) console/4.2";

/// The event with the number `n`.
pub fn event(n: u32) -> Event {
    Event {
        action_type: ActionType::Update.into(),
        resource: Some(Resource { r#type: "cluster".into(), id: resource_id(n), name: "payments-eu".into() }),
        actor: Some(Actor {
            r#type: ActorType::User.into(),
            id: format!("user-{}", n % 500),
            name: "Ann Example".into(),
        }),
        message: MESSAGE.into(),
        changes: vec![FieldChange {
            field: "spec.nodes".into(),
            old_value: Some("3".into()),
            new_value: Some("5".into()),
        }],
        context: Some(RequestContext {
            source_ip: "203.0.113.7".into(),
            user_agent: AGENT.into(),
            request_id: "7f3d9a0c5b1e4d22".into(),
            trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".into(),
        }),
        attributes: [("region".to_owned(), "eu-west-1".to_owned()), ("ticket".to_owned(), "OPS-4711".to_owned())]
            .into(),
        ..Event::default()
    }
}

pub fn record(n: u32) -> RecordEventRequest {
    RecordEventRequest { parent: scope(n), event: Some(event(n)), event_id: String::new() }
}

pub fn batch(first: u32, count: u32) -> BatchRecordEventsRequest {
    BatchRecordEventsRequest { requests: (first..first + count).map(record).collect(), parent: TENANT.to_owned() }
}

fn scope(n: u32) -> String {
    format!("{TENANT}/projects/{}", project(n))
}

pub fn project(n: u32) -> String {
    format!("project-{}", n % PROJECTS)
}

/// Spread, as ids of real resources are.
fn resource_id(n: u32) -> String {
    format!("c-{:08x}", n.wrapping_mul(2_654_435_761))
}

/// The same as one row for PostgreSQL: SQL expressions in the order of [`COLUMNS`], of the variables `id` (a random
/// number up to 2^31), `n` (up to 500) and `p` (up to [`PROJECTS`]).
pub fn sql_row() -> String {
    let hash = "decode(repeat('5a', 32), 'hex')";
    format!(
        "'bench', (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7000' || \
         lpad(to_hex(:id::bigint), 16, '8'))::uuid, 'project-' || :p, :id, now(), 'update', 'cluster', \
         'c-' || to_hex(:id::bigint), 'payments-eu', 'user', 'user-' || :n, 'Ann Example', 'service', 'bench', '', {}, \
         decode(repeat('a5', 16), 'hex'), {hash}, {hash}",
        body()
    )
}

/// The same for SQLite, without what differs from row to row.
pub fn sqlite_values() -> String {
    format!(
        "'bench', '2026-01-01 00:00:00.000000', 'update', 'cluster', 'payments-eu', 'user', 'Ann Example', 'service', 'bench', \
         '', {}, randomblob(16), randomblob(32), randomblob(32)",
        body()
    )
}

/// Message, changes, context and attributes.
fn body() -> String {
    format!(
        "'{MESSAGE}', '[{{\"field\":\"spec.nodes\",\"old_value\":\"3\",\"new_value\":\"5\"}}]', \
         '{{\"source_ip\":\"203.0.113.7\",\"user_agent\":\"{AGENT}\",\"request_id\":\"7f3d9a0c5b1e4d22\",\"trace_id\":\
         \"4bf92f3577b34da6a3ce929d0e0e4736\"}}', '{{\"region\":\"eu-west-1\",\"ticket\":\"OPS-4711\"}}'"
    )
}

pub const COLUMNS: &str = "tenant_id, event_id, project_id, leaf_index, record_time, action_type, resource_type, \
    resource_id, resource_name, actor_type, actor_id, actor_name, recorder_type, recorder_id, recorder_name, message, \
    changes, context, attributes, salt, body_commitment, leaf_hash";
