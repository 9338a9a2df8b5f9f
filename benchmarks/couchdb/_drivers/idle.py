"""idle.py URL JOURNAL SPOOL: a pilot that waits for work; its work writes when it began to JOURNAL.

Says ``ready`` when it has found the pool empty and waits, and ends at the end of its input.
"""

import json
import os
import sys
import threading
import time
from typing import Any

import picas


def main() -> None:
    """Run one pilot."""
    url, spool = sys.argv[1], sys.argv[3]
    journal = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND)

    def work(token: picas.Token) -> None:
        # Linux has one monotonic clock for all processes.
        os.write(journal, f"{token.id} {time.monotonic()}\n".encode())

    def note(event: Any) -> None:
        if event.kind == "waiting" and not told.is_set():
            told.set()
            print("ready", file=out, flush=True)

    def stop_at_end() -> None:
        sys.stdin.read()
        pilot.stop()

    out, told = sys.stdout, threading.Event()
    pilot = picas.Pilot(picas.open_pool(url), work, wait=True, spool=spool, on_event=note)
    threading.Thread(target=stop_at_end, daemon=True).start()
    print(json.dumps({"done": pilot.run().done}))


main()
