//! The tables as diesel sees them. The migrations are the source; this follows them.

diesel::table! {
    events (tenant_id, event_id) {
        tenant_id -> Text,
        event_id -> Text,
        project_id -> Nullable<Text>,
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
    update_notes (tenant_id, event_id, note_id) {
        tenant_id -> Text,
        event_id -> Text,
        note_id -> Text,
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
    }
}

diesel::allow_tables_to_appear_in_same_query!(events, update_notes, tree_heads);
