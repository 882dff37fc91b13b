-- Mail goes to destinations, not only to domains; why it waits, what its sender asked to hear, and what operators did.

-- What the client said beside the envelope. RFC 3461: `ret` is FULL or HDRS, `envid` is xtext as it came.
ALTER TABLE message ADD COLUMN login TEXT;
ALTER TABLE message ADD COLUMN ret TEXT;
ALTER TABLE message ADD COLUMN envid TEXT;

ALTER TABLE recipient RENAME COLUMN delay_notified TO delay_notices; -- how many the sender has had
ALTER TABLE recipient ADD COLUMN destination TEXT NOT NULL DEFAULT ''; -- Claim.destination
ALTER TABLE recipient ADD COLUMN flow TEXT NOT NULL DEFAULT '';        -- whose mail it is, for fairness: rows.flow_of
ALTER TABLE recipient ADD COLUMN cause TEXT;                           -- Cause of the last attempt
ALTER TABLE recipient ADD COLUMN rule TEXT;                            -- what gave next_attempt, in words
ALTER TABLE recipient ADD COLUMN review INTEGER;                       -- expires or is late then; NULL: not tried yet
ALTER TABLE recipient ADD COLUMN notify INTEGER;                       -- Notify; NULL: not said
ALTER TABLE recipient ADD COLUMN orcpt TEXT;                           -- as it came
ALTER TABLE recipient ADD COLUMN route TEXT;                           -- chosen for it by hand or as a fallback
ALTER TABLE recipient ADD COLUMN hold TEXT;                            -- why it is held; NULL: it is not
UPDATE recipient SET destination = domain;

-- What may be claimed, line by line: new mail apart from retries (state), each destination, each sender.
DROP INDEX recipient_due;
CREATE INDEX recipient_due ON recipient (state, destination, flow, next_attempt) WHERE next_attempt IS NOT NULL;

ALTER TABLE attempt RENAME COLUMN domain TO destination;

ALTER TABLE body ADD COLUMN crc INTEGER; -- CRC-32 of the octets, here or in the file; NULL: an older version wrote it

-- Destinations that are down: nothing is tried there before `until`. Times as everywhere.
CREATE TABLE rest (
    destination TEXT PRIMARY KEY,
    until       INTEGER NOT NULL,
    since       INTEGER NOT NULL,
    failures    INTEGER NOT NULL, -- rests in a row
    status      TEXT    NOT NULL, -- of the failure that began it
    reason      TEXT    NOT NULL,
    cause       TEXT              -- Cause
) STRICT, WITHOUT ROWID;

-- What is to be held when it comes in. NULL: whatever it is; what is given must all be so.
CREATE TABLE hold_rule (
    id        INTEGER PRIMARY KEY AUTOINCREMENT, -- never given twice: it is how a rule is removed
    sender    TEXT,
    recipient TEXT,
    domain    TEXT,
    login     TEXT,
    reason    TEXT    NOT NULL,
    made      INTEGER NOT NULL
) STRICT;

-- What operators did with a recipient, as long as its message is kept: of each kind of act the newest.
CREATE TABLE operator_act (
    message INTEGER NOT NULL,
    number  INTEGER NOT NULL, -- of the recipient
    act     TEXT    NOT NULL, -- Act
    made    INTEGER NOT NULL,
    who     TEXT    NOT NULL, -- user of the command line, or name of the token
    detail  TEXT,             -- the reason, or where to
    PRIMARY KEY (message, number, act)
) STRICT, WITHOUT ROWID;
