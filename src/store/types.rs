//! Values as SQL has them, read without a detour through texts and vectors: a page has thousands of them.
//!
//! Ids are `uuid` on PostgreSQL and text on SQLite; both sort by the bytes.

use std::{io::Write as _, ops::Deref};

use compact_str::CompactString;
use diesel::{
    backend::Backend,
    deserialize::{self, FromSql, FromSqlRow},
    expression::AsExpression,
    pg::Pg,
    query_builder::QueryId,
    serialize::{self, IsNull, Output, ToSql},
    sql_types::{Binary, HasSqlType, SqlType, Text},
    sqlite::Sqlite,
};
use uuid::Uuid;

use crate::model::{ActionType, ActorType, TimeId};

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

/// A word that stands for one of a few values.
#[derive(Clone, Copy, Debug, FromSqlRow)]
#[diesel(sql_type = Text)]
pub(super) struct Word<T>(pub(super) T);

/// What has a word for each of its values.
pub(super) trait Words: Sized {
    /// The value that a word stands for.
    fn of_word(word: &str) -> Option<Self>;
}

impl Words for ActionType {
    fn of_word(word: &str) -> Option<Self> {
        Self::parse(word)
    }
}

impl Words for ActorType {
    fn of_word(word: &str) -> Option<Self> {
        Self::parse(word)
    }
}

impl<T: Words> Word<T> {
    fn read(word: &str) -> deserialize::Result<Self> {
        T::of_word(word).map(Self).ok_or_else(|| format!("unknown word {word:?}").into())
    }
}

impl<T: Words> FromSql<Text, Pg> for Word<T> {
    fn from_sql(value: <Pg as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
        Self::read(str::from_utf8(value.as_bytes())?)
    }
}

impl<T: Words> FromSql<Text, Sqlite> for Word<T> {
    fn from_sql(value: <Sqlite as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
        Self::read(&<String as FromSql<Text, Sqlite>>::from_sql(value)?)
    }
}

impl<T: Words> FromSql<Text, MultiBackend> for Word<T> {
    fn from_sql(value: <MultiBackend as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
        value.from_sql::<Self, Text>()
    }
}

/// A text as read. Most are short, and a short one takes no allocation.
#[derive(Clone, Debug, FromSqlRow)]
#[diesel(sql_type = Text)]
pub(super) struct ShortText(CompactString);

impl Deref for ShortText {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl FromSql<Text, Pg> for ShortText {
    fn from_sql(value: <Pg as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(CompactString::new(str::from_utf8(value.as_bytes())?)))
    }
}

impl FromSql<Text, Sqlite> for ShortText {
    fn from_sql(value: <Sqlite as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(<String as FromSql<Text, Sqlite>>::from_sql(value)?.into()))
    }
}

impl FromSql<Text, MultiBackend> for ShortText {
    fn from_sql(value: <MultiBackend as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
        value.from_sql::<Self, Text>()
    }
}

/// So many bytes, no more and no less.
#[derive(Clone, Copy, Debug, FromSqlRow)]
#[diesel(sql_type = Binary)]
pub(super) struct Bytes<const N: usize>(pub(super) [u8; N]);

impl<const N: usize> FromSql<Binary, Pg> for Bytes<N> {
    fn from_sql(value: <Pg as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(value.as_bytes().try_into()?))
    }
}

impl<const N: usize> FromSql<Binary, Sqlite> for Bytes<N> {
    fn from_sql(value: <Sqlite as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(<Vec<u8> as FromSql<Binary, Sqlite>>::from_sql(value)?.as_slice().try_into()?))
    }
}

impl<const N: usize> FromSql<Binary, MultiBackend> for Bytes<N> {
    fn from_sql(value: <MultiBackend as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
        value.from_sql::<Self, Binary>()
    }
}
