"""Pilots as processes of their own, on any nodes of a server, whose work tells a journal that it was done.

    with Fleet(urls, journal, seconds=0.01) as fleet:     # one pilot for each URL
        fleet.wait(lambda: pool.counts()[State.DONE] == 100, 60)
    assert Counter(journal.read_text().split())...

``python -m tests.couchdb.fleet URL JOURNAL SECONDS ORDER`` is one of them. It waits for work until it is told
to end.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from picas.pilot.loop import Pilot
from picas.pool import open_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from picas.tokens import Token

ROOT = Path(__file__).parents[2]

READY = b"ready\n"

LOOK_SECONDS = 0.2
"""How often is looked whether it is time."""

END_SECONDS = 30.0
"""How long a pilot may take to leave."""


class Fleet:
    """Used as a context: the pilots work within and have left, in good order, afterwards.

    Args:
        urls: the pool's URL for each pilot.
        journal: a file to which each token's id is added when its work is done, a line each.
        seconds: how long the work of a token takes.
        order: in which tokens are claimed.
    """

    def __init__(
        self, urls: Sequence[str], journal: Path, seconds: float = 0.0, order: str = "priority"
    ) -> None:
        self._commands = [
            [sys.executable, "-m", "tests.couchdb.fleet", url, str(journal), str(seconds), order]
            for url in urls
        ]
        self._journal = journal
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Fleet:
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        for i, command in enumerate(self._commands):
            state = {"XDG_STATE_HOME": str(self._journal.parent / f"pilot-{i}")}
            log = open(self._journal.parent / f"pilot-{i}.log", "wb")
            with log:
                self._processes.append(
                    subprocess.Popen(
                        command,
                        cwd=ROOT,
                        env={**environ, **state},
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=log,
                    )
                )
        for process in self._processes:  # all are there before one begins
            assert process.stdout is not None
            assert process.stdout.readline() == READY, self.logs()
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            process.stdin.flush()
        return self

    def __exit__(self, *exc: object) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        codes = [self._end(process) for process in self._processes]
        assert set(codes) == {0}, f"{codes}\n{self.logs()}"

    def _end(self, process: subprocess.Popen[bytes]) -> int:
        try:
            process.communicate(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGUSR1)  # it tells where it is
            time.sleep(LOOK_SECONDS)
            process.kill()
            process.communicate()
        return process.returncode

    def wait(self, until: Callable[[], bool], seconds: float) -> None:
        """Until something is so; a pilot that ends by itself, or too long a time, is a failure."""
        deadline = time.monotonic() + seconds
        while not until():
            assert all(process.poll() is None for process in self._processes), self.logs()
            assert time.monotonic() < deadline, f"not in {seconds} seconds\n{self.logs()}"
            time.sleep(LOOK_SECONDS)

    def logs(self) -> str:
        """What the pilots had to say."""
        return "\n".join(path.read_text() for path in sorted(self._journal.parent.glob("pilot-*.log")))


def _pilot(url: str, journal: str, seconds: str, order: str) -> None:
    faulthandler.register(signal.SIGUSR1)
    file = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def work(token: Token) -> None:
        time.sleep(float(seconds))
        print("the log of", token.id)
        os.write(file, f"{token.id}\n".encode())

    def tell(event: object) -> None:
        if getattr(event, "kind", "") == "problem":
            print(event, file=sys.stderr, flush=True)

    with open_pool(url) as pool:
        pool.counts()
        os.write(1, READY)
        sys.stdin.readline()
        Pilot(pool, work, wait=True, order=order, on_event=tell).run()


if __name__ == "__main__":
    _pilot(*sys.argv[1:])
