//! The log that is stored is sealed: its heads and tiles are those of the leaf hashes that the rows hold.
//!
//! The tree is computed here once more, from RFC 6962's own recursion.

use auditlog::proto::auditlog::v1::BatchRecordEventsRequest;
use rstest::rstest;
use sha2::{Digest as _, Sha256};

use crate::{child::PAST_MILLIS, harness::*, sql::Sql};

const T: &str = "tenants/acme";
/// The hashes of a tile.
const WIDTH: usize = 256;

type Hash = [u8; 32];

/// Asserts that each log has its leaves 0, 1, 2, …, and the head and the tiles that these make.
#[track_caller]
pub fn assert_sealed(database: &Database) {
    let mut sql = Sql::open(database);
    let stored: Vec<String> = sql.values("SELECT tenant_id || ' ' || tree_size AS value FROM tree_heads");
    for head in stored {
        let (tenant, size) = head.split_once(' ').unwrap();
        let leaves = leaf_hashes(&mut sql, tenant);
        assert_eq!(leaves.len(), size.parse::<usize>().unwrap(), "leaves of {tenant}");
        assert_eq!(frontier(&mut sql, tenant), hex::encode(subtrees(&leaves).concat()), "frontier of {tenant}");
        let stored: Vec<_> = tiles(&mut sql, tenant);
        assert!(stored == expected_tiles(leaves), "tiles of {tenant}");
    }
}

fn hex_of(sql: &Sql, column: &str) -> String {
    match sql {
        Sql::Sqlite(_) => format!("lower(hex({column}))"),
        Sql::Postgres(_) => format!("encode({column}, 'hex')"),
    }
}

fn frontier(sql: &mut Sql, tenant: &str) -> String {
    let frontier = hex_of(sql, "frontier");
    sql.value(&format!("SELECT {frontier} AS value FROM tree_heads WHERE tenant_id = '{tenant}'"))
}

#[track_caller]
fn leaf_hashes(sql: &mut Sql, tenant: &str) -> Vec<Hash> {
    let hash = hex_of(sql, "leaf_hash");
    let rows = sql.values(&format!(
        "SELECT leaf_index || ' ' || {hash} AS value FROM (SELECT tenant_id, leaf_index, leaf_hash FROM events \
         UNION ALL SELECT tenant_id, leaf_index, leaf_hash FROM update_notes) AS leaves \
         WHERE tenant_id = '{tenant}' ORDER BY leaf_index"
    ));
    let leaf = |(expected, row): (usize, &String)| {
        let (place, hash) = row.split_once(' ').unwrap();
        assert_eq!(place, expected.to_string(), "a hole or a double in {tenant}");
        hex::decode(hash).unwrap().try_into().unwrap()
    };
    rows.iter().enumerate().map(leaf).collect()
}

/// `(level, index, hashes, root)` of each tile.
type Tiles = Vec<(usize, usize, String, String)>;

fn tiles(sql: &mut Sql, tenant: &str) -> Tiles {
    let (root, hashes) = (hex_of(sql, "root"), hex_of(sql, "hashes"));
    let rows = sql.values(&format!(
        "SELECT level || ' ' || tile_index || ' ' || {hashes} || ' ' || {root} AS value FROM tree_tiles \
         WHERE tenant_id = '{tenant}' ORDER BY level, tile_index"
    ));
    let tile = |row: &String| {
        let parts: Vec<&str> = row.split(' ').collect();
        (parts[0].parse().unwrap(), parts[1].parse().unwrap(), parts[2].to_owned(), parts[3].to_owned())
    };
    rows.iter().map(tile).collect()
}

fn expected_tiles(mut hashes: Vec<Hash>) -> Tiles {
    let mut tiles = Vec::new();
    for level in 0.. {
        let (full, _) = hashes.as_chunks::<WIDTH>();
        if full.is_empty() {
            break;
        }
        let roots: Vec<Hash> = full.iter().map(|tile| root(tile)).collect();
        for (index, (tile, root)) in full.iter().zip(&roots).enumerate() {
            tiles.push((level, index, hex::encode(tile.concat()), hex::encode(root)));
        }
        hashes = roots;
    }
    tiles
}

/// The roots of the perfect subtrees, the largest first.
fn subtrees(mut leaves: &[Hash]) -> Vec<Hash> {
    let mut roots = Vec::new();
    while !leaves.is_empty() {
        let (first, rest) = leaves.split_at(1 << leaves.len().ilog2());
        roots.push(root(first));
        leaves = rest;
    }
    roots
}

/// RFC 6962, section 2.1.
fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Sha256::digest([]).into(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            Sha256::new().chain_update([1]).chain_update(root(left)).chain_update(root(right)).finalize().into()
        }
    }
}

/// Records `count` events in one batch.
pub async fn record_many(app: &TestApp, parent: &str, first: u64, count: u64) {
    let requests = (first..first + count)
        .map(|n| item("", event("clusterprofile", &n.to_string()), &id_at(PAST_MILLIS, n)))
        .collect();
    let request = BatchRecordEventsRequest { requests, parent: parent.to_owned() };
    app.client.clone().batch_record_events(Caller::root().call(request)).await.unwrap();
}

#[rstest]
#[tokio::test]
async fn a_log_is_sealed_at_every_size(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let root = Caller::root();
    let mut next = 0;
    // Across the edges of tiles, by single events, statements and copies, with notes among them, of two tenants.
    for count in [1, 1, 20, 200, 30, 3, 1, 255, 256, 257, 700, 1, 1000] {
        record_many(&app, T, next, count).await;
        record_many(&app, "tenants/other/projects/p", next, count.min(3)).await;
        let noted = format!("{T}/events/{}", id_at(PAST_MILLIS, next));
        app.note(&root, &noted, "why", "").await.unwrap();
        next += count;
        assert_sealed(&app.database);
    }
}

#[rstest]
#[tokio::test]
async fn a_log_goes_on_where_another_process_has_left_it(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let database = Database::create(backend);
    for (start, count) in [(0, 250), (250, 10), (260, 300), (560, 1)] {
        let app = TestApp::start_on(std::sync::Arc::clone(&database), |_| {}).await;
        record_many(&app, T, start, count).await;
        app.stop().await.unwrap().unwrap();
        assert_sealed(&database);
    }
}

/// As the heads were before the migration that brought the trees.
#[rstest]
#[tokio::test]
async fn a_log_from_before_it_was_sealed_is_sealed_by_the_next_append(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let database = Database::create(backend);
    let app = TestApp::start_on(std::sync::Arc::clone(&database), |_| {}).await;
    record_many(&app, T, 0, 600).await;
    app.stop().await.unwrap().unwrap();
    let nothing = if backend == Backend::Sqlite { "x''" } else { "''" };
    database.forge(&format!("DELETE FROM tree_tiles; UPDATE tree_heads SET frontier = {nothing}"));
    let app = TestApp::start_on(std::sync::Arc::clone(&database), |_| {}).await;
    record_many(&app, T, 600, 7).await;
    assert_sealed(&database);
    app.stop().await.unwrap().unwrap();
}
