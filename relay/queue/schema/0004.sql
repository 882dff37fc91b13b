-- What senders ask of time and rank: later, by then, ahead of others.

ALTER TABLE message ADD COLUMN release INTEGER;        -- not tried before; NULL: at once
ALTER TABLE message ADD COLUMN release_asked TEXT;     -- `for;3600`, where that is how it was asked
ALTER TABLE message ADD COLUMN priority INTEGER NOT NULL DEFAULT 0; -- from -9 to 9
ALTER TABLE message ADD COLUMN deliver_by INTEGER;     -- returned or late then; NULL: nothing was asked
ALTER TABLE message ADD COLUMN deliver_mode TEXT;      -- DeliverBy.mode

-- Serves the age of the oldest mail that could go.
CREATE INDEX message_release ON message (release) WHERE release > arrived AND closed IS NULL;

-- The lines are apart by priority too. Beside each recipient, for the index.
ALTER TABLE recipient ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
DROP INDEX recipient_due;
CREATE INDEX recipient_due ON recipient (state, destination, flow, priority, next_attempt)
    WHERE next_attempt IS NOT NULL;
