//! Ids as SQL has them: `uuid` on PostgreSQL, text on SQLite. Both sort by the bytes.

use diesel::{
    backend::Backend,
    deserialize::{self, FromSql, FromSqlRow},
    expression::AsExpression,
    pg::Pg,
    query_builder::QueryId,
    serialize::{self, IsNull, Output, ToSql},
    sql_types::{HasSqlType, SqlType, Text},
    sqlite::Sqlite,
};
use std::io::Write as _;
use uuid::Uuid;

use crate::model::TimeId;

use super::{conn::MultiBackend, error::StoreError};

/// The SQL type of an id.
#[derive(Clone, Copy, Debug, QueryId, SqlType)]
#[diesel(postgres_type(oid = 2950, array_oid = 2951), sqlite_type(name = "Text"))]
pub struct SqlUuid;

/// An id, or a bound between ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = SqlUuid)]
pub(super) struct Id(Uuid);

impl Id {
    /// The bound below all ids of `millis`, and above all earlier ones.
    pub(super) fn lower_bound(millis: i64) -> Self {
        Self(Uuid::from_bytes(TimeId::lower_bound(millis)))
    }

    /// Below every id.
    pub(super) const MIN: Self = Self(Uuid::nil());

    /// Above every id that this service takes.
    pub(super) const MAX: Self = Self(Uuid::max());

    /// The bound right above this id.
    pub(super) fn next(self) -> Self {
        Self(Uuid::from_u128(self.0.as_u128().saturating_add(1)))
    }

    /// Reads the id back. What is stored was written by this service, or by somebody who should not have.
    pub(super) fn time_id(self) -> Result<TimeId, StoreError> {
        let found = TimeId::from_uuid(self.0);
        found.map_err(|error| StoreError::Corrupt(format!("id {} {error}", self.0)))
    }
}

impl From<TimeId> for Id {
    fn from(id: TimeId) -> Self {
        Self(Uuid::from_bytes(*id.as_bytes()))
    }
}

impl HasSqlType<SqlUuid> for MultiBackend {
    fn metadata(lookup: &mut Self::MetadataLookup) -> Self::TypeMetadata {
        Self::lookup_sql_type::<SqlUuid>(lookup)
    }
}

impl ToSql<SqlUuid, Pg> for Id {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        out.write_all(self.0.as_bytes())?;
        Ok(IsNull::No)
    }
}

impl ToSql<SqlUuid, Sqlite> for Id {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
        out.set_value(self.0.to_string());
        Ok(IsNull::No)
    }
}

impl ToSql<SqlUuid, MultiBackend> for Id {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, MultiBackend>) -> serialize::Result {
        out.set_value((SqlUuid, self));
        Ok(IsNull::No)
    }
}

impl FromSql<SqlUuid, Pg> for Id {
    fn from_sql(value: <Pg as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(Uuid::from_slice(value.as_bytes())?))
    }
}

impl FromSql<SqlUuid, Sqlite> for Id {
    fn from_sql(value: <Sqlite as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
        let text = <String as FromSql<Text, Sqlite>>::from_sql(value)?;
        Ok(Self(Uuid::try_parse(&text)?))
    }
}

impl FromSql<SqlUuid, MultiBackend> for Id {
    fn from_sql(value: <MultiBackend as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
        value.from_sql::<Self, SqlUuid>()
    }
}
