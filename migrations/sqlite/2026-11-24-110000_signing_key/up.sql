-- The public key that the checkpoints of this database are verified with: of the one key that may sign for it. Who signs
-- with another one would make a second history, so the service compares at each start. It is no tenant's, and there is
-- one: the number can only be 1.
CREATE TABLE signing_keys (
    number     SMALLINT NOT NULL CHECK (number = 1),
    public_key BLOB NOT NULL CHECK (length(public_key) = 32),
    PRIMARY KEY (number)
);

CREATE TRIGGER signing_keys_no_delete BEFORE DELETE ON signing_keys
BEGIN SELECT RAISE(ABORT, 'signing_keys are append-only: DELETE is refused'); END;

CREATE TRIGGER signing_keys_no_update BEFORE UPDATE ON signing_keys
BEGIN SELECT RAISE(ABORT, 'signing_keys are append-only: UPDATE is refused'); END;
