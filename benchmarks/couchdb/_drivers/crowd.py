"""crowd.py URL PILOTS WORK_SECONDS SPOOL: so many pilots in the threads of one process; their work is a pause.

Each has connections, threads and a pace of its own, as if it were a process. Says ``ready``, waits for the end
of its input, runs until the pool is empty, and prints a JSON object.
"""

import json
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import picas

THREAD_BYTES = 512 << 10
"""Of stack; the usual 8 MB for each of a thousand threads is much where memory is short."""


class Held:
    """The tokens of one pilot that it has claimed and not begun, watched from outside its store."""

    def __init__(self) -> None:
        self.claimed = self.begun = self.given_back = 0
        self.working = False
        self.found_nothing = 0.0

    @property
    def now(self) -> int:
        """How many."""
        return self.claimed - self.begun - self.given_back


class WatchedStore:
    """The store, with what goes in and out of it counted."""

    def __init__(self, store: Any, held: Held) -> None:
        self._store = store
        self._held = held

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def claim(self, *args: Any) -> Sequence[Any]:
        """As it is, and counted."""
        claimed = self._store.claim(*args)
        self._held.claimed += len(claimed)
        if not claimed:
            self._held.found_nothing = time.monotonic()
        return claimed

    def replace(self, changes: Sequence[Any]) -> Sequence[Any]:
        """As it is; what goes back to todo without having begun is counted."""
        self._held.given_back += sum(change.token.get("lock") == 0 for change in changes)
        return self._store.replace(changes)


class Watch(threading.Thread):
    """Looks now and then whether somebody idles while another has tokens waiting."""

    def __init__(self, all_held: Sequence[Held], work_seconds: float) -> None:
        super().__init__(daemon=True)
        self._all = all_held
        self._pause = work_seconds / 10
        self.worst = 0
        self.most = 0

    def run(self) -> None:
        """Until the process ends."""
        before = [0] * len(self._all)
        while True:
            time.sleep(self._pause)
            now = [held.now for held in self._all]
            # What is there in one look only has just been claimed, and is about to begin.
            most = max(map(min, before, now))
            before = now
            self.most = max(self.most, most)
            # One that has looked and found the pool empty is idle for lack of work, and not on its way to some.
            if any(held.found_nothing and not held.working for held in self._all):
                self.worst = max(self.worst, most)


def main() -> None:
    """Run them all."""
    url, pilots, seconds, spool = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    threading.stack_size(THREAD_BYTES)
    all_held = [Held() for _ in range(pilots)]
    summaries: list[Any] = [None] * pilots
    deaths: list[str] = []
    last = [0.0]

    def fly(number: int, pilot: Any) -> None:
        try:
            summaries[number] = pilot.run()
        except BaseException as error:  # noqa: BLE001 - a pilot must not die of anything
            deaths.append(f"{type(error).__name__}: {error}")

    def note(event: Any) -> None:
        if event.kind == "finished":
            last[0] = time.monotonic()

    crew = []
    for number, held in enumerate(all_held):
        pool = picas.open_pool(url)
        pool.store = WatchedStore(pool.store, held)

        def work(_: Any, held: Held = held) -> None:
            held.begun += 1
            held.working = True
            time.sleep(seconds)
            held.working = False

        pilot = picas.Pilot(pool, work, spool=f"{spool}/{number}", on_event=note)
        crew.append(threading.Thread(target=fly, args=(number, pilot)))
    out = sys.stdout  # the pilots put theirs in its place
    print("ready", flush=True)
    sys.stdin.read()
    watch = Watch(all_held, seconds)
    watch.start()
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    report = {
        "last": last[0],
        "deaths": deaths,
        "done": [summary.done if summary else 0 for summary in summaries],
        "held_while_idle": watch.worst * seconds,
        "most_held": watch.most * seconds,
    }
    print(json.dumps(report), file=out)


main()
