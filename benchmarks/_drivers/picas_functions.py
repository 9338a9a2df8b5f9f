"""picas_functions.py POOL TOKENS: seconds that a pilot takes for a no-op function."""

import json
import sys
import time

import picas

pool = picas.open_pool("sqlite:///" + sys.argv[1])
tokens = int(sys.argv[2])
pool.push(str(number) for number in range(tokens))
pilot = picas.Pilot(pool, lambda token: {"number": token.input})
start = time.perf_counter()
pilot.run()
seconds = time.perf_counter() - start
if pool.counts()["done"] != tokens:
    sys.exit(f"not all done: {pool.counts()}")
print(json.dumps({"seconds": seconds}))
