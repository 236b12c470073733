-- The role that the service runs as where it shall not own its tables: it can add to the log and read it, and nothing else.
--
-- Run this as the owner of the tables, in the service's database, after `auditlog migrate`, and once more after each
-- later one; it may be run at any time:
--
--     psql --set ON_ERROR_STOP=1 --file deploy/postgres-role.sql postgres://owner@host/auditlog
--
-- Then give the role a password (`\password auditlog_service`) or another way to log in, and start the service as
-- it, with AUDITLOG_DATABASE_MIGRATE=false. The first run makes the role, which takes the right to make roles
-- (CREATEROLE), unless somebody has made it before.

BEGIN;

DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'auditlog_service') THEN
        CREATE ROLE auditlog_service LOGIN;
    END IF;
END $$;

-- What everybody may do by default, and nobody has to: before version 15 to make tables, and to make temporary ones.
DO $$ BEGIN
    EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC, auditlog_service', current_schema());
    EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO auditlog_service', current_database());
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO auditlog_service', current_schema());
END $$;

-- Whatever an earlier version of this script granted.
DO $$ BEGIN
    EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA %I FROM auditlog_service', current_schema());
    EXECUTE format('REVOKE ALL ON ALL FUNCTIONS IN SCHEMA %I FROM auditlog_service', current_schema());
END $$;

-- Rows are stored and read through `events`, so that partitions need no rights of their own, those to come neither.
GRANT SELECT, INSERT ON events, update_notes TO auditlog_service;
GRANT SELECT, INSERT, UPDATE (tree_size, frontier) ON tree_heads TO auditlog_service;
GRANT SELECT, INSERT ON tree_tiles TO auditlog_service;
-- Epochs begin when an operator acknowledges a rollback, as the owner.
GRANT SELECT ON log_epochs TO auditlog_service;
-- The first start with a key stores the public half.
GRANT SELECT, INSERT ON signing_keys TO auditlog_service;
GRANT SELECT ON schema_requirements, __diesel_schema_migrations TO auditlog_service;
GRANT EXECUTE ON FUNCTION advance_heads, make_event_partitions TO auditlog_service;

-- Where the schema is somebody else's, as before version 15, what everybody may do in it is not the owner's to take away. Who makes
-- functions beside those that run as the owner could have them call his.
DO $$
DECLARE
    owns_schema BOOLEAN := (SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = current_schema());
    hint TEXT := 'It is a superuser, or a member of a role that may.';
BEGIN
    IF NOT owns_schema THEN
        hint := format('As the administrator of the server: ALTER SCHEMA %I OWNER TO %I; then run this again.',
            current_schema(), current_user);
    END IF;
    IF has_schema_privilege('auditlog_service', current_schema(), 'CREATE') THEN
        RAISE EXCEPTION 'auditlog_service may still make tables in the schema %', current_schema() USING HINT = hint;
    END IF;
END $$;

COMMIT;
