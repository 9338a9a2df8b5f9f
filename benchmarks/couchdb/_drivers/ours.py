"""ours.py URL LOG_BYTES SPOOL: a pilot whose work does nothing but print so many bytes.

Says ``ready`` when it has the pool, waits for the end of its input, runs until the pool is empty, and prints
a JSON object: when its last token was in the pool, and how many of the claims that it wrote came too late.
"""

import json
import sys
import time
from collections.abc import Mapping
from typing import Any

import picas
from picas.stores.couchdb import CouchStore
from picas.stores.http import Answer, Server, split_url
from picas.summary import Event


class CountingServer(Server):
    """Counts the documents of claims, by what the server said of each."""

    tried = lost = 0

    def request(self, method: str, path: str, value: Any = None, **options: Any) -> Answer:
        """As it is, and counted."""
        answer = super().request(method, path, value, **options)
        if path.endswith("_bulk_docs"):
            for doc, row in zip(value["docs"], answer.value):
                if is_claim(doc):
                    self.tried += 1
                    self.lost += "error" in row
        return answer


def is_claim(doc: Mapping[str, Any]) -> bool:
    """Whether this write takes a token, and does not finish it."""
    return bool(doc.get("lock")) and not doc.get("done")


def main() -> None:
    """Run one pilot."""
    url, log, spool = sys.argv[1], "x" * (int(sys.argv[2]) - 1), sys.argv[3]
    name, database, login = split_url(url)
    server = CountingServer(name, login)
    pool = picas.Pool(CouchStore(server, database))
    last = [0.0]

    def note(event: Event) -> None:
        if event.kind == "finished":
            last[0] = time.monotonic()

    pilot = picas.Pilot(pool, lambda token: print(log), spool=spool, on_event=note)
    print("ready", flush=True)
    sys.stdin.read()
    summary = pilot.run()
    # Linux has one monotonic clock for all processes.
    print(json.dumps({"last": last[0], "done": summary.done, "tried": server.tried, "lost": server.lost}))


main()
