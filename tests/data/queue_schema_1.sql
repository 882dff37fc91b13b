BEGIN TRANSACTION;
CREATE TABLE body (
    message INTEGER PRIMARY KEY,
    octets  BLOB                        -- NULL: in the file bodies/ID
) STRICT;
INSERT INTO "body" VALUES(1,X'5375626A6563743A20780D0A0D0A780D0A');
INSERT INTO "body" VALUES(2,NULL);
INSERT INTO "body" VALUES(4,X'5375626A6563743A20780D0A0D0A780D0A');
INSERT INTO "body" VALUES(5,X'5375626A6563743A20780D0A0D0A780D0A');
CREATE TABLE lease_block (number INTEGER NOT NULL) STRICT;
INSERT INTO "lease_block" VALUES(1);
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
INSERT INTO "message" VALUES(1,'from@sender.example','sender.example','1@sender.example',0,0,'default',17,1893499200000000,NULL);
INSERT INTO "message" VALUES(2,'from@sender.example','sender.example','2@sender.example',0,0,'default',140000,1893499200000000,NULL);
INSERT INTO "message" VALUES(3,'from@sender.example','sender.example','3@sender.example',0,0,'default',17,1893499200000000,1893499200000000);
INSERT INTO "message" VALUES(4,NULL,NULL,'4@sender.example',0,0,'default',17,1893499200000000,NULL);
INSERT INTO "message" VALUES(5,'from@sender.example','sender.example','5@sender.example',0,0,'default',17,1893499200000000,NULL);
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
INSERT INTO "recipient" VALUES(1,0,'waits@example.org','example.org','deferred',1,1893502800000000,NULL,'4.4.2',NULL,'the connection was closed','mx.example','none',1893499200000000,0);
INSERT INTO "recipient" VALUES(1,1,'kept@example.net','example.net','delivered',1,NULL,NULL,'2.2.0','250 2.0.0 thanks',NULL,'mx.example','verified',1893499200000000,0);
INSERT INTO "recipient" VALUES(2,0,'large@example.com','example.com','queued',0,1893499200000000,NULL,NULL,NULL,NULL,NULL,'none',1893499200000000,0);
INSERT INTO "recipient" VALUES(3,0,'gone@example.edu','example.edu','failed',1,NULL,NULL,'5.1.1','550 5.1.1 who?','refused','mx.example','encrypted',1893499200000000,0);
INSERT INTO "recipient" VALUES(4,0,'from@sender.example','sender.example','queued',0,1893499200000000,NULL,NULL,NULL,NULL,NULL,'none',1893499200000000,0);
INSERT INTO "recipient" VALUES(5,0,'cut-short@example.biz','example.biz','queued',1,1893501000000000,1099511627780,NULL,NULL,NULL,NULL,'none',1893499200000000,0);
CREATE TABLE schema_version (version INTEGER NOT NULL);
INSERT INTO "schema_version" VALUES(1);
CREATE INDEX message_closed ON message (closed);
CREATE INDEX recipient_due ON recipient (domain, next_attempt) WHERE next_attempt IS NOT NULL;
COMMIT;
