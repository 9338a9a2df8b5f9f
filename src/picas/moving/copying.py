"""Copying tokens from one pool to another: whole, with all their files, and never over what is there.

Each token goes in one write with its files, so that a pilot on the target never sees one without the other.
What is in the target stays as it is: an equal token is passed over, so that a copy that was cut is completed
by copying again; one that differs is left and told. Files are read piece by piece and measured on the way, and
whatever was written is read back and compared.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

from picas import transitions
from picas.errors import (
    InvalidInput,
    PicasError,
    PoolError,
    PoolRefused,
    TokenNotFound,
    TokenRefused,
    TokenTooLarge,
)
from picas.moving.likeness import Changed, alike, digest_of, read_file
from picas.payload import Payload, Stream
from picas.text import jsontext
from picas.tokens import State, Token

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from picas.moving.likeness import Source
    from picas.selection import Selection
    from picas.stores.base import Filling, Store
    from picas.tokens import AttachmentInfo

BATCH = 200
"""Tokens copied in one step."""

BATCH_BYTES = 8 << 20
"""A step also ends with so many bytes of documents and small files, which are in memory."""

SMALL_BYTES = 1 << 16
"""Files up to this size are in memory as a whole, larger ones piece by piece."""

READERS = 8
"""Small files read at the same time."""

MAX_EXAMPLES = 3

LOCKED_CHOICES = ("refuse", "free", "as-is")
"""What happens to tokens that are locked in the source: the copy is refused, they are todo, or as they are."""


class Left(str, Enum):
    """Why a token was not copied."""

    DIFFERS = "differs"  # the target has one of that id with other content: it moved on, here or there
    PUSHED = "pushed"  # the same line was pushed into the target, and is a token of another id there
    REFUSED = "refused"  # the target does not take it
    CHANGED = "changed"  # it changed in the source while it was copied
    DAMAGED = "damaged"  # a file of it has other bytes in the target


@dataclass
class Copied:
    """What a copy did, so far.

    Attributes:
        copied: tokens that were added to the target.
        there: tokens that were there already, equal.
        files: files that were added with them, of ``size`` bytes in all.
        left: how many tokens were left out, by why.
        examples: ids of the first few of those.
        refusals: what the target said of the first few that it refused.
        other_documents: documents in the source that are no tokens; they are not copied.
        moving: bytes so far of a large file that is on its way.
    """

    copied: int = 0
    there: int = 0
    files: int = 0
    size: int = 0
    left: dict[Left, int] = field(default_factory=dict)
    examples: dict[Left, list[str]] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)
    other_documents: int = 0
    moving: int = 0

    @property
    def seen(self) -> int:
        """Tokens that were looked at."""
        return self.copied + self.there + sum(self.left.values())

    def leave(self, token: Token, why: Left) -> None:
        """Note a token that is not copied."""
        self.left[why] = self.left.get(why, 0) + 1
        examples = self.examples.setdefault(why, [])
        if len(examples) < MAX_EXAMPLES:
            examples.append(token.id)


def copy(
    source: Store,
    target: Store,
    *,
    states: Collection[State | None] | None = None,
    where: Selection | None = None,
    locked: str = "refuse",
    verify: bool = False,
    on_progress: Callable[[Copied], object] = lambda _: None,
    on_wait: Callable[[str], object] | None = None,
) -> Copied:
    """Copy tokens; see `picas.pool.Pool.copy_to`."""
    if source.url == target.url:
        raise InvalidInput(f"{source.url} cannot be copied to itself", "Name two pools.")
    if locked not in LOCKED_CHOICES:
        raise InvalidInput(
            f"locked tokens cannot be copied '{locked}'", f"There is: {', '.join(LOCKED_CHOICES)}."
        )
    if locked == "refuse" and (states is None or State.LOCKED in states):
        for token in source.scan([State.LOCKED], where):
            raise _is_locked(source, token)
    result = Copied(other_documents=source.other_documents())
    with ThreadPoolExecutor(READERS, "picas-copy") as readers, target.filling(on_wait) as filling:
        copier = Copier(source, target, filling, result, readers, verify=verify, on_progress=on_progress)
        for batch in batches(chosen(source, states, where)):
            copier.copy([prepared(source, token, locked) for token in batch])
            on_progress(result)
    return result


def chosen(
    source: Store, states: Collection[State | None] | None, where: Selection | None
) -> Iterator[Token]:
    """The tokens in these states, all where that is None, that fit."""
    if states is None:
        return source.scan(None, where)
    # Documents in no state are found by looking at all.
    scanned = None if None in states else {state for state in states if state is not None}
    return (token for token in source.scan(scanned, where) if token.state in states)


def batches(found: Iterable[Token]) -> Iterator[list[Token]]:
    """The tokens in lists that are dealt with in one step; no token is asked for before its list is."""
    batch: list[Token] = []
    size = 0
    for token in found:
        batch.append(token)
        small = (info.length for info in token.attachments.values() if info.length <= SMALL_BYTES)
        size += len(jsontext.encode(token.body)) + sum(small)
        if len(batch) == BATCH or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def prepared(source: Source, token: Token, locked: str) -> Token:
    """The token as it is to be in the target."""
    if token.state is not State.LOCKED or locked == "as-is":
        return token
    if locked == "refuse":
        raise _is_locked(source, token)
    # As if when it was claimed, not now: the same copy again is to find the same.
    claimed = token.run.get("claimed")
    return transitions.reset(token, claimed if isinstance(claimed, (int, float)) else 0.0)


def _is_locked(source: Source, token: Token) -> PoolRefused:
    return PoolRefused(
        f"tokens of {source.url} are locked, such as {token.id}: a pilot at work on one knows nothing of a copy",
        "Let the pilots end, or free what dead ones have left with 'picas reset locked'. Or say what to do with "
        "them: --locked free makes them todo in the copy, --locked as-is copies them locked.",
    )


class Copier:
    """Copies batch after batch."""

    def __init__(
        self,
        source: Source,
        target: Store,
        filling: Filling,
        result: Copied,
        readers: ThreadPoolExecutor,
        *,
        verify: bool,
        on_progress: Callable[[Copied], object],
    ) -> None:
        self._source = source
        self._target = target
        self._filling = filling
        self._result = result
        self._readers = readers
        self._verify = verify
        self._on_progress = on_progress
        # In an empty pool nothing needs looking up; an id that comes meanwhile the store itself refuses.
        self._empty = not any(target.counts().values())

    def copy(self, batch: Sequence[Token]) -> None:
        """Copy these, as far as they are not there."""
        there = [None] * len(batch) if self._empty else self._target.fetch([token.id for token in batch])
        self._compare([(token, found) for token, found in zip(batch, there) if found is not None])
        new = [token for token, found in zip(batch, there) if found is None]
        # One whose files stream is written alone: should they change meanwhile, no other suffers.
        self._add([token for token in new if not streams(token)])
        for token in new:
            if streams(token):
                self._add([token])

    def _add(self, new: Sequence[Token]) -> None:
        new, files = self._with_files(self._unpushed(new))
        if not new:
            return
        fresh = [replace(token, rev=None) for token in new]
        try:
            added = self._filling.insert(fresh, files)
        except (Changed, TokenNotFound):
            self._result.leave(new[0], Left.CHANGED)
        except (InvalidInput, TokenTooLarge, TokenRefused) as error:
            self._refused(new, error)
        else:
            self._read_back(new, added)

    def _unpushed(self, new: Sequence[Token]) -> list[Token]:
        """Those that are not there under another id, pushed from the same line."""
        keys = [token.push_key for token in new if token.push_key is not None]
        known = self._filling.known_push_keys(keys) if keys else set()
        pushed = [token for token in new if token.push_key in known]
        self._read_back(pushed, [None] * len(pushed))
        return [token for token in new if token.push_key not in known]

    def _refused(self, new: Sequence[Token], error: PicasError) -> None:
        if len(new) == 1:
            self._result.leave(new[0], Left.REFUSED)
            if len(self._result.refusals) < MAX_EXAMPLES:
                self._result.refusals.append(error.message)
            return
        # Some may have been written all the same; of the others only one by one it is seen which are not taken.
        answers = (isinstance(error, TokenRefused) and error.answers) or [None] * len(new)
        written = [(token, answer) for token, answer in zip(new, answers) if answer is not None]
        self._read_back([token for token, _ in written], [answer for _, answer in written])
        for token, answer in zip(new, answers):
            if answer is None:
                self._add([token])

    # --- Files ---

    def _with_files(self, batch: Sequence[Token]) -> tuple[list[Token], dict[str, list[Payload]]]:
        """Those that have not changed since they were read, and what is to be attached to each."""
        small = [
            (token, info)
            for token in batch
            for info in token.attachments.values()
            if info.length <= SMALL_BYTES
        ]
        files: dict[str, list[Payload]] = {}
        for (token, info), data in zip(small, self._readers.map(self._read_small, small)):
            if data is not None:
                payload = Payload(info.name, info.content_type, (data,) if data else ())
                files.setdefault(token.id, []).append(payload)
        for token in batch:
            for info in token.attachments.values():
                if info.length > SMALL_BYTES:
                    files.setdefault(token.id, []).append(self._streamed(token, info))
        with_files = [token for token in batch if token.attachments]
        now = self._source.fetch([token.id for token in with_files])
        changed = {
            token.id
            for token, current in zip(with_files, now)
            if current is None
            or current.rev != token.rev
            or len(files.get(token.id, ())) < len(token.attachments)
        }
        for token in with_files:
            if token.id in changed:
                self._result.leave(token, Left.CHANGED)
        return [token for token in batch if token.id not in changed], files

    def _read_small(self, which: tuple[Token, AttachmentInfo]) -> bytes | None:
        try:
            return b"".join(read_file(self._source, *which))
        except (Changed, TokenNotFound):
            return None

    def _streamed(self, token: Token, info: AttachmentInfo) -> Payload:
        def read() -> Iterator[bytes]:
            self._result.moving = 0
            for piece in read_file(self._source, token, info):
                self._result.moving += len(piece)
                self._on_progress(self._result)
                yield piece
            self._result.moving = 0

        return Payload(info.name, info.content_type, (Stream(info.length, read),))

    # --- Comparing ---

    def _read_back(self, new: Sequence[Token], added: Sequence[Token | None]) -> None:
        """Look at what was written, and at what was in its place."""
        if not new:
            return
        now = self._target.fetch([token.id for token in new])
        good: list[Token] = []
        for token, mine, found in zip(new, added, now):
            if mine is None and found is None:
                self._result.leave(token, Left.PUSHED)
            elif mine is None:
                continue
            elif found is not None and found.rev == mine.rev and not alike(token, found):
                raise PoolError(
                    f"token {token.id} came back from {self._target.url} different from what was written",
                    "The copy is not to be trusted. Is there something between here and that server?",
                )
            else:  # a pilot there may have taken it by now
                good.append(token)
        self._compare([(token, found) for token, mine, found in zip(new, added, now) if not mine and found])
        damaged = self._damaged(good)
        for token in good:
            if token.id in damaged:
                self._result.leave(token, Left.DAMAGED)
                continue
            self._result.copied += 1
            self._result.files += len(token.attachments)
            self._result.size += sum(info.length for info in token.attachments.values())

    def _compare(self, pairs: Sequence[tuple[Token, Token]]) -> None:
        """Note what is there already, equal or not."""
        equal = [token for token, found in pairs if alike(token, found)]
        damaged = self._damaged(equal)
        self._result.there += len(equal) - len(damaged)
        for token, found in pairs:
            if token.id in damaged:
                self._result.leave(token, Left.DAMAGED)
            elif not alike(token, found):
                self._result.leave(token, Left.DIFFERS)

    def _damaged(self, batch: Sequence[Token]) -> set[str]:
        """Ids of those of which a file has other bytes in the target; none unless that is to be verified."""
        if not self._verify:
            return set()
        files = [(token.id, name) for token in batch for name in token.attachments]
        same = self._readers.map(self._same_bytes, files)
        return {token_id for (token_id, _), equal in zip(files, same) if not equal}

    def _same_bytes(self, which: tuple[str, str]) -> bool:
        return digest_of(self._source, *which) == digest_of(self._target, *which)


def streams(token: Token) -> bool:
    """Whether a file of it is too large to be in memory."""
    return any(info.length > SMALL_BYTES for info in token.attachments.values())
