//! Which heads somebody else holds. The errors that diesel gives do not tell that a lock was waited for in vain, and none would
//! tell whose.

use std::collections::{BTreeMap, HashSet};

use diesel::{PgConnection, connection::SimpleConnection as _, dsl::sql, prelude::*, sql_types::Text};

use crate::store::schema::tree_heads;

/// How long to wait for the table, in milliseconds: who holds that holds everybody's head, and is none's in particular.
const MOST_WAIT: u32 = 200;

/// Those of `tenants` whose heads are locked by others at the moment, each with the transaction that has locked it.
pub(super) fn held(connection: &mut PgConnection, tenants: &[&str]) -> QueryResult<BTreeMap<String, String>> {
    connection.transaction(|connection| {
        connection.batch_execute(&format!("SET LOCAL lock_timeout = {MOST_WAIT}"))?;
        let heads = || tree_heads::table.filter(tree_heads::tenant_id.eq_any(tenants)).order(tree_heads::tenant_id);
        let mut held: Vec<(String, String)> =
            heads().select((tree_heads::tenant_id, sql::<Text>("xmax::text"))).load(connection)?;
        let free = heads().select(tree_heads::tenant_id).for_update().skip_locked().load(connection)?;
        let free: HashSet<String> = free.into_iter().collect();
        held.retain(|(tenant, _)| !free.contains(tenant));
        Ok(held.into_iter().collect())
    })
}
