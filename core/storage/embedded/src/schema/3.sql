-- Addresses by which a call is somebody's, and when it started: what scopes are looked up in.
-- `recording` is the key of its row.
CREATE TABLE recording_addresses (
    tenant TEXT NOT NULL,
    address TEXT NOT NULL,
    started_ms INTEGER NOT NULL,
    recording INTEGER NOT NULL,
    PRIMARY KEY (tenant, address, started_ms, recording)
) STRICT, WITHOUT ROWID;
CREATE INDEX recording_addresses_of ON recording_addresses (recording);

-- Of an account: its assignments, the JSON of crate `model`.
ALTER TABLE accounts ADD COLUMN addresses TEXT NOT NULL DEFAULT '[]';
ALTER TABLE accounts ADD COLUMN disabled INTEGER NOT NULL DEFAULT 0;
CREATE INDEX accounts_by_tenant ON accounts (tenant, login);

CREATE TABLE user_groups (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL, -- the JSON of crate `model`
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;
