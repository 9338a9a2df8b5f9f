"""picas_counts.py POOL: time of one count of the tokens by state, in seconds."""

import json
import sys
import time

import picas

pool = picas.open_pool("sqlite:///" + sys.argv[1])
start = time.perf_counter()
counts = pool.counts()
seconds = time.perf_counter() - start
if not sum(counts.values()):
    sys.exit("the pool is empty")
print(json.dumps({"seconds": seconds}))
