"""The way of a result from its attempt to the courier: what the pilot itself has to add, and what it holds back."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Callable

from picas.pilot.ending import (
    ended_after_warning,
    not_its_fault,
    put_back,
    stopped_at_end,
    with_old_checkpoint,
)
from picas.tokens import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from picas.finishing import Result
    from picas.pilot.courier import Courier
    from picas.pilot.ending import Ending
    from picas.pilot.probe import QuickFailures
    from picas.work.runner import Runner


class Delivery:
    """Hands results over to the courier.

    Args:
        quick: keeps failures back until it is seen whether the machine is to blame; None where nobody looks.
        keep: the directory of a token that failed stays.
        has_checkpoints: work is warned before it is stopped, so what it leaves is a checkpoint.
        ending: the end of the pilot's time, if it has one.
        at_end: the same, but only if that is why the pilot goes.
        on_unfit: called with a reason when the machine is taken to be unfit.
    """

    def __init__(
        self,
        courier: Courier,
        quick: QuickFailures | None,
        *,
        keep: bool,
        has_checkpoints: bool,
        ending: Callable[[], Ending | None],
        at_end: Callable[[], Ending | None],
        on_unfit: Callable[[str], None],
    ) -> None:
        self._courier = courier
        self._quick = quick
        self._keep = keep
        self._has_checkpoints = has_checkpoints
        self._ending = ending
        self._at_end = at_end
        self._on_unfit = on_unfit

    def send(self, result: Result) -> None:
        """Hand over a result that is complete."""
        result = self._with_kept(result)
        if self._quick is None:
            self._hand_over((result,))
        else:
            self._send_unless_quick(self._quick, result)

    def send_result_of(self, runner: Runner) -> None:
        """Hand over what came of an attempt that is over."""
        if self._quick is None or runner.succeeded:
            # Gathered on the courier's thread: meanwhile the pilot's own fills the slot.
            self._courier.send(partial(self._result_of, runner))
            if self._quick is not None:
                self._hand_over(self._quick.succeeded())
        else:
            self._send_unless_quick(self._quick, self._result_of(runner))

    @property
    def next_tick(self) -> float | None:
        """When a failure has been held back for long enough, monotonic seconds."""
        return None if self._quick is None else self._quick.next_tick

    def tick(self) -> None:
        """Hand over what has been held back for long enough."""
        if self._quick is not None:
            self._hand_over(self._quick.overdue())

    def let_go(self) -> None:
        """Hand over all that is held back, as what it was or, on a machine that is unfit, as no fault of the tokens'."""
        if self._quick is not None:
            kept = self._quick.let_go()
            self._hand_over(map(not_its_fault, kept) if self._quick.why else kept)

    def _hand_over(self, results: Iterable[Result]) -> None:
        for result in results:
            self._courier.send(partial(_itself, result))

    def _send_unless_quick(self, quick: QuickFailures, result: Result) -> None:
        self._hand_over(quick.add(result))
        if quick.why:
            self._on_unfit(f"{quick.why}; they were given back")

    def _result_of(self, runner: Runner) -> Result:
        """Gather what an attempt that is over left behind; on the courier's thread."""
        result = runner.result()
        end, ending = self._at_end(), self._ending()
        if runner.given_up and end is not None:
            result = stopped_at_end(result, end.why(), checkpoint=self._has_checkpoints)
        elif runner.given_up:
            result = put_back(result, checkpoint=self._has_checkpoints)
        elif runner.warned and ending is not None:
            result = ended_after_warning(result, ending.why())
        return self._with_kept(with_old_checkpoint(result))

    def _with_kept(self, result: Result) -> Result:
        if self._keep and result.outcome.failure not in (None, Failure.RELEASED, Failure.PREEMPTED):
            return replace(result, outcome=replace(result.outcome, kept=result.directory))
        return result


def _itself(result: Result) -> Result:
    return result
