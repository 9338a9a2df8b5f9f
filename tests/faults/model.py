"""What a token ought to be after anything that happened to it: a small model, to compare a real pool with."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from picas.budgets import Budgets
from picas.finishing import Verdict
from picas.tokens import Failure, State

if TYPE_CHECKING:
    from picas.tokens import Token

RETRY_CODE = 75

BUDGETS = Budgets(
    scrub=2,
    lost=2,
    infrastructure=1,
    preempted=2,
    again=1,
    retry_on=(RETRY_CODE,),
    pause=(4.0, 20.0),
    spread=1.0,
)

COUNTED: dict[str, tuple[str, int]] = {
    "application": ("", 2),
    "timeout": ("", 2),
    "signal": ("", 2),
    "memory": ("", 2),
    "lost": ("lost", 2),
    "infrastructure": ("infrastructure", 1),
    "preempted": ("preempted", 2),
    "again": ("again", 1),
}
"""How an attempt failed → what it is charged to, "" for ``scrub_count``, and how often that may be."""

UNSEEN_LIMIT = 20


@dataclass
class Attempt:
    """One claim, and what became of it.

    Attributes:
        kind: how it ended: "ok", a name of `COUNTED`, or of a failure that is charged to nothing; "given up" if a person
            reset the token before it had; "" while it runs.
        log: what its log says, where it has one.
    """

    claim: str
    number: int
    pilot: str
    claimed: float
    kind: str = ""
    superseded: bool = False
    log: bytes | None = None

    @property
    def failure(self) -> str | None:
        """What the token says of it."""
        name = {"again": "application", "final": "application", "given up": "released"}.get(
            self.kind, self.kind
        )
        return None if name in {"ok", ""} else name

    @property
    def has_ended(self) -> bool:
        """Whether its result has come in."""
        return self.kind not in {"", "given up"} and (self.kind != "lost" or self.superseded)


@dataclass
class Model:
    """A token, as it ought to be."""

    state: State = State.TODO
    run: Attempt | None = None
    history: list[Attempt] = field(default_factory=list)
    attempts: int = 0
    scrubbed: int = 0
    scrub_base: int = 0
    spent: dict[str, int] = field(default_factory=dict)
    not_before: float = 0.0
    checkpoint: bytes | None = None
    result: bytes | None = None
    note: int = 0

    def is_due(self, now: float) -> bool:
        """Whether a claim may take it."""
        return self.state is State.TODO and self.not_before <= now

    def claimed(self, attempt: Attempt) -> None:
        """It was handed out."""
        assert self.state is State.TODO
        self.attempts += 1
        assert attempt.number == self.attempts
        self.state, self.run, self.not_before = State.LOCKED, attempt, 0.0

    def finished(
        self, attempt: Attempt, kind: str, log: bytes | None, checkpoint: bytes | None, now: float
    ) -> Verdict:
        """A result came in, at its time or late; what has to be answered."""
        if self.state is not State.LOCKED or self.run is None or self.run.claim != attempt.claim:
            last = self.run or (self.history or [None])[-1]
            known = [each for each in (self.run, *self.history) if each and each.claim == attempt.claim]
            if kind == "lost":
                return Verdict.SUPERSEDED
            if not (
                self.state in (State.TODO, State.ERROR)
                and last is not None
                and (last.claim, last.kind, last.superseded) == (attempt.claim, "lost", False)
            ):
                if any(each.has_ended for each in known):
                    return self.verdict
                late = Attempt(attempt.claim, attempt.number, attempt.pilot, attempt.claimed, kind, True, log)
                self.history.append(late)
                return Verdict.SUPERSEDED
            if self.run is None:
                self.history.pop()
            self.run = attempt  # nobody has taken it since: as if it had never been believed lost
        self._end(attempt, kind, log, checkpoint, now)
        return self.verdict

    def _end(
        self, attempt: Attempt, kind: str, log: bytes | None, checkpoint: bytes | None, now: float
    ) -> None:
        ended = Attempt(attempt.claim, attempt.number, attempt.pilot, attempt.claimed, kind, log=log)
        self.run, self.not_before = ended, 0.0
        if checkpoint is not None:
            self.checkpoint = checkpoint
        if kind == "ok":
            self.state, self.checkpoint, self.result = State.DONE, None, attempt.claim.encode()
            return
        charged, limit = COUNTED.get(kind, ("", -1))
        used = self.spent.get(charged, 0) if charged else self.scrubbed - self.scrub_base
        if kind == "released" or used < limit:
            self.state = State.TODO
            self._archive()
        else:
            self.state = State.ERROR
        if kind != "released" and used < limit:
            if charged:
                self.spent[charged] = used + 1
            else:
                self.scrubbed += 1
            self.not_before = 0.0 if kind == "preempted" else now + min(20.0, 4.0 * 2**used)

    def given_back(self, *, unseen: bool = False) -> None:
        """Its work had not begun."""
        self.state, self.run = State.TODO, None
        self.attempts -= 1
        if unseen:
            self.spent["unseen"] = self.spent.get("unseen", 0) + 1

    def reset(self) -> None:
        """A person made it free."""
        waits = self.not_before or self.checkpoint is not None
        if self.state is State.TODO and not waits:
            return
        self.not_before, self.spent, self.checkpoint = 0.0, {}, None
        if self.state is not State.TODO:
            if self.state is State.LOCKED and self.run is not None:
                self.run = replace(self.run, kind="given up")
            self.state = State.TODO
            self.scrubbed += 1
            self.scrub_base = self.scrubbed
            self._archive()

    def _archive(self) -> None:
        if self.run is not None:
            self.history.append(self.run)
        self.run = None

    @property
    def verdict(self) -> Verdict:
        """What is answered to a result that was taken."""
        return {State.DONE: Verdict.DONE, State.ERROR: Verdict.ERROR}.get(self.state, Verdict.RETRY)

    def differences(self, token: Token, now: float) -> list[str]:
        """Where the real one is otherwise."""

        def ahead(due: float) -> float:
            # One that is over says nothing; in CouchDB a claim clears it now and then, by the machine's own clock.
            return round(due, 3) if due > now else 0.0

        found: list[tuple[str, Any, Any]] = [
            ("state", self.state, token.state),
            ("attempt", self.attempts, token.attempt),
            ("scrub_count", self.scrubbed, token.scrub_count),
            ("spent", self.spent, token.picas.get("spent", {})),
            ("not_before", ahead(self.not_before), ahead(token.not_before)),
            ("note", self.note, token.get("note", 0)),
            ("checkpoint", self.checkpoint is not None, bool(token.checkpoint)),
            ("run", _said(self.run), _told(token.run)),
            ("history", [_said(each) for each in self.history], [_told(each) for each in token.history]),
            ("mark", self.run is not None and self.state is State.ERROR and _is_pilots(self.run.failure),
             token.state is State.ERROR and token["done"] == 99),
        ]  # fmt: skip
        return [f"{name}: {ours} was to be, {real} is" for name, ours, real in found if ours != real]


def _is_pilots(failure: str | None) -> bool:
    return failure in {"infrastructure", "lost", "preempted", "untrusted"}


def _said(attempt: Attempt | None) -> tuple[Any, ...]:
    if attempt is None:
        return (None, None, None, False, False)
    return (attempt.claim, attempt.number, attempt.failure, attempt.superseded, attempt.log is not None)


def _told(entry: dict[str, Any]) -> tuple[Any, ...]:
    return (
        entry.get("claim"),
        entry.get("attempt"),
        entry.get("failure"),
        bool(entry.get("superseded")),
        bool(entry.get("logs")),
    )


def failure_of(kind: str) -> tuple[int, Failure | None, bool]:
    """The exit code, the class and the finality with which a pilot reports an end."""
    if kind == "ok":
        return 0, None, False
    if kind in {"again", "final"}:
        return (RETRY_CODE if kind == "again" else 3), Failure.APPLICATION, kind == "final"
    return {"timeout": 124, "infrastructure": 127, "released": 0}.get(kind, 1), Failure(kind), False
