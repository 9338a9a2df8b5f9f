-- The tokens. One row is one document; the columns beside it are read from it by picas.tokens at every
-- write, never set by hand, so that SQLite can index them.
CREATE TABLE token (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of arrival, lowest is oldest; never used twice
    id       TEXT NOT NULL UNIQUE,
    rev      INTEGER NOT NULL,     -- grows by one at each write: what compare-and-set compares
    state    TEXT,                 -- todo, locked, done, error; NULL for a document in none of them
    priority REAL NOT NULL,
    finished REAL,                 -- Unix seconds; NULL unless done or error
    push_key TEXT,                 -- which line of which content it was pushed from; NULL if not by push
    doc      TEXT NOT NULL         -- the document as JSON, without _id, _rev and _attachments
);

-- Claims by priority walk this from the left: it costs the same with a thousand tokens as with a million.
-- Only free tokens are in it, so finishing one leaves it alone.
CREATE INDEX token_queue ON token (priority DESC, seq) WHERE state = 'todo';

-- Claims by age, listing one state, and counting the states (the narrowest index that holds them all).
CREATE INDEX token_age ON token (state, seq);

-- What was finished lately, for rates.
CREATE INDEX token_finished ON token (finished) WHERE finished IS NOT NULL;

-- The same line pushed again finds itself here.
CREATE UNIQUE INDEX token_push ON token (push_key) WHERE push_key IS NOT NULL;

-- The highest number given out for each prefix of ids, so that "token_" continues without a search.
CREATE TABLE numbering (
    prefix TEXT PRIMARY KEY,
    last   INTEGER NOT NULL
) WITHOUT ROWID;
