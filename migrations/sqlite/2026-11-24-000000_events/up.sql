-- Events and update notes, and for each tenant how long its log is. Every key starts with tenant_id.
-- Body columns are NULL once a body was erased; what the leaf names is never NULL.

-- Which binaries may use this schema. A migration that takes something away raises it; an older replica that restarts
-- then refuses to start, instead of failing at its first statement.
CREATE TABLE schema_requirements (
    min_binary_version INTEGER NOT NULL
);
INSERT INTO schema_requirements VALUES (1);

CREATE TABLE events (
    tenant_id       TEXT NOT NULL,
    event_id        TEXT NOT NULL,      -- UUIDv7, whose time is the event's time
    project_id      TEXT NOT NULL,      -- '' for what was recorded at the tenant itself
    leaf_index      BIGINT NOT NULL,
    record_time     TIMESTAMP NOT NULL, -- UTC, to the microsecond
    action_type     TEXT NOT NULL CHECK (action_type IN ('create', 'update', 'delete')),
    resource_type   TEXT NOT NULL,
    resource_id     TEXT,
    resource_name   TEXT,
    actor_type      TEXT CHECK (actor_type IN ('user', 'service', 'system')),
    actor_id        TEXT,
    actor_name      TEXT,
    recorder_type   TEXT CHECK (recorder_type IN ('user', 'service', 'system')),
    recorder_id     TEXT,
    recorder_name   TEXT,
    message         TEXT,
    changes         TEXT,               -- JSON: [{"field", "old_value", "new_value"}]
    context         TEXT,               -- JSON: {"source_ip", "user_agent", "request_id", "trace_id"}, or NULL
    attributes      TEXT,               -- JSON: {key: value}
    salt            BLOB CHECK (length(salt) = 16),
    body_commitment BLOB NOT NULL CHECK (length(body_commitment) = 32),
    leaf_hash       BLOB NOT NULL CHECK (length(leaf_hash) = 32),
    erase_time      TIMESTAMP,
    erase_reason    TEXT,
    PRIMARY KEY (tenant_id, event_id)
);

CREATE UNIQUE INDEX events_leaf_index ON events (tenant_id, leaf_index);
CREATE INDEX events_project ON events (tenant_id, project_id, event_id);
CREATE INDEX events_resource_type ON events (tenant_id, resource_type, event_id);
CREATE INDEX events_resource ON events (tenant_id, resource_id, event_id);
CREATE INDEX events_actor ON events (tenant_id, actor_id, event_id);

CREATE TABLE update_notes (
    tenant_id       TEXT NOT NULL,
    event_id        TEXT NOT NULL,
    note_id         TEXT NOT NULL,      -- UUIDv7
    leaf_index      BIGINT NOT NULL,
    create_time     TIMESTAMP NOT NULL, -- UTC, to the microsecond
    author_type     TEXT CHECK (author_type IN ('user', 'service', 'system')),
    author_id       TEXT,
    author_name     TEXT,
    text            TEXT,
    salt            BLOB CHECK (length(salt) = 16),
    body_commitment BLOB NOT NULL CHECK (length(body_commitment) = 32),
    leaf_hash       BLOB NOT NULL CHECK (length(leaf_hash) = 32),
    PRIMARY KEY (tenant_id, event_id, note_id)
);

CREATE UNIQUE INDEX update_notes_note_id ON update_notes (tenant_id, note_id);
CREATE UNIQUE INDEX update_notes_leaf_index ON update_notes (tenant_id, leaf_index);

CREATE TABLE tree_heads (
    tenant_id TEXT NOT NULL PRIMARY KEY,
    tree_size BIGINT NOT NULL CHECK (tree_size > 0)
);

-- Append-only. The one UPDATE that passes is an erasure: all body columns and the salt to NULL, the rest equal.

CREATE TRIGGER events_no_delete BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only: DELETE is refused'); END;

CREATE TRIGGER events_only_erasure BEFORE UPDATE ON events
WHEN NOT (
    OLD.erase_time IS NULL AND NEW.erase_time IS NOT NULL AND NEW.erase_reason IS NOT NULL
    AND NEW.tenant_id = OLD.tenant_id AND NEW.event_id = OLD.event_id AND NEW.project_id = OLD.project_id
    AND NEW.leaf_index = OLD.leaf_index AND NEW.record_time = OLD.record_time AND NEW.action_type = OLD.action_type
    AND NEW.resource_type = OLD.resource_type AND NEW.body_commitment = OLD.body_commitment
    AND NEW.leaf_hash = OLD.leaf_hash
    AND COALESCE(
        NEW.resource_id, NEW.resource_name, NEW.actor_type, NEW.actor_id, NEW.actor_name, NEW.recorder_type,
        NEW.recorder_id, NEW.recorder_name, NEW.message, NEW.changes, NEW.context, NEW.attributes, NEW.salt
    ) IS NULL
)
BEGIN SELECT RAISE(ABORT, 'events are append-only: the only UPDATE is an erasure'); END;

CREATE TRIGGER update_notes_no_delete BEFORE DELETE ON update_notes
BEGIN SELECT RAISE(ABORT, 'update_notes are append-only: DELETE is refused'); END;

CREATE TRIGGER update_notes_only_erasure BEFORE UPDATE ON update_notes
WHEN NOT (
    OLD.salt IS NOT NULL
    AND NEW.tenant_id = OLD.tenant_id AND NEW.event_id = OLD.event_id AND NEW.note_id = OLD.note_id
    AND NEW.leaf_index = OLD.leaf_index AND NEW.create_time = OLD.create_time
    AND NEW.body_commitment = OLD.body_commitment AND NEW.leaf_hash = OLD.leaf_hash
    AND COALESCE(NEW.author_type, NEW.author_id, NEW.author_name, NEW.text, NEW.salt) IS NULL
)
BEGIN SELECT RAISE(ABORT, 'update_notes are append-only: the only UPDATE is an erasure'); END;

CREATE TRIGGER tree_heads_no_delete BEFORE DELETE ON tree_heads
BEGIN SELECT RAISE(ABORT, 'tree_heads only grow: DELETE is refused'); END;

CREATE TRIGGER tree_heads_only_grow BEFORE UPDATE ON tree_heads
WHEN NOT (NEW.tenant_id = OLD.tenant_id AND NEW.tree_size > OLD.tree_size)
BEGIN SELECT RAISE(ABORT, 'tree_heads only grow'); END;
