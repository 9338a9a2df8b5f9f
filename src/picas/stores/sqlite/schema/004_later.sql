-- When a free token may be claimed at the earliest, Unix seconds; NULL for at any time. Its state is "later" while
-- it waits, so that claims do not meet it; the claim that finds its time come sets it to "todo".
ALTER TABLE token ADD COLUMN later REAL;

CREATE INDEX token_later ON token (later) WHERE later IS NOT NULL;
