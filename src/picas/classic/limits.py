"""A time limit for code in this process and for what it has started, which holds also while it waits for that."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from picas.work.children import in_main_thread, living_below, started

if TYPE_CHECKING:
    from types import FrameType, TracebackType

GRACE_SECONDS = 5.0
"""Between TERM and KILL, and between two tries to end code that has caught the first."""

LOOK_SECONDS = 0.02
"""How often it is looked whether processes that were told to end have done so."""


class TokenTimeout(Exception):
    """A token's work took longer than it may."""


class Limit:
    """Ends what runs in it after so many seconds: all processes that it has started, and then itself.

    A context manager for the main thread; in others there are no timers, and so no limit.

    Args:
        seconds: None for no limit; `stop` works all the same.

    Raises (within it):
        TokenTimeout: time is up. What it had started was told to end, and is killed if it does not.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._grace = GRACE_SECONDS
        self._armed = self._stopping = False
        self._rung = 0
        self._spared: set[int] = set()
        self._main = in_main_thread()

    def __enter__(self) -> Limit:
        if self._main:
            self._spared = started()
            self._before = signal.signal(signal.SIGALRM, self._ring)
            self._armed = True
            if self._seconds is not None:
                signal.setitimer(signal.ITIMER_REAL, self._seconds, self._grace)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the limit, and what was to end with it. Time may be up just as the context is left: call it then too."""
        if not self._armed:
            return
        self._armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before if self._before is not None else signal.SIG_DFL)
        if self._rung or self._stopping:
            self._end_all()

    def stop(self) -> None:
        """Let what was started here end, by KILL if it has to be or is asked for again; for signal handlers."""
        if not self._main:
            return
        if self._stopping or not self._armed:
            self._signal(signal.SIGKILL)
            return
        self._stopping = True
        self._signal(signal.SIGTERM)
        signal.setitimer(signal.ITIMER_REAL, self._grace, self._grace)

    def _ring(self, number: int, frame: FrameType | None) -> None:
        if not self._armed:  # it rang while it was taken down
            return
        self._rung += 1
        self._signal(signal.SIGKILL if self._stopping or self._rung > 1 else signal.SIGTERM)
        # Not every time: first what has been killed is to be noticed by the code that waits for it.
        if not self._stopping and self._rung % 2:
            raise TokenTimeout(f"it takes more than {self._seconds} seconds")

    def _signal(self, number: int) -> None:
        for pid in living_below(self._spared):
            with suppress(OSError):
                os.kill(pid, number)

    def _end_all(self) -> None:
        """Wait until all is over; kill what takes too long, and leave what cannot even be killed."""
        for _ in range(2):
            deadline = time.monotonic() + self._grace
            while living_below(self._spared):
                if time.monotonic() > deadline:
                    self._signal(signal.SIGKILL)
                    break
                time.sleep(LOOK_SECONDS)
            else:
                return
