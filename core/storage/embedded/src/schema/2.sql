-- The holds that a recording's count of them is made of.
CREATE TABLE holds (
    tenant TEXT NOT NULL,
    recording BLOB NOT NULL,
    hold TEXT NOT NULL,
    PRIMARY KEY (tenant, recording, hold)
) STRICT, WITHOUT ROWID;
