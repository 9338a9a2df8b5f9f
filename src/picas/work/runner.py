"""One attempt from start to end: started, watched, stopped when it must be, its result put together.

A `Runner` runs one attempt in a process group of its own. The pilot tells it what happens (`exited`,
`tick`, `stop`) and asks it when it next wants to be looked at; nothing in here waits.
"""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, Union

from picas.finishing import Result
from picas.staging import EXIT_STAGING
from picas.tokens import Failure, Outcome, Usage
from picas.work.children import Ended, group_lives, signal_group
from picas.work.harvest import harvest, last_lines
from picas.work.outofmemory import EXIT_KILLED, LAST_WORDS, kills, says_so
from picas.work.scratch import is_full

if TYPE_CHECKING:
    from picas.errors import InfrastructureError
    from picas.staging.outcome import Staged
    from picas.tokens import Token
    from picas.work.children import Children
    from picas.work.command import CommandWork
    from picas.work.functions import FunctionWork
    from picas.work.scratch import Attempt

    Work = Union[CommandWork, FunctionWork]

EXIT_TIMEOUT = 124
"""Exit code of an attempt that ran into its time limit, as of timeout(1)."""

EXIT_CANCELLED = 143
"""Exit code of an attempt that was stopped because a person said so: as of one that TERM ended."""

EXIT_LOST = 126
"""Exit code of an attempt whose own nobody knows."""

EXIT_NOT_TRUSTED = 77
"""Exit code of a token that is not run because of its signature (EX_NOPERM of sysexits.h)."""

EXIT_BAD_OUTPUT = 65
"""Exit code of an attempt that succeeded but wrote no JSON to $PICAS_OUTPUT (EX_DATAERR of sysexits.h)."""

LINGER_SECONDS = 1.0
"""How long what a command left running in its group may go on, to write the last of a log, say."""

KILL_SECONDS = 2.0
"""How long a killed group is waited for; one that hangs in a dead file system cannot be."""

TOGETHER_SECONDS = 1.0
"""Batch systems signal all that is in a job, pilot and work: one may hear it a moment before the other."""

_ENDS = tuple(128 + number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM))

LINGER_TICK = 0.02
"""How often such a group is looked at."""


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
        self.given_up = self.warned = False
        self.started_at = time.time()
        self._started = time.monotonic()
        self._children = children
        self._container = work.container
        self._grace = grace
        self._log_cap = log_cap
        self._collect = collect
        self._ended: Ended | None = None
        self._timed_out = False
        self._cancelled = False
        self._killed = False
        self._stopped = False
        self._linger_to = 0.0
        self._wait_to = 0.0
        self._kills = kills().mark()
        self._no_memory = False
        self._no_space = False
        self._claim = attempt.token.claim_id or ""
        children.expect(self._claim)
        try:
            self.pid = work.start(attempt)
        except BaseException:
            children.sweep(self._claim)
            raise
        children.add(self.pid)
        self.deadline = self._started + timeout if timeout is not None else None

    @property
    def token(self) -> Token:
        """The token as it was claimed."""
        return self.attempt.token

    @property
    def wall(self) -> float:
        """For how many seconds it has been running, or ran."""
        return (time.monotonic() if self._ended is None else self._ended_at) - self._started

    def give_up(self, now: float, grace: float | None = None) -> None:
        """Stop it because the pilot has to go; an attempt that ended by itself before that still counts.

        Args:
            grace: seconds between TERM and KILL, where they are others than usual.
        """
        self.given_up = self.given_up or self.phase is Phase.RUNNING or self._failed_just_now(now)
        self._wait_to = 0.0
        if grace is not None:
            self._grace = grace
        if self.phase is Phase.LINGERING and self.deadline is not None:
            self.deadline = min(self.deadline, now + self._grace)
        self.stop(now)

    def _failed_just_now(self, now: float) -> bool:
        """Whether it has just failed by itself: then it was told to end as the pilot was, by whoever wants the job to end."""
        if self._ended is None or self._timed_out or self._cancelled:
            return False
        return self._ended.exit_code != 0 and now - self._ended_at < TOGETHER_SECONDS

    def warn(self, number: int, until: float) -> None:
        """Send a signal to the group, which goes on.

        Args:
            until: how long others of it may go on if its leader heeds no such signal, as a shell does not.
        """
        if self.phase is Phase.RUNNING:
            self.warned = True
            self._linger_to = until
            signal_group(self.pid, number)

    @property
    def succeeded(self) -> bool:
        """Whether its command ended, and well as far as its exit code says."""
        return self._ended is not None and self._ended.exit_code == 0 and not self._timed_out

    def stop(self, now: float) -> None:
        """Ask the group to end; it is killed when the grace is over."""
        if self.phase is Phase.RUNNING:
            self._stopped = True
            self.phase = Phase.STOPPING
            self.deadline = now + self._grace
            signal_group(self.pid, signal.SIGTERM)

    def cancel(self, now: float) -> None:
        """Stop it because a person said so; one that ended by itself before that still counts."""
        self._cancelled = self._cancelled or self.phase is Phase.RUNNING
        self.stop(now)

    def kill(self) -> None:
        """End the group at once."""
        self._stopped = True
        signal_group(self.pid, signal.SIGKILL)

    def tick(self, now: float) -> None:
        """Do what is due at this monotonic time."""
        if self.phase is Phase.LINGERING:
            self._linger(now)
        elif self.deadline is None or now < self.deadline:
            return
        elif self.phase is Phase.RUNNING:
            self._timed_out = True
            self.stop(now)
        else:
            self.kill()
            self.deadline = now + self._grace + KILL_SECONDS

    def _linger(self, now: float) -> None:
        """Look after a group whose leader has ended."""
        if not group_lives(self.pid):
            if now >= self._wait_to:
                self._over()
            else:
                self._linger_until = now + LINGER_TICK
            return
        if self.deadline is not None and now >= self.deadline:
            if self._killed:
                self._over()
                return
            self.kill()
            self._killed = True
            self.deadline = now + KILL_SECONDS
        self._linger_until = now + LINGER_TICK

    @property
    def next_tick(self) -> float | None:
        """When it next wants to be looked at, in monotonic time."""
        if self.phase is Phase.OVER:
            return self._ended_at  # at once
        if self.phase is Phase.LINGERING:
            return self._linger_until
        return self.deadline

    def exited(self, ended: Ended, now: float) -> None:
        """Its command has ended; what is left of the group gets a moment, then is killed."""
        self._ended = ended
        self._ended_at = now
        if self.phase is Phase.RUNNING and ended.exit_code == EXIT_KILLED:  # and not by us
            self._no_memory = kills().claim_one(self._kills)
        # Now, before its directory or another's is cleared away.
        self._no_space = ended.exit_code != 0 and is_full(self.attempt.directory)
        if self.phase is Phase.RUNNING and ended.exit_code in _ENDS:
            self._wait_to = now + TOGETHER_SECONDS  # the pilot may be told in a moment, too
        elif not group_lives(self.pid):
            self._over()
            return
        if self.phase is Phase.RUNNING:
            self.deadline = max(now + LINGER_SECONDS, self._linger_to)
        self.phase = Phase.LINGERING
        self._linger_until = now + LINGER_TICK

    def _over(self) -> None:
        self.phase = Phase.OVER

    # --- What came of it ---

    def result(self) -> Result:
        """The result of an attempt that is over, with nothing of it left running; from any thread.

        Its directory goes to another attempt if nothing in it is needed.
        """
        assert self._ended is not None
        ended = self._ended
        self._children.sweep(self._claim)  # before its directory goes to another
        if self._container is not None and (self._stopped or ended.signal is not None):
            self._container.remove(self._claim)
        exit_code, failure, message = self._judge(ended)
        found = harvest(self.attempt, self._log_cap, self._collect)
        if found.staged is not None and failure is not Failure.CANCELLED:
            exit_code, failure, message = self._judge_staged(found.staged, exit_code, failure, message)
        exception = ""
        if failure is None and found.problem:
            exit_code, failure, message = EXIT_BAD_OUTPUT, Failure.APPLICATION, found.problem
        elif failure in (Failure.APPLICATION, Failure.MEMORY) and found.raised[0]:
            message, exception = found.raised
        outcome = Outcome(
            exit_code,
            self.started_at,
            self.started_at + self.wall,
            failure,
            message,
            exception,
            usage=Usage(self.wall, ended.cpu, ended.max_rss),
            output=found.output,
            uploads=found.staged.uploads if found.staged is not None else None,
        )
        directory = self.attempt.directory
        # What failed may be wanted as it is.
        if found.in_memory and failure is None and self.attempt.scratch.recycle(directory, found.left):
            directory = ""
        return Result(self.token, outcome, found.logs, found.files, directory)

    def _judge(self, ended: Ended) -> tuple[int, Failure | None, str]:
        if self._cancelled:
            return EXIT_CANCELLED, Failure.CANCELLED, f"cancelled after {self.wall:.0f} s"
        if self._timed_out:
            return EXIT_TIMEOUT, Failure.TIMEOUT, f"stopped by its time limit after {self.wall:.0f} s"
        if ended.exit_code is None:
            return EXIT_LOST, Failure.INFRASTRUCTURE, "its exit code is lost: something else waited for it"
        if ended.exit_code == 0:
            return 0, None, ""
        if self._no_memory:
            message = f"killed for want of memory; its largest process had {ended.max_rss / 1e6:,.0f} MB"
            return ended.exit_code, Failure.MEMORY, message
        words = last_lines(self.attempt.stderr, LAST_WORDS)
        runtime = self._container
        complaint = runtime.complaint(ended.exit_code, words) if runtime is not None else ""
        if runtime is not None and complaint:
            return ended.exit_code, Failure.INFRASTRUCTURE, f"{runtime.runtime} failed: {complaint}"
        last = words[0] if words else ""
        how = (
            f"exit code {ended.exit_code}"
            if ended.signal is None
            else f"killed by {_signal_name(ended.signal)}"
        )
        failure = Failure.APPLICATION if ended.signal is None else Failure.SIGNAL
        if self._no_space:
            failure = Failure.INFRASTRUCTURE
            last = f"{last or how}; the disk of the scratch directory {self.attempt.directory} was full"
        elif says_so(words):
            failure = Failure.MEMORY
            last = next(line for line in words if says_so([line]))
        return ended.exit_code, failure, last or how

    def _judge_staged(
        self, staged: Staged, exit_code: int, failure: Failure | None, message: str
    ) -> tuple[int, Failure | None, str]:
        """The same, where files were fetched or brought away: what fails then is not the work."""
        if failure is Failure.TIMEOUT:
            if not staged.doing:
                return exit_code, failure, message
            return exit_code, Failure.INFRASTRUCTURE, f"{message}, {staged.doing}"
        if not staged.problem:
            return exit_code, failure, message
        whose = Failure.APPLICATION if staged.is_works else Failure.INFRASTRUCTURE
        return exit_code or EXIT_STAGING, whose, staged.problem


def could_not_start(attempt: Attempt, error: InfrastructureError, started_at: float) -> Result:
    """The result of an attempt whose work could not even be started."""
    message = error.message if not error.advice else f"{error.message}. {error.advice}"
    now = time.time()
    outcome = Outcome(error.exit_code, started_at, now, Failure.INFRASTRUCTURE, message, final=error.of_token)
    return Result(attempt.token, outcome, directory=attempt.directory)


def cancelled(result: Result) -> Result:
    """The result of an attempt that was interrupted because a person said so."""
    old = result.outcome
    wall = old.ended - old.started
    message = f"cancelled after {wall:.0f} s"
    outcome = Outcome(
        EXIT_CANCELLED, old.started, old.ended, Failure.CANCELLED, message, usage=old.usage, output=old.output
    )
    return replace(result, outcome=outcome)


def not_trusted(token: Token, why: str) -> Result:
    """The result of an attempt that was not made, since nobody who is trusted has signed the token as it is."""
    now = time.time()
    message = f"not run: {why}"
    return Result(token, Outcome(EXIT_NOT_TRUSTED, now, now, Failure.UNTRUSTED, message))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
