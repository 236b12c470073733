//! Which heads somebody else holds. The errors that diesel gives do not tell that a lock was waited for in vain, and none would
//! tell whose.

use std::collections::HashSet;

use diesel::{PgConnection, connection::SimpleConnection as _, prelude::*};

use crate::store::schema::tree_heads;

/// How long to wait for the table, in milliseconds: who holds that holds everybody's head, and is none's in particular.
const MOST_WAIT: u32 = 200;

/// Those of `tenants` whose heads are locked by others at the moment.
pub(super) fn held(connection: &mut PgConnection, tenants: &[&str]) -> QueryResult<Vec<String>> {
    connection.transaction(|connection| {
        connection.batch_execute(&format!("SET LOCAL lock_timeout = {MOST_WAIT}"))?;
        let heads = || {
            let of_tenants = tree_heads::table.filter(tree_heads::tenant_id.eq_any(tenants));
            of_tenants.order(tree_heads::tenant_id).select(tree_heads::tenant_id)
        };
        let mut all: Vec<String> = heads().load(connection)?;
        let free: HashSet<String> = heads().for_update().skip_locked().load(connection)?.into_iter().collect();
        all.retain(|tenant| !free.contains(tenant));
        Ok(all)
    })
}
