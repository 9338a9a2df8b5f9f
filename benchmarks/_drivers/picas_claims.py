"""picas_claims.py POOL CLAIMS: median time of a claim, in microseconds."""

import json
import statistics
import sys
import time

import picas

pool = picas.open_pool("sqlite:///" + sys.argv[1])
times = []
for _ in range(int(sys.argv[2])):
    start = time.perf_counter()
    token = pool.claim()
    times.append(time.perf_counter() - start)
    if token is None:
        sys.exit("the pool ran out of tokens")
print(json.dumps({"claim_us": statistics.median(times) * 1e6}))
