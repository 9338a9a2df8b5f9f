"""picas_fleet.py POOL RUNS: a pilot that says it is ready, waits for the end of its input, runs.

Its work appends the token's id to RUNS, in one write, so that lines of many pilots don't mix.
"""

import os
import sys

import picas

pool = picas.open_pool("sqlite:///" + sys.argv[1])
runs = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND)
pilot = picas.Pilot(pool, lambda token: os.write(runs, f"{token.id}\n".encode()) and None)
print("ready", flush=True)
sys.stdin.read()
pilot.run()
