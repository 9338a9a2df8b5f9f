"""The Celery application of the benchmark: one task that runs a command and keeps its output.

BROKER_PORT names the port of the Redis that holds the queues (database 0) and the results
(database 1).
"""

import os
import subprocess

from celery import Celery

_redis = "redis://127.0.0.1:" + os.environ["BROKER_PORT"]
app = Celery("celery_app", broker=_redis + "/0", backend=_redis + "/1")
app.conf.update(
    broker_connection_retry_on_startup=True,
    # More than the default of 4 saves round trips when tasks are short.
    worker_prefetch_multiplier=16,
    worker_hijack_root_logger=False,
    worker_send_task_events=False,
)


@app.task(name="run_command")
def run_command(command):
    """Run `command` in bash and return its standard output."""
    done = subprocess.run(["bash", "-c", command], stdout=subprocess.PIPE, check=True)
    return done.stdout.decode()
