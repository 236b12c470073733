UPDATE schema_requirements SET min_binary_version = 1;
DROP FUNCTION advance_heads;
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
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION advance_heads SET search_path = %I, pg_temp', current_schema());
END $$;
CREATE OR REPLACE FUNCTION only_growth() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.tenant_id = OLD.tenant_id AND NEW.tree_size > OLD.tree_size THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'tree_heads only grow' USING ERRCODE = 'restrict_violation';
END $$;
DROP TABLE log_epochs;
DROP TABLE tree_tiles;
ALTER TABLE tree_heads DROP COLUMN epoch;
ALTER TABLE tree_heads DROP COLUMN frontier;
