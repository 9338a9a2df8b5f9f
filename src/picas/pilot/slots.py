"""What a pilot has running in processes of their own, and in how many of its slots."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Callable

from picas.errors import InfrastructureError
from picas.work.runner import Phase, Runner, could_not_start
from picas.work.scratch import Attempt, Scratch, remove

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from picas.finishing import Result
    from picas.pilot.ending import Ending
    from picas.tokens import Token
    from picas.work.children import Ended


class Slots:
    """The attempts that run.

    Args:
        count: how many slots there are; an attempt takes as many as its token's ``cores``, all of them at the most.
        scratch: where the attempts' directories are made.
        begin: starts an attempt.
    """

    def __init__(self, count: int, scratch: Scratch, begin: Callable[[Attempt], Runner]) -> None:
        self.count = count
        self._scratch = scratch
        self._begin = begin
        self._running: dict[int, Runner] = {}
        self._next: Attempt | None = None  # its directory is made, it has not begun

    def __len__(self) -> int:
        return len(self._running)

    @property
    def free(self) -> int:
        """Slots that nothing runs in."""
        return self.count - sum(self.taken_by(runner.token) for runner in self._running.values())

    def taken_by(self, token: Token) -> int:
        """How many slots a token takes."""
        return min(self.count, token.cores)

    @property
    def longest(self) -> float:
        """For how many seconds the oldest attempt has run; 0.0 if none runs."""
        return max((runner.wall for runner in self._running.values()), default=0.0)

    @property
    def ticks(self) -> list[float]:
        """When attempts next want to be looked at, monotonic seconds."""
        return [tick for runner in self._running.values() if (tick := runner.next_tick) is not None]

    def told(self) -> list[dict[str, Any]]:
        """What runs, for others; from any thread."""
        return [
            {"id": runner.token.id, "claim": runner.token.claim_id, "since": round(runner.started_at)}
            for runner in list(self._running.values())
        ]

    # --- Starting ---

    def prepare(self, token: Token | None) -> None:
        """Make the directory of the attempt that comes next now, while all slots are busy."""
        if self._next is not None or token is None or token.checkpoint:
            return
        attempt = Attempt(token, self._scratch)
        try:
            attempt.prepare()
        except InfrastructureError:
            attempt.discard()  # told when the attempt starts
            return
        self._next = attempt

    def _attempt(self, token: Token) -> Attempt:
        """The attempt that was prepared if it is this token's, else a new one."""
        prepared, self._next = self._next, None
        if prepared is not None and prepared.token is token:
            return prepared
        if prepared is not None:
            prepared.discard()
        return Attempt(token, self._scratch)

    def start(self, token: Token, make_room: Callable[[], bool]) -> Result | None:
        """Start a token's attempt; if that fails because of the token or its command, the result of that.

        Args:
            make_room: called if this machine has no room for it, before that is tried once more; whether there may
                be more by then.

        Raises:
            InfrastructureError: this machine is to blame: no other token would fare better.
        """
        attempt, began = self._attempt(token), time.time()
        try:
            try:
                runner = self._begin(attempt)
            except InfrastructureError as error:
                if not (error.of_machine and make_room()):
                    raise
                remove(attempt.directory)
                attempt = Attempt(token, self._scratch)
                runner = self._begin(attempt)
        except InfrastructureError as error:
            if error.of_machine:
                remove(attempt.directory)
                raise
            return could_not_start(attempt, error, began)
        self._running[runner.pid] = runner
        return None

    def discard(self) -> None:
        """Forget what was prepared."""
        if self._next is not None:
            self._next.discard()

    # --- While they run ---

    def exited(self, ends: Iterable[Ended]) -> None:
        """Note whose process has ended."""
        for ended in ends:
            self._running[ended.pid].exited(ended, time.monotonic())

    def warn(self, ending: Ending) -> None:
        """Warn all that runs, if it is time to."""
        ending.warn(self._running.values())

    def tick(self, is_cancelled: Callable[[str | None], bool]) -> Iterator[Runner]:
        """Let the attempts do what is due; those that are over.

        Args:
            is_cancelled: whether the attempt of a claim is to be stopped.
        """
        now = time.monotonic()
        for runner in list(self._running.values()):
            next_tick = runner.next_tick
            if runner.phase is not Phase.OVER and next_tick is not None and now >= next_tick:
                runner.tick(now)
            elif is_cancelled(runner.token.claim_id):
                runner.cancel(now)
            if runner.phase is Phase.OVER:
                del self._running[runner.pid]
                yield runner

    def give_up(self, grace: float | None) -> None:
        """Stop all that runs, since the pilot goes."""
        for runner in self._running.values():
            runner.give_up(time.monotonic(), grace)

    def kill(self) -> None:
        """Kill all that runs, at once; may be called in a signal handler."""
        for runner in list(self._running.values()):
            runner.kill()
