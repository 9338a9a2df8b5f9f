"""What a store is: the protocol that every pool back-end keeps, and what it guarantees.

A store keeps documents and knows nothing of what they mean: it is handed pure functions and new versions
of tokens (see `picas.tokens`) and makes them durable, one compare-and-set at a time. The tests that
every store passes are published in `picas.testing`.

Guarantees:

- **Claims are exclusive.** Of any number of processes that claim at the same time, a token goes to one.
- **Writes are compare-and-set.** `replace` and `delete` act only on the version that was read
  (``token.rev``); on any other they leave the store as it is and say so.
- **A write is whole.** A document, its new attachments and its renamed attachments become visible
  together or not at all, and what was answered as written survives the death of the process and,
  for finished work, of the machine.
- **Nothing is cut.** A document is kept byte for byte as JSON or refused with `TokenTooLarge`.
- **Age** is order of arrival where the store knows it, else the number at the end of the id, which is the same
  for tokens that were pushed.
- **Threads.** One store object may be used by several threads of one process. After a fork the child
  opens its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Protocol

if TYPE_CHECKING:
    import threading
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from picas.payload import Payload
    from picas.selection import Selection
    from picas.tokens import State, Token


@dataclass(frozen=True)
class Change:
    """One write: the new version of a token, which replaces the version named by ``token.rev``.

    Attributes:
        attach: files to attach; a name that is there already is replaced.
        rename: old name → new name of attachments that are there, done before ``attach``; a name that is
            not there is passed over.
        remove: names of attachments that are to go, unless ``attach`` has new ones of that name.
    """

    token: Token
    attach: tuple[Payload, ...] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    remove: tuple[str, ...] = ()


@dataclass(frozen=True)
class Progress:
    """What happened lately, for rates: ``finished`` tokens in the ``seconds`` before ``now``.

    Attributes:
        seconds: how far back was looked: no further than asked for, and no further than to the first token
            that finished in that time, so that a pool that has just begun shows the rate it has.
        wall: the mean wall time in seconds of those that tell it; None if none does.
    """

    now: float
    seconds: float
    finished: int
    wall: float | None


@dataclass(frozen=True)
class Tally:
    """Tokens of a pool that are alike in some of their fields.

    Attributes:
        state: todo, if they may be claimed now, or locked.
        values: of the fields, in the order in which they were asked for; None for one that is not there.
        count: how many there are.
    """

    state: State
    values: tuple[Any, ...]
    count: int


@dataclass(frozen=True)
class Held:
    """What one process at a time may have.

    Attributes:
        mine: whether it is the caller who has it now.
        who: whoever has it, as they said; empty if nobody has.
        fields: what the last one who had it left.
    """

    mine: bool
    who: Mapping[str, Any]
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class PilotRecord:
    """What a pilot has said of itself.

    Attributes:
        id: the pilot's id.
        fields: what it said, as JSON.
        silent: how many seconds ago it was, by the store's own clock; infinite where that cannot have been in
            this life of the machine.
    """

    id: str
    fields: Mapping[str, Any]
    silent: float


class Fleet(Protocol):
    """The pilots that work on a pool, and what people order them.

    Records and orders are no tokens: nothing but `picas.pilot.heart` and the verbs that show them reads them. Every
    method may raise `PoolUnavailable` and `PoolRefused`.
    """

    steady: bool
    """The pool cannot have been out of reach: a pilot that is silent has not tried to speak."""

    def beat(self, pilot: str, fields: Mapping[str, Any]) -> None:
        """Say that a pilot lives, and what it does: one small write, which replaces the one before."""

    def pilots(self) -> list[PilotRecord]:
        """All records, by id."""

    def forget(self, pilot: str) -> None:
        """Remove a record, if it is there."""

    def take_turn(self, name: str, seconds: float) -> bool:
        """Whether it is the caller who is to do now what one of all is to do every so many seconds.

        Of several who ask at the same moment more than one may get a yes.
        """

    def hold(
        self, name: str, who: Mapping[str, Any], seconds: float, fields: Mapping[str, Any] | None = None
    ) -> Held:
        """Have what only one process at a time may have, or go on having it, for so many seconds from now.

        Of any number who ask at the same moment one gets it at the most.

        Args:
            who: the caller: ``id`` tells it from all others, ``process`` is what `picas.machine.this_process`
                says, by which others on its machine see that it is gone. The rest is for people.
            seconds: 0 to give it back.
            fields: what is to be kept with it, in place of what is; None for that.
        """

    def control(self) -> tuple[dict[str, Any], Any]:
        """What people have ordered, and which version of it that is; empty and None where nobody ever has."""

    def set_control(self, fields: Mapping[str, Any], version: Any) -> bool:
        """Write new orders in place of that version; False if there is another one by now."""


class Watch(Protocol):
    """How one pilot that has found nothing to claim waits for work; for one thread at a time.

    Waiting is to cost the store, and those who work, next to nothing, however many wait. It may be wrong both
    ways: there is no work after all, or there has been some for a few seconds.
    """

    @property
    def how(self) -> str:
        """How it waits at present, in a few words: ``looking every 1 s``."""

    def begin(self) -> None:
        """A claim has just found nothing: wait for more than there was."""

    def wait(self, ended: threading.Event) -> bool:
        """Wait for a second or two, less if ``ended`` is set; True if a claim may find something now.

        Raises:
            PoolUnavailable: try again later.
            PoolRefused: do not.
        """

    def close(self) -> None:
        """Work was found, or the pilot goes: give back what waiting holds. It may `begin` again."""


class Filling(Protocol):
    """Adding many tokens, to a store that others fill as well."""

    at_once: int
    """So many inserts at a time, from threads of their own, are faster than one after the other."""

    def known_push_keys(self, keys: Collection[str]) -> set[str]:
        """As of the store; what was added here may be left out."""

    def insert(
        self, tokens: Sequence[Token], files: Mapping[str, Sequence[Payload]] | None = None
    ) -> list[Token | None]:
        """As of the store."""


class Store(Protocol):
    """A place that keeps tokens. All times are Unix seconds by the store's own clock (`now`).

    Every method may raise `PoolUnavailable` (try again later) and `PoolRefused` (do not).
    """

    url: str
    """How to open the same store again, without secrets."""

    at_once: int
    """As of a `Filling`: 1."""

    @property
    def fleet(self) -> Fleet | None:
        """The pilots that work on this pool; None where nobody else can."""

    def now(self) -> float:
        """The time by the store's clock."""

    def insert(
        self, tokens: Sequence[Token], files: Mapping[str, Sequence[Payload]] | None = None
    ) -> list[Token | None]:
        """Add new tokens, all in one step; None for each whose id or push key is there already.

        Args:
            files: what is attached to a token from its beginning, by the token's id.

        Raises:
            TokenTooLarge: a document is over the limit; then none of them is added.
        """

    def known_push_keys(self, keys: Collection[str]) -> set[str]:
        """Those of the push keys that tokens in the store carry."""

    def filling(self, on_wait: Callable[[str], object] | None = None) -> AbstractContextManager[Filling]:
        """Add many tokens: where that is faster, one process at a time has the right to.

        Args:
            on_wait: called once, if another process is to be waited for, with what is known of it.
        """

    def reserve_numbers(self, prefix: str, count: int) -> int:
        """The first of ``count`` numbers that continue after the highest ``<prefix><number>`` there is.

        Two callers never get the same number.
        """

    def fetch(self, ids: Sequence[str]) -> list[Token | None]:
        """The tokens of these ids with their attachments' names, None for each that is not there."""

    def newest(self, token: Token) -> Token | None:
        """What became of a token that was claimed: the version that goes on from this claim, wherever it is.

        If there is none any more, the version that there is instead; None if the token is gone. Where a token
        can have conflicting versions, `fetch` tells of another one than this.
        """

    def claim(
        self, take: Callable[[Token], Token], limit: int, where: Selection | None, order: str
    ) -> list[Token]:
        """Claim up to ``limit`` todo tokens that fit and whose time has come: write ``take(token)`` of each, exclusively.

        ``order`` is one of `picas.settings.config.ORDERS`.

        An empty list means that at this moment nothing fits; a short one does not mean that nothing else does.

        Raises:
            TokenRefused: nothing else is left than tokens that the store does not let be claimed; said once.
        """

    def next_due(self, where: Selection | None = None) -> float | None:
        """When the first of the fitting todo tokens may be claimed that wait for their next try; None if none waits.

        Such a token has a time, `picas.tokens.Token.not_before`, before which no claim takes it. It may be over:
        then a claim that has just found nothing has not looked at it yet, and one made a second later does.
        """

    def through(self, view: str) -> Store:
        """The same store, whose claims take only tokens that this view of the database lists.

        Raises:
            InvalidInput: there is no such view, or the store has none at all.
        """

    def watch(self) -> Watch:
        """A way for one pilot to wait for free tokens."""

    def replace(self, changes: Sequence[Change]) -> list[Token | None]:
        """Write new versions; None for each token that changed or went away since it was read.

        Raises:
            TokenTooLarge: a document is over the limit; then none of them is written.
            TokenRefused: the store does not take some of them; the others are written, see its ``answers``.
        """

    def delete(self, tokens: Sequence[Token]) -> list[bool]:
        """Remove tokens with their attachments; False for each that changed or went away since.

        Raises:
            TokenRefused: the store does not let some go; the others are removed, see its ``answers``.
        """

    def scan(
        self, states: Collection[State] | None = None, where: Selection | None = None
    ) -> Iterator[Token]:
        """All tokens in these states (None: any, or in no state) that fit, oldest first.

        Memory is constant. A token that is added, changed or removed while the scan runs may or may not
        be seen; any other is seen once.
        """

    def counts(self, where: Selection | None = None) -> dict[State | None, int]:
        """How many tokens are in each state; under None those that are in none."""

    def tally(self, fields: Sequence[Sequence[str]]) -> list[Tally]:
        """How many tokens may be claimed now, and how many are locked, by what is in these fields.

        In a large pool the first answer takes long, and makes an index: whoever asks for the same fields again gets
        the answer at once. Where no index may be written, every answer takes long.

        Args:
            fields: each as a path, such as ``("cores",)`` or ``("input", "q")``; ``("_id",)`` is the token's id.
        """

    def latest(self, limit: int) -> list[Token]:
        """So many of the tokens that ended last, as far as the store knows which these are; newest first."""

    def progress(self, seconds: float) -> Progress:
        """What was finished in the last ``seconds`` at most."""

    def other_documents(self) -> int:
        """How many documents other programs keep here that are no tokens."""

    def read_attachment(self, token_id: str, name: str) -> Iterator[bytes]:
        """An attachment's bytes, piece by piece.

        Raises:
            TokenNotFound: there is no such token, or it has no such attachment.
        """

    def close(self) -> None:
        """Give back connections. The store may be used again; it then opens new ones."""
