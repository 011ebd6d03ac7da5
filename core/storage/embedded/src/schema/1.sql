-- Times are Unix milliseconds, ids are their 16 bytes, states are the JSON of crate `model`.

CREATE TABLE queue_messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- a receipt names it, so it is never given out twice
    queue TEXT NOT NULL,
    body TEXT NOT NULL,
    first_due_ms INTEGER NOT NULL,
    due_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    in_hand INTEGER NOT NULL -- 1 from a delivery until it is given back; hidden until due_ms
) STRICT;
CREATE INDEX queue_messages_due ON queue_messages (queue, due_ms);

CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    body TEXT NOT NULL,
    first_due_ms INTEGER NOT NULL,
    died_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    reason TEXT NOT NULL
) STRICT;
CREATE INDEX dead_letters_queue ON dead_letters (queue);

CREATE TABLE journals (
    journal BLOB PRIMARY KEY,
    heard_ms INTEGER NOT NULL, -- by our clock: when its newest event was indexed
    state TEXT NOT NULL
) STRICT;

-- Every column but `state` and `told_by` is computed from the states of recording and journal.
CREATE TABLE recordings (
    key INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    id BLOB NOT NULL,
    journal BLOB NOT NULL,
    started_ms INTEGER, -- null while only later events have arrived: not shown yet
    duration_ms INTEGER,
    status TEXT NOT NULL,
    needs_build INTEGER NOT NULL,
    told_by BLOB, -- the event that made it need a build
    text TEXT NOT NULL,
    parties TEXT NOT NULL,
    state TEXT NOT NULL,
    UNIQUE (tenant, id)
) STRICT;
CREATE INDEX recordings_by_start ON recordings (tenant, started_ms, id);
CREATE INDEX recordings_by_status ON recordings (tenant, status, started_ms, id);
CREATE INDEX recordings_by_journal ON recordings (journal, status);
CREATE INDEX recordings_to_build ON recordings (needs_build) WHERE needs_build;
CREATE INDEX recordings_told ON recordings (told_by) WHERE told_by IS NOT NULL;

-- Finds any three letters in `text`; holds no copy of it.
CREATE VIRTUAL TABLE recording_text USING fts5 (
    text, content = '', contentless_delete = 1, tokenize = 'trigram case_sensitive 1'
);

CREATE TABLE accounts (
    login TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    role TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    must_change_password INTEGER NOT NULL
) STRICT;

CREATE TABLE sign_ins (
    token_sha256 BLOB PRIMARY KEY,
    login TEXT NOT NULL,
    expires_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX sign_ins_login ON sign_ins (login);
CREATE INDEX sign_ins_expiry ON sign_ins (expires_ms);
