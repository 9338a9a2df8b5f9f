"""classic_pilot.py URL LOG_BYTES SECONDS [JOURNAL]: a pilot of picasclient 1.x, for at most so many seconds.

It prints LOG_BYTES for each token, as an attachment, and writes "<who> <token>" to JOURNAL for each that it
runs. Says ``ready``, waits for the end of its input, and prints a JSON object at the end: how many tokens it ran
and what it died of, if it did.
"""

import json
import os
import sys
import time
from urllib.parse import urlsplit

from picas.actors import RunActor
from picas.clients import CouchDB


class Actor(RunActor):
    """Runs tokens."""

    ran = 0
    log = b""
    journal = -1

    def process_task(self, task):
        if self.journal >= 0:
            os.write(self.journal, f"classic-{os.getpid()} {task.id}\n".encode())
        task.put_attachment(f"logs_{task.id}.out", self.log, "text/plain")
        task["exit_code"] = 0
        task.done()
        self.ran += 1


def main():
    parts = urlsplit(sys.argv[1])
    db = CouchDB(
        url=f"http://{parts.hostname}:{parts.port}",
        db=parts.path.strip("/"),
        username=parts.username,
        password=parts.password,
    )
    actor = Actor(db, view="todo")
    actor.log = b"x" * int(sys.argv[2])
    if len(sys.argv) > 4:
        actor.journal = os.open(sys.argv[4], os.O_WRONLY | os.O_APPEND)
    print("ready", flush=True)
    sys.stdin.read()
    died = ""
    try:
        actor.run(max_total_time=float(sys.argv[3]))
    except Exception as error:  # noqa: BLE001 - that is what is looked at
        died = f"{type(error).__name__}: {error}"
    print(json.dumps({"last": time.monotonic(), "done": actor.ran, "died": died}))


main()
