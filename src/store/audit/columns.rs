//! The columns as they are.

use std::{collections::HashMap, fmt};

use chrono::NaiveDateTime;
use diesel::{
    backend::Backend,
    deserialize::{self, FromSql, FromSqlRow},
    expression::AsExpression,
    pg::Pg,
    prelude::*,
    serialize::{self, IsNull, Output, ToSql},
    sql_types::Text,
    sqlite::Sqlite,
};
use std::io::Write as _;
use uuid::Uuid;

use crate::{
    model::Event,
    store::{
        conn::MultiBackend,
        schema::{events, update_notes},
        types::SqlUuid,
    },
};

use super::{AuditRow, NoteOnEvent};

/// An id as it is written in the row: on SQLite it may be any text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = SqlUuid)]
pub(super) struct RawId(pub(super) String);

/// A row of `events`.
#[derive(Queryable, Selectable)]
#[diesel(table_name = events)]
pub(super) struct EventColumns {
    pub(super) event_id: RawId,
    pub(super) project_id: String,
    pub(super) leaf_index: i64,
    pub(super) record_time: NaiveDateTime,
    pub(super) action_type: String,
    pub(super) resource_type: String,
    pub(super) resource_id: Option<String>,
    pub(super) resource_name: Option<String>,
    pub(super) actor_type: Option<String>,
    pub(super) actor_id: Option<String>,
    pub(super) actor_name: Option<String>,
    pub(super) recorder_type: Option<String>,
    pub(super) recorder_id: Option<String>,
    pub(super) recorder_name: Option<String>,
    pub(super) message: Option<String>,
    pub(super) changes: Option<String>,
    pub(super) context: Option<String>,
    pub(super) attributes: Option<String>,
    pub(super) salt: Option<Vec<u8>>,
    pub(super) body_commitment: Vec<u8>,
    pub(super) leaf_hash: Vec<u8>,
    pub(super) erase_time: Option<NaiveDateTime>,
    pub(super) erase_reason: Option<String>,
}

/// A row of `update_notes`.
#[derive(Queryable, Selectable)]
#[diesel(table_name = update_notes)]
pub(super) struct NoteColumns {
    pub(super) event_id: RawId,
    pub(super) note_id: RawId,
    pub(super) leaf_index: i64,
    pub(super) create_time: NaiveDateTime,
    pub(super) author_type: Option<String>,
    pub(super) author_id: Option<String>,
    pub(super) author_name: Option<String>,
    pub(super) text: Option<String>,
    pub(super) salt: Option<Vec<u8>>,
    pub(super) body_commitment: Vec<u8>,
    pub(super) leaf_hash: Vec<u8>,
}

impl EventColumns {
    pub(super) fn audit(self, tenant: &str) -> AuditRow<Event> {
        let project = Some(&self.project_id).filter(|project| !project.is_empty());
        let project = project.map(|project| format!("/projects/{project}")).unwrap_or_default();
        AuditRow {
            leaf_index: self.leaf_index,
            name: format!("tenants/{tenant}{project}/events/{}", self.event_id),
            leaf_hash: super::parse::hash("leaf_hash", &self.leaf_hash),
            content: self.parse(tenant),
        }
    }
}

impl NoteColumns {
    pub(super) fn audit(self, tenant: &str, projects: &HashMap<RawId, String>) -> AuditRow<NoteOnEvent> {
        AuditRow {
            leaf_index: self.leaf_index,
            name: note_name(tenant, &self.event_id, &self.note_id),
            leaf_hash: super::parse::hash("leaf_hash", &self.leaf_hash),
            content: self.parse(tenant, projects),
        }
    }
}

/// What a finding calls a note.
pub(super) fn note_name(tenant: &str, event: &RawId, note: &RawId) -> String {
    format!("note {note} on tenants/{tenant}/events/{event}")
}

impl fmt::Display for RawId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ToSql<SqlUuid, Pg> for RawId {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        out.write_all(Uuid::try_parse(&self.0)?.as_bytes())?;
        Ok(IsNull::No)
    }
}

impl ToSql<SqlUuid, Sqlite> for RawId {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
        out.set_value(self.0.as_str());
        Ok(IsNull::No)
    }
}

impl ToSql<SqlUuid, MultiBackend> for RawId {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, MultiBackend>) -> serialize::Result {
        out.set_value((SqlUuid, self));
        Ok(IsNull::No)
    }
}

impl FromSql<SqlUuid, Pg> for RawId {
    fn from_sql(value: <Pg as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(Uuid::from_slice(value.as_bytes())?.to_string()))
    }
}

impl FromSql<SqlUuid, Sqlite> for RawId {
    fn from_sql(value: <Sqlite as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
        <String as FromSql<Text, Sqlite>>::from_sql(value).map(Self)
    }
}

impl FromSql<SqlUuid, MultiBackend> for RawId {
    fn from_sql(value: <MultiBackend as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
        value.from_sql::<Self, SqlUuid>()
    }
}
