//! The schema as it stands in the databases, and what it refuses on stored data, asked of the owner of the tables.

use std::{fs, path::Path, sync::Arc};

use rstest::rstest;

use crate::{harness::*, sql::Sql};

const P: &str = "tenants/acme/projects/web";

/// The tables that the service's data is in, which are all but these two.
const OTHER_TABLES: &str = "('__diesel_schema_migrations', 'schema_requirements')";

/// What a leaf names, or what proves it: never NULL, and the same after an erasure.
const FIXED: [&str; 9] = [
    "tenant_id",
    "event_id",
    "project_id",
    "leaf_index",
    "record_time",
    "action_type",
    "resource_type",
    "body_commitment",
    "leaf_hash",
];
const BODY: [&str; 13] = [
    "resource_id",
    "resource_name",
    "actor_type",
    "actor_id",
    "actor_name",
    "recorder_type",
    "recorder_id",
    "recorder_name",
    "message",
    "changes",
    "context",
    "attributes",
    "salt",
];
const FIXED_OF_NOTE: [&str; 7] =
    ["tenant_id", "event_id", "note_id", "leaf_index", "create_time", "body_commitment", "leaf_hash"];
const BODY_OF_NOTE: [&str; 5] = ["author_type", "author_id", "author_name", "text", "salt"];

/// The indexes that the design names.
const INDEXES: [&str; 13] = [
    "events(tenant_id,event_id)",
    "events(tenant_id,leaf_index)",
    "events(tenant_id,project_id,event_id)",
    "events(tenant_id,resource_type,event_id)",
    "events(tenant_id,resource_id,event_id)",
    "events(tenant_id,actor_id,event_id)",
    "update_notes(tenant_id,event_id,note_id)",
    "update_notes(tenant_id,note_id)",
    "update_notes(tenant_id,leaf_index)",
    "tree_heads(tenant_id)",
    "tree_tiles(tenant_id,level,tile_index)",
    "log_epochs(tenant_id,epoch)",
    "__diesel_schema_migrations(version)",
];

/// `table(column,…)` of each index, those of primary keys too.
fn indexes(sql: &mut Sql) -> Vec<String> {
    let query = match sql {
        Sql::Sqlite(_) => {
            "SELECT t.name || '(' || (SELECT group_concat(name, ',') FROM (SELECT name FROM pragma_index_info(i.name) \
             ORDER BY seqno)) || ')' AS value FROM sqlite_master t, pragma_index_list(t.name) i WHERE t.type = 'table'"
        }
        Sql::Postgres(_) => {
            "SELECT c.relname || '(' || string_agg(a.attname, ',' ORDER BY k.n) || ')' AS value \
             FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid, unnest(x.indkey) WITH ORDINALITY k(attnum, n), \
             pg_attribute a WHERE c.relnamespace = 'public'::regnamespace AND a.attrelid = c.oid \
             AND a.attnum = k.attnum GROUP BY c.relname, x.indexrelid"
        }
    };
    sql.values(query)
}

/// `table.column` of each column of the service's tables, with what it may hold.
fn columns(sql: &mut Sql) -> Vec<String> {
    let query = match sql {
        Sql::Sqlite(_) => {
            "SELECT t.name || '.' || c.name || CASE c.\"notnull\" WHEN 1 THEN ' NOT NULL' ELSE '' END AS value \
             FROM sqlite_master t, pragma_table_info(t.name) c \
             WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite%' AND t.name <> '__diesel_schema_migrations' \
             ORDER BY t.name, c.cid"
        }
        Sql::Postgres(_) => {
            "SELECT c.relname || '.' || a.attname || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END AS value \
             FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 \
             WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition \
             AND c.relname <> '__diesel_schema_migrations' ORDER BY c.relname COLLATE \"C\", a.attnum"
        }
    };
    sql.values(query)
}

fn partitions(sql: &mut Sql) -> Vec<String> {
    sql.values(
        "SELECT inhrelid::regclass::text AS value FROM pg_inherits WHERE inhparent = 'events'::regclass ORDER BY 1",
    )
}

#[rstest]
#[tokio::test]
async fn every_key_of_a_tenants_data_begins_with_the_tenant(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    let mut sql = Sql::open(&app.database);
    let indexes = indexes(&mut sql);
    // One key signs for all tenants.
    let mut others: Vec<_> = indexes.iter().filter(|index| !index.contains("(tenant_id")).collect();
    others.sort_unstable();
    assert_eq!(others, ["__diesel_schema_migrations(version)", "signing_keys(number)"]);
    for index in INDEXES {
        assert!(indexes.iter().any(|found| found == index), "{index} is missing in {indexes:?}");
    }
    if backend == Backend::Postgres {
        let without_key = sql.values(&format!(
            "SELECT relname::text AS value FROM pg_class c WHERE relnamespace = 'public'::regnamespace \
             AND relkind IN ('r', 'p') AND relname NOT IN {OTHER_TABLES} \
             AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indisprimary)"
        ));
        assert_eq!(without_key, [""; 0]);
    }
}

/// Rows are stored through the type, and read by hand through the table.
#[tokio::test]
async fn the_type_of_new_events_has_the_columns_of_the_table_but_those_of_an_erasure() {
    let app = TestApp::start(Backend::Postgres).await;
    let mut sql = Sql::open(&app.database);
    let mut columns_of = |relation: &str| {
        sql.values(&format!(
            "SELECT attname || ' ' || format_type(atttypid, atttypmod) AS value FROM pg_attribute \
             WHERE attrelid = '{relation}'::regclass AND attnum > 0 AND attname NOT LIKE 'erase_%' ORDER BY attnum"
        ))
    };
    let (given, stored) = (columns_of("new_event"), columns_of("events"));
    assert_eq!(given.len(), FIXED.len() + BODY.len());
    assert_eq!(given, stored);
}

#[tokio::test]
async fn every_partition_has_every_index_and_refuses_truncate() {
    let app = TestApp::start(Backend::Postgres).await;
    let mut sql = Sql::open(&app.database);
    sql.run("SELECT make_event_partitions(now() + interval '2 years')");
    let indexes = indexes(&mut sql);
    let of = |table: &str| {
        let mut of: Vec<_> = indexes.iter().filter_map(|index| index.strip_prefix(&format!("{table}("))).collect();
        of.sort_unstable();
        of
    };
    let partitions = partitions(&mut sql);
    assert!(partitions.len() > 24, "{partitions:?}");
    for partition in partitions {
        assert_eq!(of(&partition), of("events"), "{partition}");
        sql.refused(&format!("TRUNCATE {partition}"), "append-only");
    }
}

#[tokio::test]
async fn both_stores_have_the_same_tables_and_columns() {
    let (sqlite, postgres) = tokio::join!(TestApp::start(Backend::Sqlite), TestApp::start(Backend::Postgres));
    let columns = columns(&mut Sql::open(&sqlite.database));
    assert_eq!(columns, self::columns(&mut Sql::open(&postgres.database)));
    let of_events = FIXED.map(|column| format!("events.{column} NOT NULL"));
    let of_notes = FIXED_OF_NOTE.map(|column| format!("update_notes.{column} NOT NULL"));
    for column in of_events.iter().chain(&of_notes) {
        assert!(columns.contains(column), "{column} is missing in {columns:?}");
    }
    // The lists above are complete.
    let named = |table: &str| columns.iter().filter(|column| column.starts_with(table)).count();
    assert_eq!(named("events."), FIXED.len() + BODY.len() + 2);
    assert_eq!(named("update_notes."), FIXED_OF_NOTE.len() + BODY_OF_NOTE.len());
}

/// Another value that each column could hold.
fn other_value(column: &str, backend: Backend) -> String {
    let bytes = |count: usize| match backend {
        Backend::Sqlite => format!("x'{}'", "00".repeat(count)),
        Backend::Postgres => format!("'\\x{}'", "00".repeat(count)),
    };
    match column {
        "event_id" | "note_id" => "'01890a5d-ac96-7000-8000-000000000000'".to_owned(),
        "leaf_index" => "99".to_owned(),
        "record_time" | "create_time" | "erase_time" => "'2001-02-03 04:05:06'".to_owned(),
        "action_type" => "'delete'".to_owned(),
        "actor_type" | "recorder_type" | "author_type" => "'system'".to_owned(),
        "changes" | "context" | "attributes" => "'[]'".to_owned(),
        "salt" => bytes(16),
        "body_commitment" | "leaf_hash" => bytes(32),
        _ => "'other'".to_owned(),
    }
}

fn erasure(table: &str, body: &[&str], but: Option<&str>, and: &str) -> String {
    let nulls: Vec<_> = body.iter().filter(|column| Some(**column) != but).map(|c| format!("{c} = NULL")).collect();
    let marks = if table == "events" { "erase_time = '2026-05-05 00:00:00', erase_reason = 'asked', " } else { "" };
    format!("UPDATE {table} SET {marks}{}{and}", nulls.join(", "))
}

/// A service with one event in the month of its installation or before, and a note on it.
async fn with_event_and_note(backend: Backend) -> (TestApp, String, Sql) {
    let app = TestApp::start(backend).await;
    let root = Caller::root();
    let event = auditlog::proto::auditlog::v1::Event {
        context: Some(auditlog::proto::auditlog::v1::RequestContext {
            source_ip: "10.0.0.1".to_owned(),
            ..Default::default()
        }),
        ..event("clusterprofile", "c-1")
    };
    let name = app.record(&root, P, event).await.unwrap().name;
    app.note(&root, &name, "why", "").await.unwrap();
    let sql = Sql::open(&app.database);
    (app, name, sql)
}

#[rstest]
#[tokio::test]
async fn stored_rows_refuse_every_change_but_an_erasure(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let (app, name, mut sql) = with_event_and_note(backend).await;
    let all = |fixed: &[&'static str], body: &[&'static str]| [fixed, body].concat();
    for (table, fixed, body) in
        [("events", &FIXED[..], &BODY[..]), ("update_notes", &FIXED_OF_NOTE[..], &BODY_OF_NOTE[..])]
    {
        sql.refused(&format!("DELETE FROM {table}"), "append-only");
        for column in all(fixed, body) {
            let value = other_value(column, backend);
            sql.refused(&format!("UPDATE {table} SET {column} = {value}"), "append-only");
        }
        for column in body {
            sql.refused(&erasure(table, body, Some(column), ""), "append-only");
        }
        for column in fixed {
            let also = format!(", {column} = {}", other_value(column, backend));
            sql.refused(&erasure(table, body, None, &also), "append-only");
        }
        // What is erased stays as it is.
        sql.run(&erasure(table, body, None, ""));
        sql.refused(&erasure(table, body, None, ""), "append-only");
        for column in body {
            let value = other_value(column, backend);
            sql.refused(&format!("UPDATE {table} SET {column} = {value}"), "append-only");
        }
    }
    sql.refused("UPDATE events SET erase_reason = 'other'", "append-only");
    let got = app.get(&Caller::root(), &name).await.unwrap();
    assert_eq!(got.erasure.unwrap().reason, "asked");
    assert!(got.salt.is_empty() && got.actor.is_none() && got.update_notes[0].text.is_empty());
    assert_eq!((got.body_commitment.len(), got.update_notes[0].body_commitment.len()), (32, 32));
}

#[rstest]
#[tokio::test]
async fn heads_only_grow(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let (_app, _, mut sql) = with_event_and_note(backend).await;
    for change in [
        "tree_size = tree_size - 1",
        "tree_size = tree_size",
        "tenant_id = 'other', tree_size = 9",
        "epoch = epoch + 2",
        "epoch = epoch - 1",
        "epoch = epoch + 1, tree_size = tree_size + 1",
    ] {
        sql.refused(&format!("UPDATE tree_heads SET {change}"), "only grow");
    }
    sql.refused("INSERT INTO tree_heads VALUES ('acme', 1) ON CONFLICT (tenant_id) DO UPDATE SET tree_size = 1", "");
    sql.try_run("DELETE FROM tree_heads").unwrap_err();
    sql.run("UPDATE tree_heads SET tree_size = tree_size + 1");
    sql.run("UPDATE tree_heads SET epoch = epoch + 1");
    assert_eq!(sql.value("SELECT tree_size || ' ' || epoch AS value FROM tree_heads"), "3 2");
}

/// Also by who owns the tables: a tile, an epoch and a key are for ever.
#[rstest]
#[tokio::test]
async fn what_stands_beside_the_log_never_changes(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let (_app, _, mut sql) = with_event_and_note(backend).await;
    let bytes = |count: usize| match backend {
        Backend::Sqlite => format!("zeroblob({count})"),
        Backend::Postgres => format!("decode(repeat('00', {count}), 'hex')"),
    };
    sql.run(&format!("INSERT INTO tree_tiles VALUES ('acme', 0, 0, {}, {})", bytes(32), bytes(8192)));
    sql.run(&format!("INSERT INTO log_epochs VALUES ('acme', 2, 1, {}, CURRENT_TIMESTAMP, 'olga', 'why')", bytes(32)));
    for (table, column) in [("tree_tiles", "root"), ("log_epochs", "reason"), ("signing_keys", "public_key")] {
        assert_ne!(sql.value(&format!("SELECT count(*) || '' AS value FROM {table}")), "0", "{table}");
        sql.refused(&format!("UPDATE {table} SET {column} = {column}"), "append-only");
        sql.refused(&format!("DELETE FROM {table}"), "append-only");
        if backend == Backend::Postgres {
            sql.refused(&format!("TRUNCATE {table}"), "append-only");
        }
    }
}

#[tokio::test]
async fn sqlite_refuses_to_replace_what_is_stored() {
    let (_app, _, mut sql) = with_event_and_note(Backend::Sqlite).await;
    for table in ["events", "update_notes", "tree_heads"] {
        sql.try_run(&format!("INSERT OR REPLACE INTO {table} SELECT * FROM {table}")).unwrap_err();
        sql.try_run(&format!("REPLACE INTO {table} SELECT * FROM {table}")).unwrap_err();
    }
}

#[tokio::test]
async fn postgres_refuses_truncate_and_changes_of_a_partition() {
    let (_app, _, mut sql) = with_event_and_note(Backend::Postgres).await;
    for statement in
        ["TRUNCATE events", "TRUNCATE update_notes", "TRUNCATE tree_heads", "TRUNCATE events, update_notes"]
    {
        sql.refused(statement, "append-only");
    }
    let partition = sql.value("SELECT tableoid::regclass::text AS value FROM events");
    sql.refused(&format!("DELETE FROM {partition}"), "append-only");
    sql.refused(&format!("UPDATE {partition} SET message = 'other'"), "append-only");
    sql.refused(&format!("TRUNCATE {partition}"), "append-only");
    sql.refused(
        "INSERT INTO events SELECT * FROM events ON CONFLICT (tenant_id, event_id) DO UPDATE SET message = 'other'",
        "append-only",
    );
}

#[tokio::test]
async fn what_runs_as_the_owner_chooses_its_own_schema_and_is_not_for_everybody() {
    let app = TestApp::start(Backend::Postgres).await;
    let mut sql = Sql::open(&app.database);
    let of_owner = "FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef";
    let functions = sql.values(&format!("SELECT proname::text AS value {of_owner}"));
    assert!(functions.contains(&"make_event_partitions".to_owned()), "{functions:?}");
    let open_path = sql.values(&format!(
        "SELECT proname::text AS value {of_owner} AND coalesce(array_to_string(proconfig, ';'), '') \
         !~ '(^|;)search_path=public, pg_temp(;|$)'"
    ));
    assert_eq!(open_path, [""; 0]);
    let open_to_all = sql.values(&format!(
        "SELECT proname::text AS value {of_owner} AND has_function_privilege('public', oid, 'EXECUTE')"
    ));
    assert_eq!(open_to_all, [""; 0]);
}

/// And that without a search_path of the function's own, which would be set and set back with each batch.
#[tokio::test]
async fn no_table_of_somebody_elses_stands_in_for_the_heads() {
    let (_app, _, mut sql) = with_event_and_note(Backend::Postgres).await;
    let configured = "SELECT (proconfig IS NOT NULL)::text AS value FROM pg_proc WHERE proname = 'advance_heads'";
    assert_eq!(sql.value(configured), "false");
    sql.run("CREATE TEMPORARY TABLE tree_heads (LIKE public.tree_heads INCLUDING ALL)");
    sql.run("SET search_path = pg_temp, pg_catalog");
    let tenants = "FROM public.tree_heads WHERE tree_size = 2";
    sql.run(&format!(
        "SELECT public.advance_heads(array_agg(tenant_id), array_agg(tree_size), array_agg(frontier), array_agg(3::bigint), \
         array_agg(frontier), '{{}}', '{{}}', '{{}}', '{{}}', '{{}}') {tenants}"
    ));
    assert_eq!(sql.value("SELECT max(tree_size)::text AS value FROM public.tree_heads"), "3");
    assert_eq!(sql.value("SELECT count(*)::text AS value FROM tree_heads"), "0");
}

/// The SQL of all migrations, `up.sql` oldest first and `down.sql` newest first.
fn migrations(backend: Backend, file: &str) -> Vec<String> {
    let folder = if backend == Backend::Sqlite { "sqlite" } else { "postgres" };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(folder);
    let mut folders: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    if file == "down.sql" {
        folders.reverse();
    }
    folders.iter().map(|folder| fs::read_to_string(folder.join(file)).unwrap()).collect()
}

#[test]
fn both_stores_have_migrations_of_the_same_names() {
    let names = |backend: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(backend);
        let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names("sqlite"), names("postgres"));
}

#[rstest]
#[tokio::test]
async fn migrations_can_be_undone_and_done_again(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let database = Arc::clone(&app.database);
    let mut sql = Sql::open(&database);
    let (mut before, all_columns) = (indexes(&mut sql), columns(&mut sql));
    app.stop().await.unwrap().unwrap();

    for down in migrations(backend, "down.sql") {
        sql.run(&format!("BEGIN; {down}; COMMIT"));
    }
    assert_eq!(columns(&mut sql), [""; 0]);
    if backend == Backend::Postgres {
        let functions = sql.values(
            "SELECT proname::text AS value FROM pg_proc WHERE pronamespace = 'public'::regnamespace \
             AND proname NOT LIKE 'diesel%'",
        );
        assert_eq!(functions, [""; 0]);
    }
    for up in migrations(backend, "up.sql") {
        sql.run(&format!("BEGIN; {up}; COMMIT"));
    }
    let app = TestApp::start_on(database, |_| {}).await;
    app.record(&Caller::root(), P, event("k", "1")).await.unwrap();
    let mut after = indexes(&mut sql);
    before.sort();
    after.sort();
    assert_eq!((after, columns(&mut sql)), (before, all_columns));
}
