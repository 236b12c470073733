//! What to export.

use clap::ValueEnum;

use crate::{
    model::{Scope, Timestamp},
    proto::auditlog::v1::{self as proto, EventFilter, ExportCsvRequest},
};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "What to export")]
pub(super) struct WhatArgs {
    /// Scope: tenants/{tenant} or tenants/{tenant}/projects/{project}
    #[arg(id = "parent", long, value_name = "SCOPE", value_parser = scope)]
    parent: String,
    /// Order of the rows
    #[arg(id = "order", long, default_value = "newest-first")]
    order: Order,
    /// Leave out the columns that a verifier needs
    #[arg(id = "no_proof_columns", long = "no-proof-columns")]
    no_proof_columns: bool,
    /// Only this action; this and the following may come again, and then any of the values will do
    #[arg(id = "action", long = "action", value_name = "ACTION")]
    actions: Vec<Action>,
    /// Only resources of this type
    #[arg(id = "resource_type", long = "resource-type", value_name = "TYPE")]
    resource_types: Vec<String>,
    /// Only this resource
    #[arg(id = "resource_id", long = "resource-id", value_name = "ID")]
    resource_ids: Vec<String>,
    /// Only what this actor did
    #[arg(id = "actor_id", long = "actor-id", value_name = "ID")]
    actor_ids: Vec<String>,
    /// Only what actors of this type did
    #[arg(id = "actor_type", long = "actor-type", value_name = "TYPE")]
    actor_types: Vec<ActorType>,
    /// Only this project of the tenant
    #[arg(id = "project", long = "project", value_name = "ID")]
    project_ids: Vec<String>,
    /// Only what was recorded at the tenant itself
    #[arg(id = "tenant_only", long = "tenant-only")]
    tenant_only: bool,
    /// Only events at or after this time, such as 2026-01-31T00:00:00Z
    #[arg(id = "start_time", long = "start-time", value_name = "TIME", value_parser = time)]
    start_time: Option<Timestamp>,
    /// Only events before this time
    #[arg(id = "end_time", long = "end-time", value_name = "TIME", value_parser = time)]
    end_time: Option<Timestamp>,
    /// Only places of the log from here on
    #[arg(id = "start_leaf_index", long = "start-leaf-index", value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    start_leaf_index: i64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Order {
    NewestFirst,
    OldestFirst,
    Log,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Action {
    Create,
    Update,
    Delete,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ActorType {
    User,
    Service,
    System,
}

impl WhatArgs {
    /// The call, from its beginning.
    pub(super) fn request(&self) -> ExportCsvRequest {
        let order = match self.order {
            Order::NewestFirst => proto::Order::NewestFirst,
            Order::OldestFirst => proto::Order::OldestFirst,
            Order::Log => proto::Order::Log,
        };
        ExportCsvRequest {
            parent: self.parent.clone(),
            filter: Some(self.filter()),
            order: order.into(),
            proof_columns: !self.no_proof_columns,
            ..ExportCsvRequest::default()
        }
    }

    fn filter(&self) -> EventFilter {
        let action = |action: &Action| match action {
            Action::Create => proto::ActionType::Create.into(),
            Action::Update => proto::ActionType::Update.into(),
            Action::Delete => proto::ActionType::Delete.into(),
        };
        let actor_type = |kind: &ActorType| match kind {
            ActorType::User => proto::ActorType::User.into(),
            ActorType::Service => proto::ActorType::Service.into(),
            ActorType::System => proto::ActorType::System.into(),
        };
        EventFilter {
            action_types: self.actions.iter().map(action).collect(),
            resource_types: self.resource_types.clone(),
            start_time: self.start_time.map(timestamp),
            end_time: self.end_time.map(timestamp),
            resource_ids: self.resource_ids.clone(),
            actor_ids: self.actor_ids.clone(),
            actor_types: self.actor_types.iter().map(actor_type).collect(),
            project_ids: self.project_ids.clone(),
            tenant_only: self.tenant_only,
            start_leaf_index: self.start_leaf_index,
        }
    }
}

fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    let nanos = i32::try_from(time.timestamp_subsec_nanos()).unwrap_or(999_999_999);
    prost_types::Timestamp { seconds: time.timestamp(), nanos }
}

fn scope(text: &str) -> Result<String, String> {
    Scope::parse(text).map(|scope| scope.to_string()).map_err(|error| error.to_string())
}

fn time(text: &str) -> Result<Timestamp, String> {
    text.parse::<Timestamp>().map_err(|_| "must be a time like 2026-01-31T00:00:00Z".to_owned())
}
