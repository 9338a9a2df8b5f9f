"""hyperqueue_commands.py TOKENS WORKERS: seconds that HyperQueue takes for `bash -c true`.

Server and worker run in this process, on loopback, with their files in the current folder.
The job is described before the clock starts; the clock covers handing it in and its tasks.
"""

import json
import sys
import time
from pathlib import Path

from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig

tokens, workers = int(sys.argv[1]), int(sys.argv[2])
with LocalCluster(str(Path("server").resolve()), WorkerConfig(cores=workers)) as cluster:
    client = cluster.client()
    job = Job(max_fails=None)
    for _ in range(tokens):
        job.program(["bash", "-c", "true"])
    start = time.perf_counter()
    done = client.wait_for_jobs([client.submit(job)])
    seconds = time.perf_counter() - start
kept = sum(1 for _ in Path().rglob("*.stdout"))
if not done or kept != tokens:
    sys.exit(f"HyperQueue kept {kept} outputs of {tokens}")
print(json.dumps({"seconds": seconds}))
