//! How the trees of a batch's logs are found, and how they grow.

use diesel::{QueryResult, RunQueryDsl as _};

use crate::{
    merkle::{Hash, Tile, Tree, TreeError, TreeReader as _},
    store::{
        conn::AnyConnection,
        error::StoreError,
        heads::HeadRow,
        schema::tree_tiles,
        tree::{TileRow, TreeRows},
    },
};

/// How many leaves of a log that was never sealed are read at once.
const LEAVES_AT_ONCE: u64 = 16 * 1024;

/// The tree of a head, inside the transaction that holds it. A log from before logs were sealed is sealed first.
pub(super) fn tree(connection: &mut AnyConnection, head: &HeadRow) -> Result<Tree, StoreError> {
    match u64::try_from(head.tree_size) {
        Ok(size @ 1..) if head.frontier.is_empty() => seal(connection, &head.tenant_id, size),
        _ => Ok(head.frontier()?.into()),
    }
}

/// Has a tree grow by leaves; what is finished on the way comes back.
pub(super) fn grow(
    connection: &mut AnyConnection,
    tenant: &str,
    tree: &mut Tree,
    leaf_hashes: &[Hash],
) -> Result<Vec<Tile>, StoreError> {
    tree.append(leaf_hashes, &mut TreeRows { connection, tenant }).map_err(|error| match error {
        TreeError::Reader(error) => error,
        incomplete @ TreeError::Incomplete { .. } => lacking(tenant, &incomplete),
    })
}

/// Makes the tree of the first `size` leaves from their hashes, and stores its tiles.
fn seal(connection: &mut AnyConnection, tenant: &str, size: u64) -> Result<Tree, StoreError> {
    tracing::warn!(tenant, size, "a log that was recorded without its tree is sealed as it is now");
    let mut tree = Tree::default();
    while tree.size() < size {
        let range = tree.size()..size.min(tree.size() + LEAVES_AT_ONCE);
        let expected = range.end - range.start;
        let hashes = TreeRows { connection: &mut *connection, tenant }.edge(0, range.clone())?;
        if hashes.len() as u64 != expected {
            return Err(lacking(tenant, &format_args!("leaf {} is missing", range.start + hashes.len() as u64)));
        }
        let tiles = grow(connection, tenant, &mut tree, &hashes)?;
        tiles.iter().try_for_each(|tile| insert(connection, &TileRow::new(tenant, tile)))?;
    }
    Ok(tree)
}

fn insert(connection: &mut AnyConnection, row: &TileRow<'_>) -> QueryResult<()> {
    let insert = diesel::insert_into(tree_tiles::table).values(row);
    match connection {
        AnyConnection::Sqlite(connection) => insert.execute(connection),
        AnyConnection::Postgres(connection) => insert.execute(connection),
    }
    .map(drop)
}

fn lacking(tenant: &str, what: &dyn std::fmt::Display) -> StoreError {
    StoreError::Corrupt(format!("the log of tenants/{tenant} cannot be sealed: {what}"))
}
