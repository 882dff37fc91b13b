-- Who handed a message in, for those who look into it. NULL: a notice of ours, or mail of an older version.

ALTER TABLE message ADD COLUMN client TEXT;     -- its address
ALTER TABLE message ADD COLUMN listener TEXT;   -- where it came to
ALTER TABLE message ADD COLUMN allowed_by TEXT; -- the [[client]] that let it in
