"""The pool: what can be done with tokens, on whatever store keeps them.

A `Pool` joins the pure transitions of `picas.transitions` with the compare-and-set writes of a store.
"""

from __future__ import annotations

import os
import socket
from itertools import islice
from typing import TYPE_CHECKING, Any, Callable

from picas import intake, tokens, transitions
from picas.budgets import Budgets
from picas.errors import InvalidInput, PicasError, TokenNotFound, TokenRefused, TokenTooLarge
from picas.finishing import Finisher, Result, Verdict
from picas.settings import config
from picas.stores import PATIENCE_SECONDS, open_store
from picas.stores.base import Change
from picas.tokens import Claimer, Outcome, State, Token

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from types import TracebackType

    from picas.intake import Item, PushResult, Sign
    from picas.moving.copying import Copied
    from picas.payload import Payload
    from picas.selection import Selection
    from picas.stores.base import Progress, Store

BATCH = 200
"""Tokens changed in one step by reset and delete."""

MAX_TIME = 1e12
"""Unix seconds beyond which a lock is no time."""


class Pool:
    """A pool of tokens.

    Args:
        store: where the tokens are; `open_pool` opens it by URL.

    All methods may raise `PoolUnavailable` (worth trying again) and `PoolRefused` (not).

    Example:
        >>> pool = open_pool("sqlite:///demo.db")                   # doctest: +SKIP
        >>> pool.push(["echo one", {"input": "echo two", "cores": 2}]).pushed    # doctest: +SKIP
        2
        >>> token = pool.claim()                                    # doctest: +SKIP
        >>> token.input, token.state                                # doctest: +SKIP
        ('echo one', <State.LOCKED: 'locked'>)
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._finisher = Finisher(store)

    @property
    def url(self) -> str:
        """How to open this pool again, without secrets."""
        return self.store.url

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def through(self, view: str) -> Pool:
        """The same pool, of which only tokens are claimed that a view of the CouchDB database lists.

        Args:
            view: design document and view, such as ``SingleCore/todo``; whoever wrote it, whatever its keys are.

        Raises:
            InvalidInput: there is no such view, or the pool is not in CouchDB: use ``where`` there.
        """
        return Pool(self.store.through(view))

    def close(self) -> None:
        """Give back connections; the pool opens new ones when it is used again."""
        self.store.close()

    # --- Filling ---

    def push(
        self,
        items: Iterable[Item],
        *,
        prefix: str = intake.DEFAULT_PREFIX,
        again: bool = False,
        on_progress: Callable[[int], object] | None = None,
        on_wait: Callable[[str], object] | None = None,
        sign: Sign | None = None,
    ) -> PushResult:
        """Add a token for each item that is not in the pool yet.

        Args:
            items: strings (they become ``input``) or mappings of fields; ``_id`` in a mapping is the
                token's id, others are numbered after the highest number there is. What can be iterated
                twice (a list, a `picas.tokenfile.TokenFile`) is looked through first, and refused whole
                for one bad item; of an iterator, what came before a bad item stays.
            prefix: what the ids of numbered tokens start with.
            again: add all items, also those that were pushed before.
            on_progress: called now and then with the number of items dealt with so far.
            on_wait: called once, with what is known of it, if another large push to the pool is waited for.
            sign: gives the signature of a token by its id and fields: a `picas.trust.signing.Signer`.

        Raises:
            InvalidInput: an item cannot become a token.
            TokenExists: an id that an item asks for belongs to a token with other content.
            TokenTooLarge: a token's document is over what the store keeps.
        """
        return intake.push(
            self.store,
            items,
            prefix=prefix,
            again=again,
            on_progress=on_progress,
            on_wait=on_wait,
            sign=sign,
        )

    # --- Looking ---

    def get(self, token_id: str) -> Token:
        """The token of this id.

        Raises:
            TokenNotFound: there is none.
        """
        token = self.store.fetch([token_id])[0]
        if token is None:
            raise TokenNotFound(
                f"there is no token {token_id} in {self.url}", "picas list shows those there are."
            )
        return token

    def tokens(
        self,
        state: State | str | Collection[State | str] | None = None,
        where: Selection | None = None,
        *,
        ids: Sequence[str] | None = None,
        older_than: float | None = None,
    ) -> Iterator[Token]:
        """The tokens that fit, oldest first, in constant memory.

        Args:
            state: one state or several; None for all.
            ids: only these; one that is not there is passed over.
            older_than: only tokens that were claimed or finished more than so many seconds ago.
        """
        states = _states(state)
        if ids is None:
            found = self.store.scan(states, where)
        else:
            fetched = (self.store.fetch([token_id])[0] for token_id in ids)
            found = (
                token
                for token in fetched
                if token is not None
                and (states is None or token.state in states)
                and (where is None or where.matches(token.id, token.body))
            )
        if older_than is None:
            return found
        limit = self.store.now() - older_than
        return (token for token in found if (touched := _touched(token)) is not None and touched < limit)

    def counts(self, where: Selection | None = None) -> dict[State | None, int]:
        """How many tokens are in each state; under None those whose document fits no state."""
        return self.store.counts(where)

    def progress(self, seconds: float = 600.0) -> Progress:
        """What was finished in the last so many seconds."""
        return self.store.progress(seconds)

    def read_attachment(self, token_id: str, name: str) -> Iterator[bytes]:
        """An attachment's bytes in pieces.

        Raises:
            TokenNotFound: there is no such token or attachment.
        """
        return self.store.read_attachment(token_id, name)

    def copy_to(
        self,
        target: Pool,
        state: State | str | Collection[State | str] | None = None,
        where: Selection | None = None,
        *,
        locked: str = "refuse",
        verify: bool = False,
        on_progress: Callable[[Copied], object] = lambda _: None,
    ) -> Copied:
        """Copy tokens with their files and all that is known of them; what is in the target already stays as it is.

        A copy that was cut is completed by copying again. See `picas.moving.copying` for what is checked.

        Args:
            state: only those in one state or several; None for all.
            where: only those that fit.
            locked: one of `picas.moving.copying.LOCKED_CHOICES`.
            verify: read all files back from the target too.
            on_progress: called now and then with what was done so far.

        Raises:
            PoolRefused: a token is locked, and it was not said what to do with such.
        """
        from picas.moving import copying  # noqa: PLC0415 - start-up: pilots do not copy

        states = _states(state)
        return copying.copy(
            self.store,
            target.store,
            states=states,
            where=where,
            locked=locked,
            verify=verify,
            on_progress=on_progress,
        )

    # --- Working ---

    def claim(
        self, claimer: Claimer | None = None, *, where: Selection | None = None, order: str = "priority"
    ) -> Token | None:
        """One todo token, now this claimer's; None when there is none."""
        claimed = self.claim_many(1, claimer, where=where, order=order)
        return claimed[0] if claimed else None

    def claim_many(
        self,
        limit: int,
        claimer: Claimer | None = None,
        *,
        where: Selection | None = None,
        order: str = "priority",
    ) -> list[Token]:
        """Up to ``limit`` todo tokens, now this claimer's; none when nothing fits.

        Fewer than ``limit`` may be only what was near at hand.

        Args:
            claimer: who claims; this process if not given.
            order: one of `picas.settings.config.ORDERS`.
        """
        who = claimer or this_process()
        now = self.store.now()
        return self.store.claim(lambda token: transitions.claim(token, who, now), limit, where, order)

    def finish(
        self,
        token: Token,
        outcome: Outcome,
        *,
        logs: Sequence[Payload] = (),
        files: Sequence[Payload] = (),
        max_scrub: int = 0,
        budgets: Budgets | None = None,
    ) -> Verdict:
        """Write back how the attempt on a claimed token ended; see `finish_many`."""
        result = Result(token, outcome, tuple(logs), tuple(files))
        return self.finish_many([result], max_scrub, budgets=budgets)[0]

    def finish_many(
        self, results: Sequence[Result], max_scrub: int = 0, *, budgets: Budgets | None = None
    ) -> list[Verdict]:
        """Write back how attempts ended, in one step where nothing interferes.

        A token that changed since it was claimed is read again: if the claim still holds, the result is
        written over the new version; if the claim was lost, the result is kept beside the newer
        attempt's as superseded. Of logs that are larger than the pool takes, head and tail are kept, with a
        note in the token.

        Args:
            max_scrub: how often a token is handed out again, at once, after the application failed.
            budgets: how often it is after failures of any class, and after which pause; in place of the former.

        Raises:
            InvalidInput, TokenRefused, TokenTooLarge: the pool does not take one of the results, whatever is
                done about its logs. The others may be there or not; finishing them again does no harm.
        """
        return self._finisher.finish(results, budgets or Budgets.of_scrub(max_scrub))

    def release(self, claimed: Sequence[Token]) -> int:
        """Give back claimed tokens whose work never began; how many went back to todo."""
        return self._finisher.release(claimed)

    # --- Mending ---

    def reset(self, chosen: Iterable[Token]) -> int:
        """Make tokens todo again with fresh budgets, logs and history kept; how many were reset.

        Of those that are todo only such are changed that wait for their next try or have a checkpoint. A token that
        changed since it was read is left alone.

        Raises:
            TokenRefused: the pool does not let some be changed; the others were.
        """
        now = self.store.now()

        def write(batch: Sequence[Token]) -> list[bool]:
            answers = self.store.replace([Change(transitions.reset(token, now)) for token in batch])
            return [answer is not None for answer in answers]

        return _change_all(write, (token for token in chosen if transitions.is_worth_a_reset(token)), "reset")

    def sign(self, chosen: Iterable[Token], sign: Sign) -> int:
        """Sign tokens as they are; how many were. One that a pilot holds, or that changed since it was read, is not.

        Args:
            sign: gives the signature of a token by its id and fields: a `picas.trust.signing.Signer`.

        Raises:
            InvalidInput: the fields of one of them cannot be signed.
            TokenRefused: the pool does not let some be changed; the others were.
        """

        def write(batch: Sequence[Token]) -> list[bool]:
            changes = [
                Change(transitions.with_signature(token, sign(token.id, token.body))) for token in batch
            ]
            return [answer is not None for answer in self.store.replace(changes)]

        return _change_all(write, (token for token in chosen if token.state is not State.LOCKED), "signed")

    def delete(self, chosen: Iterable[Token]) -> int:
        """Remove tokens with their attachments; how many were removed.

        A token that changed since it was read is left alone.

        Raises:
            TokenRefused: the pool does not let some go; the others are gone.
        """
        return _change_all(self.store.delete, chosen, "removed")


def open_pool(
    url: str | None = None,
    *,
    username: str | None = None,
    password: str | None = None,
    auth: str | None = None,
    ca: str | None = None,
    insecure: bool | None = None,
    patience: float = PATIENCE_SECONDS,
) -> Pool:
    """Open the pool at a URL; an embedded one is made if it is not there.

    Args:
        url: ``sqlite:///relative/path.db``, ``sqlite:////absolute/path.db`` or
            ``http(s)://host:port/database``. If None, the pool that the ``picas`` command would take:
            ``PICAS_POOL``, the configuration file's, or ``sqlite:///picas.db``.
        username: who asks the server. This and what follows is, where it is None, what the ``picas`` command
            would take, from the environment, the configuration file, ``~/.netrc`` or the keyring.
        password: the user's password.
        auth: ``"basic"``, ``"session"`` or ``"jwt"``.
        ca: a file of certificate authorities to trust in place of the system's.
        insecure: whether any certificate of the server will do.
        patience: for how many seconds to go on asking a server that does not answer, before it is said so; of
            one that has never answered, whose address may be wrong, two at most.

    Raises:
        ConfigError: the URL names no kind of pool, or the rest cannot be used.
        PoolRefused, PoolUnavailable: it cannot be opened; the message says why and what to do.
    """
    given = {"username": username, "password": password, "auth": auth, "ca": ca, "insecure": insecure}
    settings = config.load(url, given=given)
    return Pool(open_store(settings.pool, settings.access, patience=patience))


def this_process() -> Claimer:
    """A claimer for programs that claim by themselves."""
    host = socket.gethostname()
    return Claimer(f"{host}-{os.getpid()}", host)


def _states(state: State | str | Collection[State | str] | None) -> set[State] | None:
    if state is None:
        return None
    if isinstance(state, str):  # a State is one too
        return {State.parse(state)}
    return {State.parse(name) for name in state}


def _touched(token: Token) -> float | None:
    """When the token was last claimed or finished; None if it never was."""
    finished = tokens.finished_at(token.body)
    if finished is not None:
        return finished
    lock = token.get("lock")
    # No time of ours is beyond this; an absurd number in a document would not even fit into a float.
    return float(lock) if isinstance(lock, (int, float)) and 0 < lock < MAX_TIME else None


def _change_all(write: Callable[[Sequence[Token]], list[bool]], chosen: Iterable[Token], done: str) -> int:
    """Change tokens in batches; how many were. One that is refused is no harm to the others.

    Raises:
        TokenRefused: at the end, if some were refused; its ``answers`` say how it went with each of those tried.
    """
    answers: list[Any] = []
    refused: list[PicasError] = []

    def change(batch: Sequence[Token]) -> None:
        try:
            answers.extend(write(batch))
        except (TokenRefused, TokenTooLarge, InvalidInput) as error:
            if isinstance(error, TokenRefused) and error.answers:
                answers.extend(bool(answer) for answer in error.answers)
                refused.append(error)
            elif len(batch) == 1:
                answers.append(False)
                refused.append(error)
            else:
                for token in batch:
                    change([token])

    for batch in _batches(chosen):
        change(batch)
    count = sum(bool(answer) for answer in answers)
    if refused:
        rest = f"; {count:,} others were {done}" if count else f"; none was {done}"
        raise TokenRefused(refused[0].message + rest, refused[0].advice, answers)
    return count


def _batches(chosen: Iterable[Token]) -> Iterator[list[Token]]:
    iterator = iter(chosen)
    while True:
        batch = list(islice(iterator, BATCH))
        if not batch:
            return
        yield batch
