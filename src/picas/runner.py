"""One attempt from start to end: started, watched, stopped when it must be, its result put together.

A `Runner` runs one attempt in a process group of its own. The pilot tells it what happens (`exited`,
`tick`, `stop`) and asks it when it next wants to be looked at; nothing in here waits.
"""

from __future__ import annotations

import json
import os
import signal
import time
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from picas.children import Ended, kill_stray, signal_group
from picas.payload import Payload, capped_log, file_payload
from picas.pool import Result
from picas.tokens import Failure, Outcome, Usage, log_names

if TYPE_CHECKING:
    from picas.children import Children
    from picas.errors import InfrastructureError
    from picas.tokens import Token
    from picas.work import Attempt, CommandWork, FunctionWork

    Work = Union[CommandWork, FunctionWork]

EXIT_TIMEOUT = 124
"""Exit code of an attempt that ran into its time limit, as of timeout(1)."""

EXIT_BAD_OUTPUT = 65
"""Exit code of an attempt that succeeded but wrote no JSON to $PICAS_OUTPUT (EX_DATAERR of sysexits.h)."""

LINGER_SECONDS = 1.0
"""How long what a command left running in its group may go on, to write the last of a log, say."""

LINGER_TICK = 0.02
"""How often such a group is looked at."""

MAX_OUTPUT_BYTES = 64 << 20
"""The largest $PICAS_OUTPUT that is read as JSON; a larger one is only attached."""

LAST_LINE_BYTES = 4096
"""How much of the end of the error output is looked at for its last line."""


class Phase(Enum):
    """How far an attempt is."""

    RUNNING = "running"
    STOPPING = "stopping"  # the group has got TERM
    LINGERING = "lingering"  # the command has ended, others of its group have not
    OVER = "over"


class Runner:
    """An attempt under way.

    Args:
        timeout: seconds after which it is stopped; None for no limit.
        grace: seconds between TERM and KILL.
        log_cap: bytes of each log that are kept.
        collect: glob patterns of files in the working directory to attach.

    Raises:
        InfrastructureError: it could not be started.
    """

    def __init__(
        self,
        attempt: Attempt,
        work: Work,
        children: Children,
        *,
        timeout: float | None,
        grace: float,
        log_cap: int,
        collect: tuple[str, ...],
    ) -> None:
        self.attempt = attempt
        self.phase = Phase.RUNNING
        self.given_up = False
        self.started_at = time.time()
        self._started = time.monotonic()
        self._children = children
        self._grace = grace
        self._log_cap = log_cap
        self._collect = collect
        self._ended: Ended | None = None
        self._timed_out = False
        self.pid = work.start(attempt)
        children.add(self.pid)
        self.deadline = self._started + timeout if timeout is not None else None

    @property
    def token(self) -> Token:
        """The token as it was claimed."""
        return self.attempt.token

    def give_up(self, now: float) -> None:
        """Stop it because the pilot has to go; an attempt that ended by itself before that still counts."""
        self.given_up = self.phase is Phase.RUNNING
        self.stop(now)

    def stop(self, now: float) -> None:
        """Ask the group to end; it is killed when the grace is over."""
        if self.phase is Phase.RUNNING:
            self.phase = Phase.STOPPING
            self.deadline = now + self._grace
            signal_group(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End the group at once."""
        signal_group(self.pid, signal.SIGKILL)

    def tick(self, now: float) -> None:
        """Do what is due at this monotonic time."""
        if self.phase is Phase.LINGERING and not signal_group(self.pid, 0):
            self._over()
        elif self.deadline is None or now < self.deadline:
            if self.phase is Phase.LINGERING:
                self._linger_until = min(now + LINGER_TICK, self.deadline or now)
        elif self.phase is Phase.RUNNING:
            self._timed_out = True
            self.stop(now)
        elif self._ended is None:
            self.kill()
            self.deadline = now + self._grace
        else:
            self.kill()
            self._over()

    @property
    def next_tick(self) -> float | None:
        """When it next wants `tick`, in monotonic time."""
        if self.phase is Phase.LINGERING:
            return self._linger_until
        return self.deadline

    def exited(self, ended: Ended, now: float) -> None:
        """Its command has ended; what is left of the group gets a moment, then is killed."""
        self._ended = ended
        self._wall = now - self._started
        if not signal_group(self.pid, 0):
            self._over()
            return
        if self.phase is Phase.RUNNING:
            self.deadline = now + LINGER_SECONDS
        self.phase = Phase.LINGERING
        self._linger_until = now + LINGER_TICK

    def _over(self) -> None:
        self.phase = Phase.OVER
        for pid in self._children.stray((self.token.claim_id or "",)):
            kill_stray(pid)

    # --- What came of it ---

    def result(self) -> Result:
        """The result of an attempt that is over."""
        assert self._ended is not None
        ended = self._ended
        out_name, err_name = log_names(self.token.id)
        logs = tuple(
            capped_log(name, Path(path), self._log_cap)
            for name, path in ((out_name, self.attempt.stdout), (err_name, self.attempt.stderr))
        )
        files, refused = self._files({out_name, err_name})
        output, bad_output = self._output()
        exit_code, failure, message = self._judge(ended)
        if failure is None and bad_output:
            exit_code, failure, message = EXIT_BAD_OUTPUT, Failure.APPLICATION, bad_output
        if refused:
            output = {**(output or {}), "picas_not_attached": refused}
        outcome = Outcome(
            exit_code,
            self.started_at,
            self.started_at + self._wall,
            failure,
            message,
            usage=Usage(self._wall, ended.cpu, ended.max_rss),
            output=output,
        )
        return Result(self.token, outcome, logs, tuple(files))

    def _judge(self, ended: Ended) -> tuple[int, Failure | None, str]:
        if self._timed_out:
            return EXIT_TIMEOUT, Failure.TIMEOUT, f"stopped by its time limit after {self._wall:.0f} s"
        if ended.exit_code == 0:
            return 0, None, ""
        last = last_line(self.attempt.stderr)
        if ended.signal is not None:
            return ended.exit_code, Failure.SIGNAL, last or f"killed by {_signal_name(ended.signal)}"
        return ended.exit_code, Failure.APPLICATION, last or f"exit code {ended.exit_code}"

    def _output(self) -> tuple[dict[str, Any] | None, str]:
        """What was written to $PICAS_OUTPUT, and what is wrong with it."""
        path = Path(self.attempt.output_file)
        try:
            size = path.stat().st_size
        except OSError:
            return None, ""
        if size == 0:
            return None, ""
        why = ""
        if size <= MAX_OUTPUT_BYTES:
            try:
                value = json.loads(path.read_text("utf-8"), parse_constant=_refuse_constant)
                return (value if isinstance(value, dict) else {"result": value}), ""
            except (ValueError, RecursionError) as error:
                why = (
                    f"what was written to $PICAS_OUTPUT is not JSON ({error}); it is attached as output.json"
                )
        else:
            why = f"what was written to $PICAS_OUTPUT has {size:,} bytes; it is attached as output.json"
        self.attempt.files.append(file_payload("output.json", "application/octet-stream", path))
        return None, why

    def _files(self, taken: set[str]) -> tuple[list[Payload], list[str]]:
        """The files to attach, and the names of those that were matched but cannot be."""
        files = list(self.attempt.files)
        attached = Path(self.attempt.directory, "attached")
        if attached.is_dir():  # what a function in a child process attached by itself
            files += [_payload(path, attached) for path in sorted(attached.rglob("*")) if path.is_file()]
        refused = []
        root = os.path.realpath(self.attempt.work)
        for path in _matches(Path(self.attempt.work), self._collect):
            name = path.relative_to(self.attempt.work).as_posix()
            inside = os.path.realpath(path).startswith(root + os.sep)
            if inside and path.is_file() and name not in taken:
                files.append(_payload(path, Path(self.attempt.work)))
                taken.add(name)
            elif not path.is_dir():
                refused.append(name)
        return files, refused


def could_not_start(token: Token, error: InfrastructureError, started_at: float) -> Result:
    """The result of an attempt whose work could not even be started."""
    message = error.message if not error.advice else f"{error.message}. {error.advice}"
    now = time.time()
    return Result(token, Outcome(error.exit_code, started_at, now, Failure.INFRASTRUCTURE, message))


def last_line(path: str) -> str:
    """The last line with anything in it of a text file, at most `LAST_LINE_BYTES` of it."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LAST_LINE_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _matches(work: Path, patterns: tuple[str, ...]) -> list[Path]:
    return sorted({path for pattern in patterns for path in work.glob(pattern)})


def _payload(path: Path, root: Path) -> Payload:
    import mimetypes  # noqa: PLC0415 - reads the system's tables, and most runs collect nothing

    name = path.relative_to(root).as_posix()
    return file_payload(name, mimetypes.guess_type(name)[0] or "application/octet-stream", path)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
