"""One attempt of a function within the pilot's own process: the fast way for functions that need no limit."""

from __future__ import annotations

import contextlib
import io
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from picas.harvest import MEMORY_LOG
from picas.payload import Payload, capped_log
from picas.pool import Result
from picas.tokens import Failure, Outcome, Usage, log_names
from picas.work import EXIT_FUNCTION_RAISED, Job

if TYPE_CHECKING:
    from picas.scratch import Attempt
    from picas.work import FunctionWork


class Interrupted(BaseException):
    """Raised inside a function when its pilot has to go."""


class Interruptible:
    """Whether a function is running that a signal handler may interrupt."""

    def __init__(self) -> None:
        self.inside = False

    def interrupt(self) -> None:
        """Raise `Interrupted` in the function that runs, if one does; for signal handlers."""
        if self.inside:
            self.inside = False
            raise Interrupted


def call(work: FunctionWork, attempt: Attempt, log_cap: int, interruptible: Interruptible) -> Result:
    """Run the function of an attempt here and now.

    What it prints becomes its logs, an exception an error with its traceback.
    """
    logs = [_Printed(attempt, attempt.stdout), _Printed(attempt, attempt.stderr)]
    output: dict[str, Any] | None = None
    exit_code, failure, message, exception = 0, None, "", ""
    started, clock, cpu = time.time(), time.monotonic(), time.process_time()
    try:
        with contextlib.redirect_stdout(logs[0]), contextlib.redirect_stderr(logs[1]):
            interruptible.inside = True
            try:
                output = work.call(attempt)
            finally:
                interruptible.inside = False
    except Interrupted:
        failure = Failure.RELEASED
    except BaseException as error:  # noqa: BLE001 - whatever it was, it ends the attempt, not the pilot
        exit_code, failure = EXIT_FUNCTION_RAISED, Failure.APPLICATION
        exception = traceback.format_exc()
        message = f"{type(error).__name__}: {error}"
        logs[1].write(exception)
    wall = time.monotonic() - clock
    usage = Usage(wall, time.process_time() - cpu)
    outcome = Outcome(exit_code, started, started + wall, failure, message, exception, usage, output)
    payloads = tuple(
        payload
        for log, name in zip(logs, log_names(attempt.token.id))
        if (payload := log.payload(name, log_cap)) is not None
    )
    directory = attempt.directory if attempt.made else ""
    return Result(attempt.token, outcome, payloads, tuple(attempt.files), directory)


class _Printed(io.TextIOBase):
    """What a function prints: in memory while it is little, in the attempt's log file when it grows."""

    def __init__(self, attempt: Attempt, path: str) -> None:
        self._attempt = attempt
        self._path = path
        self._pieces: list[bytes] = []
        self._size = 0
        self._on_disk = False

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        data = text.encode("utf-8", "backslashreplace")
        self._pieces.append(data)
        self._size += len(data)
        if self._size > MEMORY_LOG:
            self._spill()
        return len(text)

    def _spill(self) -> None:
        if not self._on_disk:
            _ = Job(self._attempt).scratch  # makes the directory
            self._on_disk = True
        with open(self._path, "ab") as file:
            file.writelines(self._pieces)
        self._pieces.clear()
        self._size = 0

    def payload(self, name: str, cap: int) -> Payload | None:
        """The text as an attachment; None if nothing was printed."""
        if self._on_disk:
            self._spill()
            return capped_log(name, Path(self._path), cap)
        return Payload(name, "text/plain", (b"".join(self._pieces),)) if self._pieces else None
