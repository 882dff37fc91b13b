-- Each attempt keeps its evidence, and a notice knows which message it speaks of.

-- A row for each attempt that was settled, as long as its message is kept; of many for one domain, not all.
CREATE TABLE attempt (
    message INTEGER NOT NULL,
    lease   INTEGER NOT NULL,    -- under which it was made; grows from attempt to attempt
    domain  TEXT    NOT NULL,    -- Claim.domain
    number  INTEGER NOT NULL,    -- how many attempts there were for the domain, this one too
    began   INTEGER NOT NULL,
    ended   INTEGER NOT NULL,
    closed  TEXT    NOT NULL,    -- numbers of the recipients that it closed, with commas: their rows say how
    waiting TEXT,                -- JSON: what was written down for the others; NULL: there are none
    notices TEXT,                -- JSON: ids of the notices that were put with it; NULL: none
    record  TEXT,                -- JSON: AttemptRecord; NULL: an empty one
    PRIMARY KEY (message, lease)
) STRICT, WITHOUT ROWID;

ALTER TABLE message ADD COLUMN about INTEGER; -- of a notice: id of the message that it speaks of
