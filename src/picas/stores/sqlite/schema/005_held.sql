-- What one process at a time may have, until when (as in 003_fleet.sql), who has it, and what is kept with it.
CREATE TABLE held (
    name   TEXT PRIMARY KEY,
    boot   TEXT NOT NULL,
    until  REAL NOT NULL,
    who    TEXT NOT NULL,
    fields TEXT NOT NULL
) WITHOUT ROWID;
