-- Events and update notes, and for each tenant how long its log is. Every key starts with tenant_id. Texts in keys are
-- compared by their bytes, as on SQLite.
-- Body columns are NULL once a body was erased; what the leaf names is never NULL.

-- Which binaries may use this schema. A migration that takes something away raises it; an older replica that restarts
-- then refuses to start, instead of failing at its first statement.
CREATE TABLE schema_requirements (
    min_binary_version INTEGER NOT NULL
);
INSERT INTO schema_requirements VALUES (1);

-- By month of event_id, whose first 48 bits are the event's time in milliseconds: see make_event_partitions below.
CREATE TABLE events (
    tenant_id       TEXT COLLATE "C" NOT NULL,
    event_id        UUID NOT NULL,      -- UUIDv7, whose time is the event's time
    project_id      TEXT COLLATE "C" NOT NULL, -- '' for what was recorded at the tenant itself
    leaf_index      BIGINT NOT NULL,
    record_time     TIMESTAMPTZ NOT NULL,
    action_type     TEXT NOT NULL CHECK (action_type IN ('create', 'update', 'delete')),
    resource_type   TEXT COLLATE "C" NOT NULL,
    resource_id     TEXT COLLATE "C",
    resource_name   TEXT,
    actor_type      TEXT CHECK (actor_type IN ('user', 'service', 'system')),
    actor_id        TEXT COLLATE "C",
    actor_name      TEXT,
    recorder_type   TEXT CHECK (recorder_type IN ('user', 'service', 'system')),
    recorder_id     TEXT,
    recorder_name   TEXT,
    message         TEXT,
    changes         JSON,               -- [{"field", "old_value", "new_value"}]
    context         JSON,               -- {"source_ip", "user_agent", "request_id", "trace_id"}, or NULL
    attributes      JSON,               -- {key: value}
    salt            BYTEA CHECK (length(salt) = 16),
    body_commitment BYTEA NOT NULL CHECK (length(body_commitment) = 32),
    leaf_hash       BYTEA NOT NULL CHECK (length(leaf_hash) = 32),
    erase_time      TIMESTAMPTZ,
    erase_reason    TEXT,
    PRIMARY KEY (tenant_id, event_id)
) PARTITION BY RANGE (event_id);

-- Not unique, because a unique key of a partitioned table must hold event_id: that no two leaves share a place is the
-- head's work.
CREATE INDEX events_leaf_index ON events (tenant_id, leaf_index);
CREATE INDEX events_project ON events (tenant_id, project_id, event_id);
CREATE INDEX events_resource_type ON events (tenant_id, resource_type, event_id);
CREATE INDEX events_resource ON events (tenant_id, resource_id, event_id);
CREATE INDEX events_actor ON events (tenant_id, actor_id, event_id);

CREATE TABLE update_notes (
    tenant_id       TEXT COLLATE "C" NOT NULL,
    event_id        UUID NOT NULL,
    note_id         UUID NOT NULL,      -- UUIDv7
    leaf_index      BIGINT NOT NULL,
    create_time     TIMESTAMPTZ NOT NULL,
    author_type     TEXT CHECK (author_type IN ('user', 'service', 'system')),
    author_id       TEXT,
    author_name     TEXT,
    text            TEXT,
    salt            BYTEA CHECK (length(salt) = 16),
    body_commitment BYTEA NOT NULL CHECK (length(body_commitment) = 32),
    leaf_hash       BYTEA NOT NULL CHECK (length(leaf_hash) = 32),
    PRIMARY KEY (tenant_id, event_id, note_id)
);

CREATE UNIQUE INDEX update_notes_note_id ON update_notes (tenant_id, note_id);
CREATE UNIQUE INDEX update_notes_leaf_index ON update_notes (tenant_id, leaf_index);

-- Updated with every batch: room on each page keeps the updates off the index.
CREATE TABLE tree_heads (
    tenant_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    tree_size BIGINT NOT NULL CHECK (tree_size > 0)
) WITH (fillfactor = 50);

-- Append-only. The one UPDATE that passes is an erasure: all body columns and the salt to NULL, the rest equal.

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% are append-only: % is refused', TG_ARGV[0], TG_OP USING ERRCODE = 'restrict_violation';
END $$;

CREATE FUNCTION only_event_erasure() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.erase_time IS NULL AND NEW.erase_time IS NOT NULL AND NEW.erase_reason IS NOT NULL
        AND (NEW.tenant_id, NEW.event_id, NEW.project_id, NEW.leaf_index, NEW.record_time, NEW.action_type,
             NEW.resource_type, NEW.body_commitment, NEW.leaf_hash)
          = (OLD.tenant_id, OLD.event_id, OLD.project_id, OLD.leaf_index, OLD.record_time, OLD.action_type,
             OLD.resource_type, OLD.body_commitment, OLD.leaf_hash)
        AND num_nonnulls(
             NEW.resource_id, NEW.resource_name, NEW.actor_type, NEW.actor_id, NEW.actor_name, NEW.recorder_type,
             NEW.recorder_id, NEW.recorder_name, NEW.message, NEW.changes, NEW.context, NEW.attributes, NEW.salt) = 0
    THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'events are append-only: the only UPDATE is an erasure' USING ERRCODE = 'restrict_violation';
END $$;

CREATE FUNCTION only_note_erasure() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.salt IS NOT NULL
        AND (NEW.tenant_id, NEW.event_id, NEW.note_id, NEW.leaf_index, NEW.create_time, NEW.body_commitment,
             NEW.leaf_hash)
          = (OLD.tenant_id, OLD.event_id, OLD.note_id, OLD.leaf_index, OLD.create_time, OLD.body_commitment,
             OLD.leaf_hash)
        AND num_nonnulls(NEW.author_type, NEW.author_id, NEW.author_name, NEW.text, NEW.salt) = 0
    THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'update_notes are append-only: the only UPDATE is an erasure' USING ERRCODE = 'restrict_violation';
END $$;

CREATE FUNCTION only_growth() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.tenant_id = OLD.tenant_id AND NEW.tree_size > OLD.tree_size THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'tree_heads only grow' USING ERRCODE = 'restrict_violation';
END $$;

-- Row triggers of a partitioned table hold on each partition, statement triggers do not: make_event_partitions adds the
-- one against TRUNCATE to each.
CREATE TRIGGER events_no_delete BEFORE DELETE ON events
    FOR EACH ROW EXECUTE FUNCTION refuse_change('events');
CREATE TRIGGER events_only_erasure BEFORE UPDATE ON events
    FOR EACH ROW EXECUTE FUNCTION only_event_erasure();
CREATE TRIGGER events_no_truncate BEFORE TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('events');
CREATE TRIGGER update_notes_no_delete BEFORE DELETE ON update_notes
    FOR EACH ROW EXECUTE FUNCTION refuse_change('update_notes');
CREATE TRIGGER update_notes_only_erasure BEFORE UPDATE ON update_notes
    FOR EACH ROW EXECUTE FUNCTION only_note_erasure();
CREATE TRIGGER update_notes_no_truncate BEFORE TRUNCATE ON update_notes
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('update_notes');
CREATE TRIGGER tree_heads_no_delete BEFORE DELETE ON tree_heads
    FOR EACH ROW EXECUTE FUNCTION refuse_change('tree_heads');
CREATE TRIGGER tree_heads_only_growth BEFORE UPDATE ON tree_heads
    FOR EACH ROW EXECUTE FUNCTION only_growth();
CREATE TRIGGER tree_heads_no_truncate BEFORE TRUNCATE ON tree_heads
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('tree_heads');

-- Moves heads, each from the size at which the caller knows it, 0 for a log that begins. The tenants must be sorted: all who move several heads
-- take their locks in that order, so nobody waits for somebody who waits for them. A head that has moved since fails the
-- whole statement with serialization_failure.
CREATE FUNCTION advance_heads(tenants TEXT[], from_sizes BIGINT[], to_sizes BIGINT[]) RETURNS BOOLEAN
    LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. cardinality(tenants) LOOP
        IF from_sizes[i] = 0 THEN
            INSERT INTO tree_heads VALUES (tenants[i], to_sizes[i]) ON CONFLICT DO NOTHING;
        ELSE
            UPDATE tree_heads SET tree_size = to_sizes[i] WHERE tenant_id = tenants[i] AND tree_size = from_sizes[i];
        END IF;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'the head of % has moved', tenants[i] USING ERRCODE = 'serialization_failure';
        END IF;
    END LOOP;
    RETURN TRUE;
END $$;

-- The smallest id of a time.
CREATE FUNCTION first_event_id(at TIMESTAMPTZ) RETURNS UUID LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- Makes the partitions for all months up to the one of `until`: first one for all that lies before this month, then a
-- month at a time. CREATE TABLE … PARTITION OF would lock out readers and writers; CREATE TABLE … LIKE and ATTACH do
-- not. Only one session does it at a time. It runs as its owner, so that the service's role needs no right to create.
CREATE FUNCTION make_event_partitions(until TIMESTAMPTZ) RETURNS INTEGER
    LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    made INTEGER := 0;
    first_month TIMESTAMPTZ;
    next_month TIMESTAMPTZ;
    name TEXT;
BEGIN
    -- Locals of the function, not of the session: a caller's search_path must not choose what runs as the owner.
    PERFORM pg_advisory_xact_lock(hashtextextended('auditlog.make_event_partitions', 0));
    IF to_regclass('events_before') IS NULL THEN
        first_month := date_trunc('month', least(now(), until), 'UTC');
        PERFORM add_event_partition('events_before', NULL, first_month);
        made := 1;
    ELSE
        SELECT (regexp_match(pg_get_expr(relpartbound, oid), 'TO \(''([0-9a-f-]+)''\)'))[1] INTO name
            FROM pg_class WHERE oid = 'events_before'::regclass;
        first_month := to_timestamp(('x' || lpad(translate(left(name, 13), '-', ''), 16, '0'))::bit(64)::bigint / 1000.0);
    END IF;
    next_month := first_month;
    WHILE next_month <= until LOOP
        name := 'events_' || to_char(next_month AT TIME ZONE 'UTC', 'YYYY_MM');
        IF to_regclass(name) IS NULL THEN
            PERFORM add_event_partition(
                name, next_month, (next_month AT TIME ZONE 'UTC' + INTERVAL '1 month') AT TIME ZONE 'UTC');
            made := made + 1;
        END IF;
        next_month := (next_month AT TIME ZONE 'UTC' + INTERVAL '1 month') AT TIME ZONE 'UTC';
    END LOOP;
    RETURN made;
END $$;

CREATE FUNCTION add_event_partition(name TEXT, from_time TIMESTAMPTZ, to_time TIMESTAMPTZ) RETURNS VOID
    LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE %I (LIKE events INCLUDING ALL)', name);
    EXECUTE format(
        'CREATE TRIGGER %I BEFORE TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION refuse_change(''events'')',
        name || '_no_truncate', name);
    EXECUTE format(
        'ALTER TABLE events ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%L)',
        name, coalesce(quote_literal(first_event_id(from_time)), 'MINVALUE'), first_event_id(to_time));
END $$;
REVOKE ALL ON FUNCTION add_event_partition FROM PUBLIC;
REVOKE ALL ON FUNCTION make_event_partitions FROM PUBLIC;

-- What runs as the owner, or inside everybody's statement, finds its tables in this schema and nowhere else.
DO $$
DECLARE
    function REGPROCEDURE;
BEGIN
    FOREACH function IN ARRAY ARRAY[
        'advance_heads(text[],bigint[],bigint[])', 'make_event_partitions(timestamptz)',
        'add_event_partition(text,timestamptz,timestamptz)']::regprocedure[]
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', function, current_schema());
    END LOOP;
END $$;
