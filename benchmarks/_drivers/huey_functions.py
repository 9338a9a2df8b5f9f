"""huey_functions.py TOKENS full|normal: seconds that Huey on SQLite takes for a no-op.

`full` is Huey as it comes: each commit waits for the disk. `normal` relaxes that to SQLite's
`synchronous=NORMAL`, which Huey has no option for.

The queue is filled first; the clock runs from the start of the consumer to the last result.
"""

import itertools
import json
import logging
import sys
import threading
import time

from huey import SqliteHuey
from huey.signals import SIGNAL_COMPLETE
from huey.storage import SqliteStorage

tokens, durability = int(sys.argv[1]), sys.argv[2]
logging.disable(logging.INFO)


class Storage(SqliteStorage):
    """Huey's storage, with SQLite's `synchronous` as the arguments say."""

    def _create_connection(self):
        connection = super()._create_connection()
        connection.execute("pragma synchronous=" + durability)
        return connection


huey = SqliteHuey("bench", filename="huey.db", storage_class=Storage)
finished = threading.Event()
done = itertools.count(1)


@huey.task()
def nothing(number):
    """Return something, since Huey keeps no result of a task that returns None."""
    return number


@huey.signal(SIGNAL_COMPLETE)
def count(*_):
    """Huey sends this once a result is stored."""
    if next(done) == tokens:
        finished.set()


with huey.storage.db(commit=True) as cursor:
    # One transaction for all: filling the queue isn't what is measured.
    cursor.executemany(
        "insert into task (queue, data, priority) values ('bench', ?, 0)",
        ((huey.serialize_task(nothing.s(number)),) for number in range(tokens)),
    )
consumer = huey.create_consumer(
    workers=1, periodic=False, initial_delay=0.01, max_delay=0.01, check_worker_health=False
)
start = time.perf_counter()
consumer.start()
finished.wait()
seconds = time.perf_counter() - start
consumer.stop()
if huey.result_count() != tokens:
    sys.exit(f"{huey.result_count()} results of {tokens}")
print(json.dumps({"seconds": seconds}))
