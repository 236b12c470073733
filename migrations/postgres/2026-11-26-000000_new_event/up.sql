-- What the service gives for a row of `events`. It sends the rows of a batch as one array of these: an array for each
-- column would cost a quarter more, because PostgreSQL makes a table of each. A type of its own and not that of `events`,
-- so that a column added there does not stop the replicas that do not know it yet. It must never be altered, which would stop
-- them: a new column that is written takes a new type beside this one.
CREATE TYPE new_event AS (
    tenant_id       TEXT,
    event_id        UUID,
    project_id      TEXT,
    leaf_index      BIGINT,
    record_time     TIMESTAMPTZ,
    action_type     TEXT,
    resource_type   TEXT,
    resource_id     TEXT,
    resource_name   TEXT,
    actor_type      TEXT,
    actor_id        TEXT,
    actor_name      TEXT,
    recorder_type   TEXT,
    recorder_id     TEXT,
    recorder_name   TEXT,
    message         TEXT,
    changes         JSON,
    context         JSON,
    attributes      JSON,
    salt            BYTEA,
    body_commitment BYTEA,
    leaf_hash       BYTEA
);
