-- The Merkle tree of each tenant's log: what its head is made of, and the tiles that are finished.

-- The roots of the full subtrees that the leaves make, the largest first: one for each bit of tree_size that is set. Empty
-- beside a size for a log that is older than this column; the next append to it makes the tree from the leaf hashes.
ALTER TABLE tree_heads ADD COLUMN frontier BYTEA NOT NULL DEFAULT '';
-- How many histories the log has had: it grows when an operator acknowledges that the database went back, and never else.
ALTER TABLE tree_heads ADD COLUMN epoch INTEGER NOT NULL DEFAULT 1;

-- A tile is 256 hashes of one level: level 0 has the leaf hashes, level n the roots of the tiles of level n - 1. What is
-- not finished is in no tile: it is read from the events' and notes' leaf_hash, and from the roots beside the tiles.
CREATE TABLE tree_tiles (
    tenant_id  TEXT COLLATE "C" NOT NULL,
    level      SMALLINT NOT NULL,
    tile_index BIGINT NOT NULL,
    root       BYTEA NOT NULL CHECK (length(root) = 32),
    hashes     BYTEA NOT NULL CHECK (length(hashes) = 8192),
    PRIMARY KEY (tenant_id, level, tile_index)
);
-- Hashes do not compress.
ALTER TABLE tree_tiles ALTER COLUMN hashes SET STORAGE EXTERNAL;

CREATE TRIGGER tree_tiles_no_delete BEFORE DELETE ON tree_tiles
    FOR EACH ROW EXECUTE FUNCTION refuse_change('tree_tiles');
CREATE TRIGGER tree_tiles_no_update BEFORE UPDATE ON tree_tiles
    FOR EACH ROW EXECUTE FUNCTION refuse_change('tree_tiles');
CREATE TRIGGER tree_tiles_no_truncate BEFORE TRUNCATE ON tree_tiles
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('tree_tiles');

-- What was acknowledged when an epoch began. The first epoch of a log has no row.
CREATE TABLE log_epochs (
    tenant_id       TEXT COLLATE "C" NOT NULL,
    epoch           INTEGER NOT NULL CHECK (epoch > 1),
    tree_size       BIGINT NOT NULL,
    root            BYTEA NOT NULL CHECK (length(root) = 32),
    begin_time      TIMESTAMPTZ NOT NULL,
    acknowledged_by TEXT NOT NULL,
    reason          TEXT NOT NULL,
    PRIMARY KEY (tenant_id, epoch)
);

CREATE TRIGGER log_epochs_no_delete BEFORE DELETE ON log_epochs
    FOR EACH ROW EXECUTE FUNCTION refuse_change('log_epochs');
CREATE TRIGGER log_epochs_no_update BEFORE UPDATE ON log_epochs
    FOR EACH ROW EXECUTE FUNCTION refuse_change('log_epochs');
CREATE TRIGGER log_epochs_no_truncate BEFORE TRUNCATE ON log_epochs
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('log_epochs');

-- A head grows, or it stays what it is and begins the next epoch.
CREATE OR REPLACE FUNCTION only_growth() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.tenant_id = OLD.tenant_id
        AND (NEW.epoch = OLD.epoch AND NEW.tree_size > OLD.tree_size
            OR NEW.epoch = OLD.epoch + 1 AND NEW.tree_size = OLD.tree_size AND NEW.frontier = OLD.frontier)
    THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'tree_heads only grow' USING ERRCODE = 'restrict_violation';
END $$;

-- Moves heads, each from the size and the frontier with which the caller knows it, 0 and none for a log that begins, and
-- stores the tiles that this finishes. The tenants must be sorted: all who move several heads take their locks in that
-- order, so nobody waits for somebody who waits for them. Tiles come last: who stores one has the head, so nobody waits
-- for a tile. A head that has moved since fails the whole statement with serialization_failure.
DROP FUNCTION advance_heads(TEXT[], BIGINT[], BIGINT[]);
CREATE FUNCTION advance_heads(
    tenants TEXT[], from_sizes BIGINT[], from_frontiers BYTEA[], to_sizes BIGINT[], to_frontiers BYTEA[],
    tile_tenants TEXT[], tile_levels SMALLINT[], tile_indexes BIGINT[], tile_roots BYTEA[], tile_hashes BYTEA[]
) RETURNS BOOLEAN LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. cardinality(tenants) LOOP
        IF from_sizes[i] = 0 THEN
            INSERT INTO tree_heads (tenant_id, tree_size, frontier) VALUES (tenants[i], to_sizes[i], to_frontiers[i])
                ON CONFLICT DO NOTHING;
        ELSE
            UPDATE tree_heads SET tree_size = to_sizes[i], frontier = to_frontiers[i]
                WHERE tenant_id = tenants[i] AND tree_size = from_sizes[i] AND frontier = from_frontiers[i];
        END IF;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'the head of % has moved', tenants[i] USING ERRCODE = 'serialization_failure';
        END IF;
    END LOOP;
    IF cardinality(tile_tenants) > 0 THEN
        INSERT INTO tree_tiles SELECT * FROM unnest(tile_tenants, tile_levels, tile_indexes, tile_roots, tile_hashes);
    END IF;
    RETURN TRUE;
END $$;
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION advance_heads SET search_path = %I, pg_temp', current_schema());
END $$;

-- What appends without sealing must not append any more.
UPDATE schema_requirements SET min_binary_version = 2;
