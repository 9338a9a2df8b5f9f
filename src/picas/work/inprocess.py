"""One attempt of a function within the pilot's own process: the fast way for functions that need no limit."""

from __future__ import annotations

import contextlib
import io
import sys
import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, TextIO

from picas.errors import InfrastructureError
from picas.finishing import Result
from picas.payload import Payload, capped_log
from picas.tokens import Failure, Outcome, Usage, log_names
from picas.work.functions import Job, told
from picas.work.harvest import MEMORY_LOG, collected_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from picas.tokens import Token
    from picas.work.functions import FunctionWork
    from picas.work.scratch import Attempt


THREAD_MARK = "picas-"
"""What the names of a pilot's own threads begin with: what those print is no function's output."""


class OwnWork(ABC):
    """Work in the pilot's own process, one token at a time, that says itself what becomes of its token.

    It is for programs that work on the document. What it prints goes where the pilot's own output goes.

    Attributes:
        in_turn: nothing more is claimed before the result of the last token is in the pool.
    """

    in_turn = False

    @abstractmethod
    def run(self, token: Token, interruptible: Interruptible) -> Result:
        """Do the work of a token; how that went, with `picas.finishing.Result.edits`.

        An exception ends the pilot, which leaves the token locked.

        Args:
            interruptible: what may be interrupted when the pilot has to go is to be `Interruptible.within` it.
        """


class Interrupted(BaseException):
    """Raised inside a function when its pilot has to go."""


class Interruptible:
    """Whether a function is running that a signal handler may interrupt.

    Attributes:
        interrupted: it was done; the function may have caught that and gone on.
    """

    def __init__(self) -> None:
        self.inside = self.interrupted = False
        self._stop: Callable[[], object] | None = None

    def interrupt(self) -> None:
        """Raise `Interrupted` in the function that runs, if one does; for signal handlers."""
        if self.inside:
            self.interrupted = True
            if self._stop is not None:
                self._stop()
            raise Interrupted

    @contextlib.contextmanager
    def within(self, stop: Callable[[], object]) -> Iterator[None]:
        """What runs in here may be interrupted.

        Args:
            stop: called first, in the signal handler; stops what would not let the function end, such as its children.
        """
        self._stop = stop
        self.inside = True
        try:
            yield
        finally:
            self.inside = False
            self._stop = None


def call(
    work: FunctionWork,
    attempt: Attempt,
    log_cap: int,
    collect: tuple[str, ...],
    interruptible: Interruptible,
) -> Result:
    """Run the function of an attempt here and now.

    What it prints becomes its logs, an exception an error with its traceback.

    Args:
        log_cap: bytes of each log that are kept.
        collect: glob patterns of files in its directory, if it asked for one, to attach.
    """
    logs = [
        _Printed(attempt, attempt.stdout, sys.stdout),
        _Printed(attempt, attempt.stderr, sys.stderr),
    ]
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
        interruptible.inside = False
        failure = Failure.RELEASED
    except BaseException as error:  # noqa: BLE001 - whatever it was, it ends the attempt, not the pilot
        exit_code, message, exception = told(error)
        failure = _class_of(error) if exit_code else None
        logs[1].write(exception)
    wall = time.monotonic() - clock
    usage = Usage(wall, time.process_time() - cpu)
    files = list(attempt.files) if failure is not Failure.RELEASED else []
    if collect and attempt.made and failure is not Failure.RELEASED:
        collected, refused = collected_files(attempt, collect)
        files += collected
        if refused:
            output = {**(output or {}), "picas_not_attached": refused}
    outcome = Outcome(exit_code, started, started + wall, failure, message, exception, usage, output)
    payloads = tuple(
        payload
        for log, name in zip(logs, log_names(attempt.token.id))
        if (payload := log.payload(name, log_cap)) is not None
    )
    directory = attempt.directory if attempt.made else ""
    return Result(attempt.token, outcome, payloads, tuple(files), directory)


def _class_of(error: BaseException) -> Failure:
    return Failure.MEMORY if isinstance(error, MemoryError) else Failure.APPLICATION


class _Printed(io.TextIOBase):
    """What a function prints: in memory while it is little, in the attempt's log file when it grows.

    Args:
        outer: where the pilot's own threads print.

    Attributes:
        buffer: takes bytes, as that of ``sys.stdout`` does.
    """

    def __init__(self, attempt: Attempt, path: str, outer: TextIO) -> None:
        self._outer = outer
        self._attempt = attempt
        self._path = path
        self._pieces: list[bytes] = []
        self._size = 0
        self._on_disk = False
        self._lost = ""
        self.buffer = _Bytes(self)

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if threading.current_thread().name.startswith(THREAD_MARK):
            return self._outer.write(text)
        self.add(text.encode("utf-8", "backslashreplace"))
        return len(text)

    def flush(self) -> None:
        if threading.current_thread().name.startswith(THREAD_MARK):
            self._outer.flush()

    def add(self, data: bytes) -> None:
        """Take some more."""
        if self._lost:
            return
        self._pieces.append(data)
        self._size += len(data)
        if self._size > MEMORY_LOG:
            self._spill()

    def _spill(self) -> None:
        try:
            if not self._on_disk:
                _ = Job(self._attempt).scratch  # makes the directory
                self._on_disk = True
            with open(self._path, "ab") as file:
                file.writelines(self._pieces)
        except (OSError, InfrastructureError) as error:  # a print is not to fail for that, nor the pilot
            self._lost = f"\n[picas: the rest is lost, since the log could not be written: {error}]\n"
            return
        self._pieces.clear()
        self._size = 0

    def payload(self, name: str, cap: int) -> Payload | None:
        """The text as an attachment; None if nothing was printed."""
        parts = (*self._pieces, self._lost.encode())
        if not self._on_disk or self._lost:
            kept = b"".join(parts)[:MEMORY_LOG]
            return Payload(name, "text/plain", (kept,)) if kept else None
        self._spill()
        try:
            return capped_log(name, Path(self._path), cap)
        except OSError as error:
            return Payload(name, "text/plain", (f"[picas: this log cannot be read: {error}]\n".encode(),))


class _Bytes(io.RawIOBase):
    """The ``buffer`` of what a function prints to."""

    def __init__(self, printed: _Printed) -> None:
        self._printed = printed

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._printed.add(piece)
        return len(piece)
