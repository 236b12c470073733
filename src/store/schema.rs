//! The tables as diesel sees them. The migrations are the source; this follows them.
//!
//! On PostgreSQL three types have other names: `Timestamp` is `timestamptz` and `Text` in `changes`, `context` and
//! `attributes` is `json`. What goes over the wire is the same: diesel speaks the binary protocol, in which both pairs are
//! equal byte for byte.

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Nullable, Text, Timestamp};
    use super::super::types::SqlUuid;

    events (tenant_id, event_id) {
        tenant_id -> Text,
        event_id -> SqlUuid,
        project_id -> Text,
        leaf_index -> BigInt,
        record_time -> Timestamp,
        action_type -> Text,
        resource_type -> Text,
        resource_id -> Nullable<Text>,
        resource_name -> Nullable<Text>,
        actor_type -> Nullable<Text>,
        actor_id -> Nullable<Text>,
        actor_name -> Nullable<Text>,
        recorder_type -> Nullable<Text>,
        recorder_id -> Nullable<Text>,
        recorder_name -> Nullable<Text>,
        message -> Nullable<Text>,
        changes -> Nullable<Text>,
        context -> Nullable<Text>,
        attributes -> Nullable<Text>,
        salt -> Nullable<Binary>,
        body_commitment -> Binary,
        leaf_hash -> Binary,
        erase_time -> Nullable<Timestamp>,
        erase_reason -> Nullable<Text>,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Nullable, Text, Timestamp};
    use super::super::types::SqlUuid;

    update_notes (tenant_id, event_id, note_id) {
        tenant_id -> Text,
        event_id -> SqlUuid,
        note_id -> SqlUuid,
        leaf_index -> BigInt,
        create_time -> Timestamp,
        author_type -> Nullable<Text>,
        author_id -> Nullable<Text>,
        author_name -> Nullable<Text>,
        text -> Nullable<Text>,
        salt -> Nullable<Binary>,
        body_commitment -> Binary,
        leaf_hash -> Binary,
    }
}

diesel::table! {
    tree_heads (tenant_id) {
        tenant_id -> Text,
        tree_size -> BigInt,
        frontier -> Binary,
        epoch -> Integer,
    }
}

diesel::table! {
    log_epochs (tenant_id, epoch) {
        tenant_id -> Text,
        epoch -> Integer,
        tree_size -> BigInt,
        root -> Binary,
        begin_time -> Timestamp,
        acknowledged_by -> Text,
        reason -> Text,
    }
}

diesel::table! {
    tree_tiles (tenant_id, level, tile_index) {
        tenant_id -> Text,
        level -> SmallInt,
        tile_index -> BigInt,
        root -> Binary,
        hashes -> Binary,
    }
}

diesel::table! {
    signing_keys (number) {
        number -> SmallInt,
        public_key -> Binary,
    }
}

diesel::table! {
    schema_requirements (min_binary_version) {
        min_binary_version -> Integer,
    }
}

diesel::table! {
    /// Diesel's own, of which the service reads what is applied.
    __diesel_schema_migrations (version) {
        version -> Text,
    }
}

diesel::allow_tables_to_appear_in_same_query!(events, update_notes, tree_heads, tree_tiles, log_epochs);
