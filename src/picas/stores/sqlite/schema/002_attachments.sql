-- Attachments: logs and results. The bytes are in pieces, so that none of any size is in memory whole.
-- A large one is written piece by piece before the token's own write, under no token yet; that write,
-- one short transaction, then gives it its token and its name.
CREATE TABLE attachment (
    id           INTEGER PRIMARY KEY,
    token        INTEGER REFERENCES token (seq) ON DELETE CASCADE,  -- NULL while it is being written
    name         TEXT NOT NULL,
    content_type TEXT NOT NULL,
    length       INTEGER NOT NULL,  -- bytes
    digest       TEXT NOT NULL,     -- sha256-<hex>
    begun        REAL NOT NULL,     -- Unix seconds; one that has no token long after is a leftover
    UNIQUE (token, name)
);

CREATE TABLE piece (
    attachment INTEGER NOT NULL REFERENCES attachment (id) ON DELETE CASCADE,
    n          INTEGER NOT NULL,    -- 0, 1, 2 …
    data       BLOB NOT NULL,
    PRIMARY KEY (attachment, n)
);
