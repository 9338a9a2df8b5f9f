"""Work that a pilot does in its own process, one token at a time."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any, Callable

from picas.pilot.ending import stopped_at_end, with_old_checkpoint
from picas.tokens import Failure
from picas.work.functions import FunctionWork
from picas.work.inprocess import Interruptible, OwnWork, call
from picas.work.runner import cancelled
from picas.work.scratch import Attempt, Scratch

if TYPE_CHECKING:
    from picas.finishing import Result
    from picas.pilot.ending import Ending
    from picas.tokens import Token


class Solo:
    """The one attempt that runs here, if one does.

    Args:
        scratch: where its directory is made, if it asks for one.
        log_cap: bytes of each log that are kept.
        collect: glob patterns of files in that directory to attach.
        is_cancelled: whether the attempt of a claim is to be stopped.
        at_end: the end of the pilot's time, if that is why it goes.
    """

    def __init__(
        self,
        work: FunctionWork | OwnWork,
        scratch: Scratch,
        log_cap: int,
        collect: tuple[str, ...],
        *,
        is_cancelled: Callable[[str | None], bool],
        at_end: Callable[[], Ending | None],
    ) -> None:
        self._work = work
        self._scratch = scratch
        self._log_cap = log_cap
        self._collect = collect
        self._is_cancelled = is_cancelled
        self._at_end = at_end
        self._interruptible = Interruptible()
        self._current: tuple[Token, float] | None = None  # what runs, and since when
        self._cancelling: str | None = None  # the claim for which a signal of our own is under way

    def is_for(self, token: Token) -> bool:
        """Whether a token's work is done here, and not in a process of its own since files are staged for it."""
        return isinstance(self._work, OwnWork) or not self._work.is_staged(token)

    def run(self, token: Token) -> Result:
        """Do the work of a token, here and now."""
        self._current = token, time.time()
        try:
            if isinstance(self._work, OwnWork):
                return self._work.run(token, self._interruptible)
            result = call(
                self._work, Attempt(token, self._scratch), self._log_cap, self._collect, self._interruptible
            )
        finally:
            self._current = None
        end = self._at_end()
        if result.outcome.failure is Failure.RELEASED and end is not None:
            result = stopped_at_end(result, end.why(), checkpoint=False)
        if result.outcome.failure is Failure.RELEASED and self._is_cancelled(token.claim_id):
            result = cancelled(result)
        return with_old_checkpoint(result)

    def told(self) -> list[dict[str, Any]]:
        """What runs, for others; from any thread."""
        current = self._current
        if current is None:
            return []
        token, since = current
        return [{"id": token.id, "claim": token.claim_id, "since": round(since)}]

    def heed(self, handler: Callable[..., object]) -> None:
        """Have the function stopped if its token was cancelled; from another thread.

        Args:
            handler: the pilot's, for signals; only where it is in place can the main thread be reached.
        """
        current = self._current
        if current is not None and isinstance(self._work, FunctionWork):
            claim = current[0].claim_id
            if self._is_cancelled(claim) and signal.getsignal(signal.SIGINT) == handler:
                self._cancelling = claim
                os.kill(os.getpid(), signal.SIGINT)

    def was_cancelled(self) -> bool:
        """Whether a signal that has come is our own (see `heed`): then it stops that one function, no more."""
        if self._cancelling is None:
            return False
        claim, self._cancelling = self._cancelling, None
        if self._current is not None and self._current[0].claim_id == claim:
            self.interrupt()
        return True

    def interrupt(self) -> None:
        """Stop what runs; for signal handlers."""
        self._interruptible.interrupt()
