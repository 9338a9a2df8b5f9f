"""Writing back how attempts ended, whatever has become of their tokens in between."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from picas import tokens, transitions
from picas.errors import TokenRefused, TokenTooLarge
from picas.moving import fitting
from picas.payload import Payload
from picas.stores.base import Change
from picas.tokens import Edits, Failure, Outcome, State, Token

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from picas.budgets import Budgets
    from picas.stores.base import Store

SMALL_OUTPUT_BYTES = 1000
"""An output of fewer bytes stays in the document, however large that is."""


class Verdict(str, Enum):
    """What became of a finished attempt."""

    DONE = "done"  # the token is done
    ERROR = "error"  # the token is in error
    RETRY = "retry"  # the attempt failed or was given up, and the token is todo again
    SUPERSEDED = "superseded"  # the claim had been lost; the result is kept beside the newer attempt's
    GONE = "gone"  # the token was deleted meanwhile; there is nothing to write to


@dataclass(frozen=True)
class Result:
    """An attempt that ended: the token as it was claimed, how it went, and what is to be attached.

    Attributes:
        logs: the attempt's logs; they never replace those of another attempt.
        files: what the work made; it replaces files of the same name from earlier attempts.
        directory: where those files are until the result is in the pool; "" if nowhere.
        edits: what the work itself made of the token's fields, where it does; these, and not the outcome, then say
            in which state the token is.
    """

    token: Token
    outcome: Outcome
    logs: tuple[Payload, ...] = ()
    files: tuple[Payload, ...] = ()
    directory: str = ""
    edits: Edits | None = None


class Finisher:
    """Ends attempts in one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._log_cap: int | None = None  # what the store turned out to take of a log

    def finish(self, results: Sequence[Result], budgets: Budgets) -> list[Verdict]:
        """Write back how attempts ended; see `picas.pool.Pool.finish_many`."""
        if self._log_cap is not None:
            results = [_with_logs_of(result, self._log_cap) for result in results]
        now = self._store.now()
        try:
            answers = self._store.replace([_ending(result, budgets, now) for result in results])
        except TokenTooLarge as error:
            if len(results) == 1:
                return [self._finish_smaller(results[0], budgets, error)]
            return [self.finish([result], budgets)[0] for result in results]
        except TokenRefused as error:
            if len(results) == 1:
                raise
            return [
                _verdict(answer) if answer is not None else self.finish([result], budgets)[0]
                for answer, result in zip(error.answers, results)
            ]
        return [
            _verdict(answer) if answer is not None else self._finish_changed(result, budgets)
            for answer, result in zip(answers, results)
        ]

    def _finish_smaller(self, result: Result, budgets: Budgets, error: TokenTooLarge) -> Verdict:
        """Write back a result that is too large as it is.

        Raises:
            TokenTooLarge: it is not its output or its logs that are too large.
        """
        for cap, smaller in _smaller(result, error):
            try:
                answer = self._store.replace([_ending(smaller, budgets, self._store.now())])[0]
            except TokenTooLarge as again:
                error = again
                continue
            if cap is not None and not result.files:
                self._log_cap = cap
            return _verdict(answer) if answer is not None else self._finish_changed(smaller, budgets)
        raise error

    def _finish_changed(self, result: Result, budgets: Budgets) -> Verdict:
        """Finish a token that is no longer the version that was claimed."""
        outcome = result.outcome
        while True:
            current = self._store.newest(result.token)
            if current is None:
                return Verdict.GONE
            held = transitions.held_by(current, result.token.claim_id)
            if held is None and outcome.failure is not Failure.LOST:
                held = transitions.revived(current, result.token)
            if held is None and result.edits is not None and _is_ours(current, result):
                held = current
            if held is not None:
                change = _ending(replace(result, token=held), budgets, self._store.now())
                answer = self._store.replace([change])[0]
                if answer is not None:
                    return _verdict(answer)
                continue
            if outcome.failure is Failure.LOST:
                return Verdict.SUPERSEDED  # whoever changed the token knows more of it
            if _has_ended_attempt(current, result):
                return _verdict(current)  # an earlier try of ours did arrive, and only its answer was lost
            if self._store.replace([_superseded(current, result)])[0] is not None:
                return Verdict.SUPERSEDED

    def release(self, claimed: Sequence[Token]) -> int:
        """Give back claimed tokens whose work never began; how many went back to todo."""
        now = self._store.now()
        changes = [Change(transitions.release(token, now)) for token in claimed]
        try:
            answers = self._store.replace(changes) if changes else []
        except TokenRefused as error:
            if len(changes) == 1:
                raise
            answers = list(error.answers)
        return sum(
            answer is not None or self._release_changed(token, now) for token, answer in zip(claimed, answers)
        )

    def _release_changed(self, token: Token, now: float) -> bool:
        """Give back a token that somebody edited since it was claimed, if it is still ours to give back."""
        while True:
            current = self._store.newest(token)
            held = transitions.held_by(current, token.claim_id) if current is not None else None
            if held is None:
                return False
            if self._store.replace([Change(transitions.release(held, now))])[0] is not None:
                return True


def _ending(result: Result, budgets: Budgets, now: float) -> Change:
    """The write that ends an attempt: done, error, todo for another try, or todo because its pilot had to go."""
    names = [log.name for log in result.logs]
    # The plain names are the newest attempt's, also when it has no such log.
    renamed = transitions.displaced_logs(result.token, {*names, *tokens.log_names(result.token.id)})
    token = transitions.rename_logs(result.token, renamed)
    outcome = result.outcome
    detached: tuple[str, ...] = ()
    if result.edits is not None:
        ended = transitions.edited(token, outcome, result.edits, names)
        detached = result.edits.detached
    else:
        ended = budgets.after(token, outcome, names, now)
        if outcome.failure is None:  # what the work has left of it is attached anew
            detached = token.checkpoint
    return Change(ended, result.logs + result.files, renamed, detached)


def _superseded(current: Token, result: Result) -> Change:
    """The write that keeps a late result beside the attempt that replaced it, under names of its own."""
    label = f"superseded-{(result.token.claim_id or 'unknown')[:8]}"
    logs = tuple(replace(log, name=tokens.log_name_of_attempt(log.name, label)) for log in result.logs)
    files = tuple(replace(file, name=tokens.log_name_of_attempt(file.name, label)) for file in result.files)
    names = [log.name for log in logs]
    late = transitions.supersede(current, result.token, result.outcome, names, result.edits)
    return Change(late, logs + files)


def _is_ours(current: Token, result: Result) -> bool:
    """Whether the newest claim is this attempt's, which is not over: the work itself has saved the token as ended."""
    return current.claim_id == result.token.claim_id is not None and "started" not in current.run


def _has_ended_attempt(current: Token, result: Result) -> bool:
    """Whether the token already holds the end of exactly this attempt."""
    return any(
        entry.get("claim") == result.token.claim_id and "started" in entry and not transitions.is_lost(entry)
        for entry in (current.run, *current.history)
    )


def _verdict(token: Token) -> Verdict:
    return {State.DONE: Verdict.DONE, State.ERROR: Verdict.ERROR}.get(
        token.state or State.TODO, Verdict.RETRY
    )


def _smaller(result: Result, error: TokenTooLarge) -> Iterator[tuple[int | None, Result]]:
    """Ever smaller versions of a result: without its output in the document, then with ever shorter logs.

    Each comes with the length that the logs were cut to, None where they were not.
    """
    data = tokens.encode_json(dict(result.outcome.output or {})).encode()
    if len(data) >= SMALL_OUTPUT_BYTES:
        result = _without_output(result, data)
        yield None, result
    if error.attachment in {file.name for file in result.files}:
        return
    only_logs = not result.files or error.attachment in {log.name for log in result.logs}
    for cap in fitting.shorter(result.logs, fitting.LEAST_LOG if only_logs else fitting.SHORT_LOG):
        yield cap, _with_logs_of(result, cap)


def _with_logs_of(result: Result, cap: int) -> Result:
    """The result with logs of about so many bytes at the most, and a note on those that had more."""
    logs, notes = fitting.cut(result.logs, cap)
    if not notes:
        return result
    return replace(result, logs=logs, outcome=replace(result.outcome, notes=(*result.outcome.notes, *notes)))


def _without_output(result: Result, data: bytes) -> Result:
    """The result with its oversized output as an attachment in place of a field."""
    note = f"the output has {len(data):,} bytes and is attached as output.json"
    outcome = replace(result.outcome, output={"picas_note": note})
    return replace(
        result, outcome=outcome, files=(*result.files, Payload("output.json", "application/json", (data,)))
    )
