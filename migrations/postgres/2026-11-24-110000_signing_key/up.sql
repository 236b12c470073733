-- The public key that the checkpoints of this database are verified with: of the one key that may sign for it. Who signs
-- with another one would make a second history, so the service compares at each start. It is no tenant's, and there is
-- one: the number can only be 1.
CREATE TABLE signing_keys (
    number     SMALLINT NOT NULL CHECK (number = 1),
    public_key BYTEA NOT NULL CHECK (length(public_key) = 32),
    PRIMARY KEY (number)
);

CREATE TRIGGER signing_keys_no_delete BEFORE DELETE ON signing_keys
    FOR EACH ROW EXECUTE FUNCTION refuse_change('signing_keys');
CREATE TRIGGER signing_keys_no_update BEFORE UPDATE ON signing_keys
    FOR EACH ROW EXECUTE FUNCTION refuse_change('signing_keys');
CREATE TRIGGER signing_keys_no_truncate BEFORE TRUNCATE ON signing_keys
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('signing_keys');
