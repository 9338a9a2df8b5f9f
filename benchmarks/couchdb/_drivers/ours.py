"""ours.py URL LOG_BYTES SPOOL: a pilot whose work does nothing but print so many bytes.

Says ``ready`` when it has the pool, waits for the end of its input, runs until the pool is empty, and prints
a JSON object: when its last token was in the pool, and how many of the claims that it wrote came too late.
"""

import json
import sys
import time

import picas
from picas.pilot.summary import Event
from picas.stores.couch.walk import Walk


class Tally:
    """Claims that were written, and those that somebody else was faster with, as the walk is told of them."""

    tried = lost = 0

    def watch(self) -> None:
        """Count from now on."""
        met_others = Walk.met_others

        def counted(walk: Walk, tried: int, won: int) -> None:
            self.tried += tried
            self.lost += tried - won
            met_others(walk, tried, won)

        Walk.met_others = counted  # type: ignore[method-assign]


def main() -> None:
    """Run one pilot."""
    url, log, spool = sys.argv[1], "x" * (int(sys.argv[2]) - 1), sys.argv[3]
    pool = picas.open_pool(url)
    tally, last = Tally(), [0.0]
    tally.watch()

    def note(event: Event) -> None:
        if event.kind == "finished":
            last[0] = time.monotonic()

    pilot = picas.Pilot(pool, lambda token: print(log), spool=spool, on_event=note)
    print("ready", flush=True)
    sys.stdin.read()
    summary = pilot.run()
    # Linux has one monotonic clock for all processes.
    print(json.dumps({"last": last[0], "done": summary.done, "tried": tally.tried, "lost": tally.lost}))


main()
