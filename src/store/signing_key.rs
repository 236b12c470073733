//! Which key signs the checkpoints of this database.

use diesel::prelude::*;

use super::{
    conn::{Access, AnyConnection, Target},
    error::StoreError,
    schema::signing_keys,
};

/// There is one; the table takes no other number.
const NUMBER: i16 = 1;

/// The public key that was stored; `None` before the first start with a key.
pub(super) fn stored(connection: &mut AnyConnection) -> Result<Option<[u8; 32]>, StoreError> {
    let found: Option<Vec<u8>> =
        signing_keys::table.find(NUMBER).select(signing_keys::public_key).first(connection).optional()?;
    let corrupt = |_| StoreError::Corrupt("the public key in signing_keys has not 32 bytes".to_owned());
    found.map(|bytes| bytes.try_into().map_err(corrupt)).transpose()
}

/// Stores `key` unless there is one, and tells which one it is then. Of replicas that start together the first one wins.
pub(super) fn claim(target: &Target, key: &[u8; 32]) -> Result<[u8; 32], StoreError> {
    let mut connection = target.connect(Access::Append)?;
    if let Some(stored) = stored(&mut connection)? {
        return Ok(stored);
    }
    insert(&mut connection, key)?;
    stored(&mut connection)?.ok_or_else(|| StoreError::Corrupt("signing_keys does not keep its row".to_owned()))
}

fn insert(connection: &mut AnyConnection, key: &[u8; 32]) -> QueryResult<usize> {
    let row = (signing_keys::number.eq(NUMBER), signing_keys::public_key.eq(key.as_slice()));
    let insert = diesel::insert_into(signing_keys::table).values(row);
    match connection {
        AnyConnection::Sqlite(connection) => insert.on_conflict_do_nothing().execute(connection),
        AnyConnection::Postgres(connection) => insert.on_conflict_do_nothing().execute(connection),
    }
}
