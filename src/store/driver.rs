//! Which index drives a walk.

use crate::model::{Order, PageQuery};

/// The index, and the value that its entries begin with after the tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Driver<'q> {
    Log,
    Resource(&'q str),
    Actor(&'q str),
    ResourceType(&'q str),
    Project(&'q str),
    Tenant,
}

impl<'q> Driver<'q> {
    /// The most telling one that a single value of the filter opens.
    pub(super) fn of(query: &'q PageQuery) -> Self {
        let single = |keys: Vec<Self>| <[Self; 1]>::try_from(keys).ok();
        match query.order {
            Order::Log => Self::Log,
            _ => fields(query).into_iter().find_map(single).map_or(Self::Tenant, |[key]| key),
        }
    }

    /// The column and the value that the driving index begins with, after the tenant.
    pub(super) fn key(self) -> Option<(&'static str, &'q str)> {
        match self {
            Self::Resource(id) => Some(("resource_id", id)),
            Self::Actor(id) => Some(("actor_id", id)),
            Self::ResourceType(kind) => Some(("resource_type", kind)),
            Self::Project(id) => Some(("project_id", id)),
            Self::Tenant | Self::Log => None,
        }
    }
}

/// The drivers of walks that side by side give what the query asks for, each row once; empty where its order or its filter
/// opens none.
pub(super) fn side_by_side(query: &PageQuery) -> Vec<Driver<'_>> {
    match query.order {
        Order::Log => Vec::new(),
        _ => fields(query).into_iter().find(|keys| !keys.is_empty()).unwrap_or_default(),
    }
}

/// The values of each field that has an index, the most telling field first.
fn fields(query: &PageQuery) -> [Vec<Driver<'_>>; 4] {
    let filter = &query.filter;
    [
        keys(&filter.resource_ids, Driver::Resource),
        keys(&filter.actor_ids, Driver::Actor),
        keys(&filter.resource_types, Driver::ResourceType),
        projects(query),
    ]
}

/// Each value once, because each row is to be seen once.
fn keys<'q>(values: &'q [String], key: fn(&'q str) -> Driver<'q>) -> Vec<Driver<'q>> {
    let mut values: Vec<&str> = values.iter().map(String::as_str).collect();
    values.sort_unstable();
    values.dedup();
    values.into_iter().map(key).collect()
}

/// The projects that the query is about, `""` for the tenant itself; empty unless one condition alone says it.
pub(super) fn projects(query: &PageQuery) -> Vec<Driver<'_>> {
    match (query.scope.project(), &query.filter.project_ids[..], query.filter.tenant_only) {
        (Some(project), [], false) => vec![Driver::Project(project)],
        (None, projects, false) => keys(projects, Driver::Project),
        (None, [], true) => vec![Driver::Project("")],
        _ => Vec::new(),
    }
}
