-- A TLS report of ours (RFC 8460): its sessions are not counted, and nobody hears what became of it.

ALTER TABLE message ADD COLUMN report INTEGER NOT NULL DEFAULT 0;
