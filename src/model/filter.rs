//! Which events a list or an export asks for, and in which order.

use serde::Serialize;

use super::event::{ActionType, ActorType};

/// Fields are ANDed, the values of one field are ORed; an empty field asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(default)]
pub struct EventFilter {
    /// Any of these actions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub action_types: Vec<ActionType>,
    /// Any of these resource types.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_types: Vec<String>,
    /// Events at or after this millisecond since 1970 (already rounded up).
    #[serde(skip_serializing_if = "Option::is_none", rename = "start_time_unix_ms")]
    pub start_millis: Option<i64>,
    /// Events before this millisecond since 1970 (already rounded up).
    #[serde(skip_serializing_if = "Option::is_none", rename = "end_time_unix_ms")]
    pub end_millis: Option<i64>,
    /// Any of these resources.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_ids: Vec<String>,
    /// Any of these actors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub actor_ids: Vec<String>,
    /// Any of these kinds of actors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub actor_types: Vec<ActorType>,
    /// Any of these projects; only at tenant scope.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub project_ids: Vec<String>,
    /// Only what was recorded at the tenant itself.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tenant_only: bool,
    /// Only places of the log from here on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_leaf_index: Option<i64>,
}

/// A bound in milliseconds since 1970, rounded up: of the events, whose times are whole milliseconds, the rounded bound divides off
/// the same ones.
pub fn bound_millis(seconds: i64, nanos: u32) -> i64 {
    seconds * 1000 + i64::from(nanos.div_ceil(1_000_000))
}

/// The order of a list or an export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// By event id, falling.
    #[default]
    NewestFirst,
    /// By event id, rising.
    OldestFirst,
    /// By place in the log, rising.
    Log,
}

impl Order {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::NewestFirst, Self::OldestFirst, Self::Log];

    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NewestFirst => "newest_first",
            Self::OldestFirst => "oldest_first",
            Self::Log => "log",
        }
    }

    /// Reads [`Self::as_str`] back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|order| order.as_str() == text)
    }
}
