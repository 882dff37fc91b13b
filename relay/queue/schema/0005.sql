-- Mail that comes with a key of its sender's is stored once: with the message, in the same transaction.

CREATE TABLE once (
    owner   TEXT    NOT NULL, -- whose key it is
    key     TEXT    NOT NULL,
    request BLOB    NOT NULL, -- digest of what was asked with it
    message INTEGER NOT NULL, -- what came of it
    made    INTEGER NOT NULL,
    UNIQUE (owner, key)
) STRICT;

CREATE INDEX once_made ON once (made);
