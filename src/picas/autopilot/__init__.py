"""Looking after a pool: as many pilots as its work is worth, and no more than people allow.

Read it in this order: `needs` (what a token says that it needs), `profiles` (what pilots people offer, and within
which limits) and `planfile` (how they write that down), `demand` (what waits in the pool, by profile), `record` (which
pilots there are, and how those before them began), `decide` (how many to start, and why), `loop` (one look after
another, by one process at a time).

All but `loop` and the reading of the file are pure functions.
"""
