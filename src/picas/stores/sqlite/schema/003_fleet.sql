-- The pilots that work on this pool, each with the time of its last sign of life. Times are seconds since the
-- machine was started, and which start that was: no setting of the clock makes a pilot look dead, and those of an
-- earlier start are.
CREATE TABLE pilot (
    id     TEXT PRIMARY KEY,
    boot   TEXT NOT NULL,
    beat   REAL NOT NULL,
    fields TEXT NOT NULL     -- what the pilot says of itself, as JSON
) WITHOUT ROWID;

-- What one of all processes does every now and then, and when that was last.
CREATE TABLE turn (
    name  TEXT PRIMARY KEY,
    boot  TEXT NOT NULL,
    taken REAL NOT NULL
) WITHOUT ROWID;

-- What people have ordered: pauses, stops, cancellations, barred hosts. One row.
CREATE TABLE control (
    only   INTEGER PRIMARY KEY CHECK (only = 0),
    rev    INTEGER NOT NULL,
    fields TEXT NOT NULL
);
