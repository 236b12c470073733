-- The same advance_heads, which names the schema of its tables instead of setting a search_path for each of its calls. To set
-- one and to set it back took a tenth of the server's time for storing one event. It runs as its caller, and what it
-- names without a schema is in pg_catalog, which comes first in every search_path that does not name it.
DO $$
DECLARE
    home NAME := (SELECT nspname FROM pg_namespace, pg_class
        WHERE pg_class.oid = 'tree_heads'::regclass AND pg_namespace.oid = relnamespace);
    body TEXT := format($body$
BEGIN
    FOR i IN 1 .. cardinality(tenants) LOOP
        IF from_sizes[i] = 0 THEN
            INSERT INTO %1$I.tree_heads (tenant_id, tree_size, frontier)
                VALUES (tenants[i], to_sizes[i], to_frontiers[i]) ON CONFLICT DO NOTHING;
        ELSE
            UPDATE %1$I.tree_heads SET tree_size = to_sizes[i], frontier = to_frontiers[i]
                WHERE tenant_id = tenants[i] AND tree_size = from_sizes[i] AND frontier = from_frontiers[i];
        END IF;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'the head of %% has moved', tenants[i] USING ERRCODE = 'serialization_failure';
        END IF;
    END LOOP;
    IF cardinality(tile_tenants) > 0 THEN
        INSERT INTO %1$I.tree_tiles SELECT * FROM unnest(tile_tenants, tile_levels, tile_indexes, tile_roots, tile_hashes);
    END IF;
    RETURN TRUE;
END $body$, home);
BEGIN
    EXECUTE format('
        CREATE OR REPLACE FUNCTION %I.advance_heads(
            tenants TEXT[], from_sizes BIGINT[], from_frontiers BYTEA[], to_sizes BIGINT[], to_frontiers BYTEA[],
            tile_tenants TEXT[], tile_levels SMALLINT[], tile_indexes BIGINT[], tile_roots BYTEA[], tile_hashes BYTEA[]
        ) RETURNS BOOLEAN LANGUAGE plpgsql AS %L', home, body);
END $$;
