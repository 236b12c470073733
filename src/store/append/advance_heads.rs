//! `advance_heads` of the PostgreSQL schema: moves heads and stores the tiles that this finishes, or fails if a head has moved.

use diesel::{
    PgConnection, QueryResult, RunQueryDsl,
    pg::Pg,
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    sql_types::{Array, BigInt, Binary, Bool, SmallInt, Text},
};

use crate::store::tree::TileRow;

use super::plan::Move;

/// `SELECT advance_heads(…)`.
pub(super) struct AdvanceHeads<'a> {
    tenants: Vec<&'a str>,
    from: Vec<i64>,
    from_frontiers: Vec<&'a [u8]>,
    to: Vec<i64>,
    to_frontiers: Vec<&'a [u8]>,
    tiles: Tiles<'a>,
}

/// Rows of `tree_tiles` as arrays, one for each column.
#[derive(Default)]
struct Tiles<'a> {
    tenants: Vec<&'a str>,
    levels: Vec<i16>,
    indexes: Vec<i64>,
    roots: Vec<&'a [u8]>,
    hashes: Vec<&'a [u8]>,
}

impl<'a> AdvanceHeads<'a> {
    pub(super) fn new(moves: &'a [Move<'a>]) -> Self {
        Self {
            tenants: moves.iter().map(|step| step.tenant).collect(),
            from: moves.iter().map(|step| step.from).collect(),
            from_frontiers: moves.iter().map(|step| step.from_frontier).collect(),
            to: moves.iter().map(|step| step.to).collect(),
            to_frontiers: moves.iter().map(|step| &step.to_frontier[..]).collect(),
            tiles: Tiles::new(moves),
        }
    }
}

impl<'a> Tiles<'a> {
    fn new(moves: &'a [Move<'a>]) -> Self {
        let mut tiles = Self::default();
        for row in moves.iter().flat_map(|step| step.tiles.iter().map(|tile| TileRow::new(step.tenant, tile))) {
            tiles.tenants.push(row.tenant_id);
            tiles.levels.push(row.level);
            tiles.indexes.push(row.tile_index);
            tiles.roots.push(row.root);
            tiles.hashes.push(row.hashes);
        }
        tiles
    }
}

impl QueryFragment<Pg> for Tiles<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_bind_param::<Array<Text>, Vec<&str>>(&self.tenants)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<SmallInt>, _>(&self.levels)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<BigInt>, _>(&self.indexes)?;
        for bytes in [&self.roots, &self.hashes] {
            out.push_sql(", ");
            out.push_bind_param::<Array<Binary>, Vec<&[u8]>>(bytes)?;
        }
        Ok(())
    }
}

impl QueryFragment<Pg> for AdvanceHeads<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT advance_heads(");
        out.push_bind_param::<Array<Text>, _>(&self.tenants)?;
        out.push_sql(", ");
        for (sizes, frontiers) in [(&self.from, &self.from_frontiers), (&self.to, &self.to_frontiers)] {
            out.push_bind_param::<Array<BigInt>, _>(sizes)?;
            out.push_sql(", ");
            out.push_bind_param::<Array<Binary>, Vec<&[u8]>>(frontiers)?;
            out.push_sql(", ");
        }
        self.tiles.walk_ast(out.reborrow())?;
        out.push_sql(")");
        Ok(())
    }
}

impl QueryId for AdvanceHeads<'_> {
    type QueryId = AdvanceHeads<'static>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for AdvanceHeads<'_> {
    type SqlType = Bool;
}

impl RunQueryDsl<PgConnection> for AdvanceHeads<'_> {}

/// `SELECT advance_heads(…)`, or no row if somebody else holds one of the heads.
pub(super) struct AdvanceFreeHeads<'a> {
    heads: AdvanceHeads<'a>,
    count: i64,
}

impl<'a> AdvanceFreeHeads<'a> {
    pub(super) fn new(moves: &'a [Move<'a>]) -> Self {
        let heads = AdvanceHeads::new(moves);
        Self { count: i64::try_from(moves.len()).unwrap_or(i64::MAX), heads }
    }
}

impl QueryFragment<Pg> for AdvanceFreeHeads<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.heads.walk_ast(out.reborrow())?;
        out.push_sql(" WHERE (SELECT count(*) FROM (SELECT FROM tree_heads WHERE tenant_id = ANY (");
        out.push_bind_param::<Array<Text>, _>(&self.heads.tenants)?;
        out.push_sql(") FOR UPDATE SKIP LOCKED) AS free) = ");
        out.push_bind_param::<BigInt, _>(&self.count)
    }
}

impl QueryId for AdvanceFreeHeads<'_> {
    type QueryId = AdvanceFreeHeads<'static>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for AdvanceFreeHeads<'_> {
    type SqlType = Bool;
}

impl RunQueryDsl<PgConnection> for AdvanceFreeHeads<'_> {}
