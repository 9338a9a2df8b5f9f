"""A machine's fitness: a command that is run before the first claim, and failures that come too fast, one after another.

On a machine where something is wrong (a file system that is not mounted, a library that is missing) every token fails
at once, and a pilot there would soon have failed all tokens of a pool.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Callable

from picas.tokens import Failure
from picas.work.children import signal_group
from picas.work.command import SECRETS, outer_environment

if TYPE_CHECKING:
    from collections.abc import Collection

    from picas.finishing import Result

PROBE_SECONDS = 60.0
"""How long a probe may take: one that hangs, as on a dead file system, has failed."""

KILL_SECONDS = 2.0
"""How long it is then waited for."""

LOOK_SECONDS = 0.02
"""How often it is looked whether it has ended."""

SAID_BYTES = 1000
"""How much of the end of what it printed is told."""

QUICK_SECONDS = 10.0
"""An attempt that fails within this time has failed quickly."""

HOLD_SECONDS = 60.0
"""How long a quick failure is kept back at the most, in case others follow it."""


def probe(command: str, wanted: Callable[[], bool], hidden: Collection[str] = SECRETS) -> str:
    """Run a check by ``sh``; why this machine is not fit, "" if it is.

    Args:
        wanted: asked now and then whether to go on with it.
        hidden: variables that it is not told.
    """
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(
                ["/bin/sh", "-c", command],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env=outer_environment(hidden),
                start_new_session=True,
            )
        except OSError as error:
            return f"the probe cannot be started: {error.strerror}"
        deadline = time.monotonic() + PROBE_SECONDS
        while process.poll() is None and wanted() and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
        ended = process.returncode
        signal_group(process.pid, signal.SIGKILL)
        if ended is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(KILL_SECONDS)
            if process.returncode is None:  # one that hangs in a dead file system cannot even be killed
                process.returncode = -signal.SIGKILL
            return f"the probe did not end within {PROBE_SECONDS:.0f} s: {command}"
        if ended == 0:
            return ""
        said.seek(max(0, said.seek(0, os.SEEK_END) - SAID_BYTES))
        lines = said.read().decode("utf-8", "replace").strip().splitlines()
        how = f"exit code {ended}" if ended > 0 else f"killed by signal {-ended}"
        return f"the probe failed ({how}): {command}" + (f": {lines[-1]}" if lines else "")


_NOT_OF_MACHINE = (Failure.RELEASED, Failure.PREEMPTED, Failure.UNTRUSTED, Failure.CANCELLED)


class QuickFailures:
    """Failures in a row that came quickly, kept back until it is known whether the machine is to blame.

    Args:
        limit: so many in a row, and it is.

    Attributes:
        why: what is to be told once it is; "" before.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._in_row = 0
        self._kept: list[tuple[float, Result]] = []  # since when
        self.why = ""

    def add(self, result: Result) -> list[Result]:
        """Take note of a result; those that are to be brought to the pool now."""
        outcome = result.outcome
        if outcome.failure in _NOT_OF_MACHINE:
            return [result]  # says nothing of the machine
        if outcome.failure is None or outcome.ended - outcome.started >= QUICK_SECONDS:
            self._in_row = 0
            return [*self.let_go(), result]
        self._in_row += 1
        self._kept.append((time.monotonic(), result))
        if self._in_row >= self._limit and not self.why:
            self.why = (
                f"{self._in_row} tokens in a row failed within {QUICK_SECONDS:.0f} s here, "
                f"the last one by: {outcome.message}"
            )
        return []

    def succeeded(self) -> list[Result]:
        """Take note of an attempt that went well; those kept back that are to be brought to the pool now."""
        self._in_row = 0
        return self.let_go()

    def overdue(self) -> list[Result]:
        """Those that have been kept back for long enough."""
        return [] if time.monotonic() < self.next_tick else self.let_go()

    @property
    def next_tick(self) -> float:
        """When the first of them is `overdue`, in monotonic time; never if none is to be."""
        return self._kept[0][0] + HOLD_SECONDS if self._kept and not self.why else math.inf

    def let_go(self) -> list[Result]:
        """All that are kept back, which no longer are."""
        kept, self._kept = self._kept, []
        return [result for _, result in kept]
