"""What a pilot does when the time of its batch job runs out.

Work that may take until then is warned by a signal, if one was chosen; from then on nothing is begun. What has not
ended in time is stopped while there is still time to bring home what it left. That is no failure of the work: the
token goes back, with the files that it was to keep as its checkpoint.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from picas.tokens import Failure, Outcome
from picas.walltime import End, job_end, monotonic
from picas.work.inprocess import THREAD_MARK

if TYPE_CHECKING:
    from collections.abc import Iterable

    from picas.finishing import Result
    from picas.walltime import Notice
    from picas.work.runner import Runner

LEAVE_SECONDS = 30.0
"""So long before the end all that still runs is stopped, so that its logs and files can be brought to the pool."""

LEAVE_SHARE = 0.1
"""The same as a share of all the time that the pilot has, where that is little."""

LEAVE_OF_WARNING = 0.25
"""The same as a share of the time between warning and end, where the work is warned: who has much to save says so."""

GRACE_SHARE = 0.5
"""How much of what is then left work may use to end by itself, before it is killed."""

EXIT_STOPPED = 128 + signal.SIGTERM
"""Exit code of an attempt that was stopped and said, as it ended, that all was well."""


ALARM = signal.SIGURG
"""What the main thread gets: a signal that does nothing to those who do not expect it."""

ALARM_SECONDS = 1.0
"""How often it gets it: the first may come just before it begins to sleep, and wake nobody."""


def told_now(notice: Notice) -> Ending:
    """The end of a pilot's time that nobody knew of until the pilot itself got the signal."""
    return Ending(End(time.time() + notice.seconds, signal.Signals(notice.number).name), notice)


class Ending:
    """The end of a pilot's time. Times are monotonic.

    Args:
        end: when the batch job ends.
        warning: the signal for the work; None for none.

    Attributes:
        closes_at: from then on nothing is begun.
        stops_at: what runs then is stopped.
    """

    def __init__(self, end: End, warning: Notice | None) -> None:
        self.end = end
        self._warning = warning
        now = time.monotonic()
        self._ends_at = monotonic(end.at)
        if warning is None:
            leave = min(LEAVE_SECONDS, LEAVE_SHARE * max(0.0, self._ends_at - now))
        else:
            leave = LEAVE_OF_WARNING * warning.seconds
        self.stops_at = self._ends_at - leave
        self.closes_at = self.stops_at if warning is None else self._ends_at - warning.seconds
        self._warned = False

    @property
    def closed(self) -> bool:
        """Whether nothing is to be begun any more."""
        return time.monotonic() >= self.closes_at

    @property
    def over(self) -> bool:
        """Whether what runs is to be stopped."""
        return time.monotonic() >= self.stops_at

    @property
    def next_tick(self) -> float:
        """When there will be something to do, in monotonic time; never if that is over."""
        now = time.monotonic()
        return next((moment for moment in (self.closes_at, self.stops_at) if now < moment), math.inf)

    def warn(self, runners: Iterable[Runner]) -> None:
        """Send the signal if it is time to; once."""
        if self._warning is None or self._warned or not self.closed:
            return
        self._warned = True
        for runner in runners:
            runner.warn(self._warning.number, self.stops_at)

    def grace(self, seconds: float) -> float:
        """How long work that is stopped now may take to end, if it may usually take so many seconds."""
        return max(0.0, min(seconds, GRACE_SHARE * (self._ends_at - time.monotonic())))

    def told(self) -> str:
        """What people should know of it when the pilot begins."""
        return (
            f"the time ends at {_local(self.end.at)} ({self.end.source}); "
            f"nothing is begun that does not fit, nor after {_local(self.end.at - self._ends_at + self.closes_at)}"
        )

    def why(self) -> str:
        """Why the pilot goes."""
        return f"its time ends at {_local(self.end.at)} ({self.end.source})"

    # --- For work in the pilot's own process ---

    def ring_main_thread(self) -> threading.Event:
        """Let the main thread get `ALARM` when it is time to stop, and each second from then on, until this event is set."""
        answered = threading.Event()
        main = threading.main_thread().ident
        assert main is not None

        def ring() -> None:
            pause = max(0.0, self.stops_at - time.monotonic())
            while not answered.wait(pause):
                signal.pthread_kill(main, ALARM)
                pause = ALARM_SECONDS

        threading.Thread(target=ring, name=THREAD_MARK + "end", daemon=True).start()
        return answered


def find_ending(until: float | None, notice: Notice | None, *, detect: bool) -> Ending | None:
    """The end of this pilot's time, if it has one.

    Args:
        until: Unix seconds, if a person said so; infinite for never.
        detect: else ask the batch system.
    """
    now = time.time()
    if until is not None:
        end = End(until, "--until") if until < math.inf else None
    else:
        end = job_end(os.environ, now) if detect else None
    return Ending(end, notice) if end is not None else None


def stopped_at_end(result: Result, why: str, *, checkpoint: bool) -> Result:
    """The result of an attempt that was stopped because the time ran out.

    Args:
        why: for the token's list of errors.
        checkpoint: the next attempt is to begin with the files of this one.
    """
    old = result.outcome
    names = tuple(file.name for file in result.files) if checkpoint else ()
    outcome = replace(
        old,
        exit_code=old.exit_code or EXIT_STOPPED,
        failure=Failure.PREEMPTED,
        message=f"stopped: {why}",
        exception="",
        checkpoint=names,
    )
    return replace(result, outcome=outcome)


def ended_after_warning(result: Result, why: str) -> Result:
    """The result of an attempt that ended by itself after its warning.

    With exit code 0 it is done, as ever. Otherwise it has obeyed, and goes on elsewhere.
    """
    failure = result.outcome.failure
    if failure is None:
        note = "it ended with exit code 0 after it was warned that its time ends: that counts as done"
        return replace(result, outcome=replace(result.outcome, notes=(*result.outcome.notes, note)))
    if failure in (Failure.APPLICATION, Failure.SIGNAL):
        return stopped_at_end(result, why, checkpoint=True)
    return result


def put_back(result: Result, *, checkpoint: bool = False) -> Result:
    """The result of an attempt that was stopped because the pilot goes: no failure of the token's.

    Args:
        checkpoint: the next attempt is to begin with the files of this one.
    """
    old = result.outcome
    files = result.files if checkpoint else ()
    names = tuple(file.name for file in files)
    outcome = Outcome(0, old.started, old.ended, Failure.RELEASED, usage=old.usage, checkpoint=names)
    return replace(result, outcome=outcome, files=files, edits=None)


def not_its_fault(result: Result) -> Result:
    """The result of an attempt that failed because of the machine: put back, with a note on how it had ended."""
    old = result.outcome
    back = put_back(result)
    note = f"it failed, as others did on this machine: exit code {old.exit_code}, {old.message}"
    return replace(back, outcome=replace(back.outcome, notes=(*old.notes, note)))


def with_old_checkpoint(result: Result) -> Result:
    """The result of an attempt that failed, without what would replace the checkpoint that it began with."""
    failure = result.outcome.failure
    if not result.token.checkpoint or failure in (None, Failure.PREEMPTED, Failure.RELEASED):
        return result
    kept = set(result.token.checkpoint)
    files = tuple(file for file in result.files if file.name not in kept)
    return replace(result, files=files)


def _local(at: float) -> str:
    form = "%H:%M:%S" if at - time.time() < 43_200 else "%Y-%m-%d %H:%M"
    return time.strftime(form, time.localtime(at))
