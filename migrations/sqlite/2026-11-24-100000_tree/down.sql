UPDATE schema_requirements SET min_binary_version = 1;
DROP TRIGGER tree_heads_only_grow;
CREATE TRIGGER tree_heads_only_grow BEFORE UPDATE ON tree_heads
WHEN NOT (NEW.tenant_id = OLD.tenant_id AND NEW.tree_size > OLD.tree_size)
BEGIN SELECT RAISE(ABORT, 'tree_heads only grow'); END;
DROP TABLE log_epochs;
DROP TABLE tree_tiles;
ALTER TABLE tree_heads DROP COLUMN epoch;
ALTER TABLE tree_heads DROP COLUMN frontier;
