"""launch.py REPORT PROGRAM ARG… : run a program; write its wall time and peak memory to REPORT.

Kept tiny, because Linux starts a process's memory peak at that of the process it came from.
"""

import os
import sys
import time

report, argv = sys.argv[1], sys.argv[2:]
start = time.perf_counter()
_, status, usage = os.wait4(os.posix_spawnp(argv[0], argv, os.environ), 0)
seconds = time.perf_counter() - start
with open(report, "w") as out:
    # ru_maxrss is in KiB on Linux.
    out.write(f'{{"seconds": {seconds!r}, "peak_bytes": {usage.ru_maxrss * 1024}}}')
sys.exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))
