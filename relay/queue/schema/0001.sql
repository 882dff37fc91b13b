-- The queue. Times are microseconds since 1970-01-01 UTC; ids are MessageId.number and grow with time.

-- One row for each message: envelope, options, times. Kept until `tidy`, the body only until the last recipient closes.
CREATE TABLE message (
    id            INTEGER PRIMARY KEY,
    sender        TEXT,                 -- as the client gave it; NULL: the null sender
    sender_domain TEXT,                 -- Address.domain of the sender
    message_id    TEXT,                 -- the header's, without angle brackets
    eight_bit     INTEGER NOT NULL,
    smtputf8      INTEGER NOT NULL,     -- SmtpUtf8
    demand        TEXT    NOT NULL,     -- TlsDemand
    size          INTEGER NOT NULL,     -- octets of the body
    arrived       INTEGER NOT NULL,
    closed        INTEGER               -- when the last recipient was closed; NULL: some are open
) STRICT;

-- Serves the list of open messages (closed IS NULL, by id) and `tidy` (closed before).
CREATE INDEX message_closed ON message (closed);

CREATE TABLE body (
    message INTEGER PRIMARY KEY,
    octets  BLOB                        -- NULL: in the file bodies/ID
) STRICT;

CREATE TABLE recipient (
    message        INTEGER NOT NULL,
    number         INTEGER NOT NULL,    -- place in the envelope, from 0
    address        TEXT    NOT NULL,    -- as the client gave it
    domain         TEXT    NOT NULL,    -- Address.domain
    state          TEXT    NOT NULL,    -- State
    attempts       INTEGER NOT NULL,
    next_attempt   INTEGER,             -- not before; the end of the lease while one runs; NULL: closed or held
    lease          INTEGER,             -- number of the lease under which an attempt runs
    status         TEXT,                -- of the last attempt: 4.7.5
    reply          TEXT,
    reason         TEXT,
    host           TEXT,
    tls            TEXT    NOT NULL,    -- TlsUsed
    changed        INTEGER NOT NULL,    -- when the state was written
    delay_notified INTEGER NOT NULL,
    PRIMARY KEY (message, number)
) STRICT, WITHOUT ROWID;

-- What may be claimed, domain by domain, by due time; the primary key that follows in each entry gives age.
CREATE INDEX recipient_due ON recipient (domain, next_attempt) WHERE next_attempt IS NOT NULL;

-- Each opening of the queue takes the next block of lease numbers, so that no number is ever given twice.
CREATE TABLE lease_block (number INTEGER NOT NULL) STRICT;
INSERT INTO lease_block VALUES (0);
