-- The Merkle tree of each tenant's log: what its head is made of, and the tiles that are finished.

-- The roots of the full subtrees that the leaves make, the largest first: one for each bit of tree_size that is set. Empty
-- beside a size for a log that is older than this column; the next append to it makes the tree from the leaf hashes.
ALTER TABLE tree_heads ADD COLUMN frontier BLOB NOT NULL DEFAULT x'';
-- How many histories the log has had: it grows when an operator acknowledges that the database went back, and never else.
ALTER TABLE tree_heads ADD COLUMN epoch INTEGER NOT NULL DEFAULT 1;

-- A head grows, or it stays what it is and begins the next epoch.
DROP TRIGGER tree_heads_only_grow;
CREATE TRIGGER tree_heads_only_grow BEFORE UPDATE ON tree_heads
WHEN NOT (
    NEW.tenant_id = OLD.tenant_id
    AND (NEW.epoch = OLD.epoch AND NEW.tree_size > OLD.tree_size
        OR NEW.epoch = OLD.epoch + 1 AND NEW.tree_size = OLD.tree_size AND NEW.frontier = OLD.frontier)
)
BEGIN SELECT RAISE(ABORT, 'tree_heads only grow'); END;

-- A tile is 256 hashes of one level: level 0 has the leaf hashes, level n the roots of the tiles of level n - 1. What is
-- not finished is in no tile: it is read from the events' and notes' leaf_hash, and from the roots beside the tiles.
CREATE TABLE tree_tiles (
    tenant_id  TEXT NOT NULL,
    level      SMALLINT NOT NULL,
    tile_index BIGINT NOT NULL,
    root       BLOB NOT NULL CHECK (length(root) = 32),
    hashes     BLOB NOT NULL CHECK (length(hashes) = 8192),
    PRIMARY KEY (tenant_id, level, tile_index)
);

CREATE TRIGGER tree_tiles_no_delete BEFORE DELETE ON tree_tiles
BEGIN SELECT RAISE(ABORT, 'tree_tiles are append-only: DELETE is refused'); END;

CREATE TRIGGER tree_tiles_no_update BEFORE UPDATE ON tree_tiles
BEGIN SELECT RAISE(ABORT, 'tree_tiles are append-only: UPDATE is refused'); END;

-- What was acknowledged when an epoch began. The first epoch of a log has no row.
CREATE TABLE log_epochs (
    tenant_id       TEXT NOT NULL,
    epoch           INTEGER NOT NULL CHECK (epoch > 1),
    tree_size       BIGINT NOT NULL,
    root            BLOB NOT NULL CHECK (length(root) = 32),
    begin_time      TIMESTAMP NOT NULL, -- UTC, to the microsecond
    acknowledged_by TEXT NOT NULL,
    reason          TEXT NOT NULL,
    PRIMARY KEY (tenant_id, epoch)
);

CREATE TRIGGER log_epochs_no_delete BEFORE DELETE ON log_epochs
BEGIN SELECT RAISE(ABORT, 'log_epochs are append-only: DELETE is refused'); END;

CREATE TRIGGER log_epochs_no_update BEFORE UPDATE ON log_epochs
BEGIN SELECT RAISE(ABORT, 'log_epochs are append-only: UPDATE is refused'); END;

-- What appends without sealing must not append any more.
UPDATE schema_requirements SET min_binary_version = 2;
