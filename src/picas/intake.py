"""Pushing: how fields become tokens of a pool, numbered, each line once.

Every pushed token carries a *push key*: a digest of its content and how many equal ones came before it in
the same push. Pushing the same file again finds all its keys in the pool and adds nothing; a file that has
grown adds what is new, wherever it stands in the file; equal lines within one file have keys of their own
and are tokens of their own. Whatever cuts a push off, pushing again completes it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain, islice
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Union

from picas.errors import InvalidInput, PoolUnavailable, TokenExists, TokenTooLarge
from picas.text import jsontext
from picas.tokens import Token, check_id, fresh_body
from picas.transitions import with_signature

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence

    from picas.stores.base import Filling, Store

    Item = Union[str, Mapping[str, Any]]
    Sign = Callable[[str, Mapping[str, Any]], Mapping[str, str]]

BATCH = 2500
"""Tokens added in one step: some hundredths of a second of write lock, a few megabytes of memory."""

SURELY_SMALL = 1_000_000
"""A string of fewer characters fits into a token, however many bytes each becomes."""

OCCURRENCES_IN_MEMORY = 100_000
"""Distinct contents of one push that are counted in memory (about 15 MB); beyond, on disk."""

MAX_FIELDS_BYTES = 7_500_000
"""The largest token that is pushed, as JSON. Stores keep 8,000,000 bytes: the rest is for what it meets with."""

NUMBERING_TRIES = 5
"""How often new numbers are asked for when others take the ids first."""

DEFAULT_PREFIX = "token_"


@dataclass(frozen=True)
class PushResult:
    """What a push did: how many tokens were added and skipped, and the first and last id added."""

    pushed: int
    skipped: int
    first: str | None
    last: str | None


class _New(NamedTuple):
    """A token to be: its id where the user gave one, its push key, its fields."""

    id: str | None
    key: str | None
    fields: Mapping[str, Any]


def push(
    store: Store,
    items: Iterable[Item],
    *,
    prefix: str = DEFAULT_PREFIX,
    again: bool = False,
    on_progress: Callable[[int], object] | None = None,
    on_wait: Callable[[str], object] | None = None,
    sign: Sign | None = None,
) -> PushResult:
    """Add a token for each item; see `picas.pool.Pool.push`."""
    if isinstance(items, (str, bytes, Mapping)):
        raise InvalidInput(
            f"{items!r:.80} is one item, or none", "What is pushed is a list of items: pool.push([...])."
        )
    highest = -1
    if iter(items) is not items:  # it can be read twice: look at all of it before anything is written
        highest = _check(store, items, prefix)
    pushed = done = 0
    first = last = None
    with _Occurrences() as occurrences, ExitStack() as stack:
        batches = _batches(_new(item, None if again else occurrences) for item in items)
        beginning = next(batches, [])
        filling = stack.enter_context(store.filling(on_wait)) if len(beginning) == BATCH else store
        adding = stack.enter_context(_Adding(store, filling, prefix, highest, sign))
        for size, added in adding.all(chain([beginning], batches)):
            if added:
                first, last = first or added[0].id, added[-1].id
            pushed += len(added)
            done += size
            if on_progress is not None:
                on_progress(done)
    return PushResult(pushed, done - pushed, first, last)


def _check(store: Store, items: Iterable[Item], prefix: str) -> int:
    """Refuse the whole push for one bad item; the highest number after the prefix among the ids given.

    Raises:
        InvalidInput: an item cannot become a token, or two items have the same id.
        TokenExists: an id that the user gave is there with other content.
        TokenTooLarge: an item is larger than what is pushed.
    """
    highest = -1
    with_ids: list[_New] = []
    with _Occurrences() as ids:
        for item in items:
            text = item.get("input") if isinstance(item, dict) and len(item) == 1 else item
            if isinstance(text, str) and len(text) < SURELY_SMALL:
                continue  # a line, with nothing beside it: there is nothing that could be wrong with it
            new = _new(item, None)
            fresh_body(new.fields)
            if new.id is None:
                continue
            if ids.count(new.id):
                raise InvalidInput(f"two items have the id {new.id}", "Give each its own, or none at all.")
            highest = max(highest, _number_of(new.id, prefix))
            with_ids.append(new)
            if len(with_ids) == BATCH:
                _check_ids(store, with_ids)
                with_ids.clear()
    _check_ids(store, with_ids)
    return highest


def _number_of(token_id: str, prefix: str) -> int:
    number = token_id[len(prefix) :]
    if token_id.startswith(prefix) and number.isascii() and number.isdigit() and len(number) <= 15:
        return int(number)
    return -1


def _check_ids(store: Store, news: Sequence[_New]) -> None:
    for new, token in zip(news, store.fetch([new.id for new in news if new.id is not None])):
        if token is not None and token.picas.get("push") != _key(new.fields, new.id, 0):
            raise _other_content(token.id)


def _other_content(token_id: str) -> TokenExists:
    return TokenExists(
        f"there is a token {token_id} with other content in the pool already",
        "Give the new one another id, or delete the old one: picas delete " + token_id,
    )


def _new(item: Item, occurrences: _Occurrences | None) -> _New:
    token_id = None
    if isinstance(item, str):
        fields: Mapping[str, Any] = {"input": item}
    elif isinstance(item, Mapping):
        fields = item if isinstance(item, dict) else dict(item)
        if "_id" in fields:
            token_id = check_id(fields["_id"])
            fields = {name: value for name, value in fields.items() if name != "_id"}
    else:
        raise InvalidInput(f"{item!r:.80} is neither a string nor an object with fields")
    digest = _digest(fields, token_id)  # also where no key is wanted: it finds what cannot be written
    key = f"{digest}-{occurrences.count(digest)}" if occurrences is not None else None
    return _New(token_id, key, fields)


class _Adding:
    """Adds batches of new tokens, several at a time where the store is faster so.

    Args:
        filling: what adds them.
        highest: numbers given out are higher than this.
        sign: gives the signature of a token by its id and fields.
    """

    def __init__(self, store: Store, filling: Filling, prefix: str, highest: int, sign: Sign | None) -> None:
        self._store = store
        self._sign = sign
        self._filling = filling
        self._prefix = prefix
        self._highest = highest
        # In an empty pool no key needs looking up; what others push meanwhile is refused by the store itself.
        self._lookup = any(store.counts().values())
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - start-up: pilots push nothing

        self._threads = ThreadPoolExecutor(filling.at_once) if filling.at_once > 1 else None

    def __enter__(self) -> _Adding:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._threads is not None:
            self._threads.shutdown()

    def all(self, batches: Iterable[list[_New]]) -> Iterator[tuple[int, list[Token]]]:
        """For each batch its size and the tokens added, which are those that were not there."""
        under_way: deque[tuple[int, Callable[[], list[Token]]]] = deque()
        for batch in batches:
            under_way.append((len(batch), self._begin(batch)))
            if len(under_way) == self._filling.at_once:
                size, end = under_way.popleft()
                yield size, end()
        for size, end in under_way:
            yield size, end()

    def _begin(self, batch: Sequence[_New]) -> Callable[[], list[Token]]:
        """Begin to add those of the batch that are not there; what ends it."""
        keys = [new.key for new in batch if new.key is not None] if self._lookup else []
        known = self._filling.known_push_keys(keys) if keys else set()
        wanted = [new for new in batch if new.key is None or new.key not in known]
        tokens = self._tokens(wanted)
        if not tokens:
            return list
        if self._threads is None:
            answers = self._filling.insert(tokens)
            return lambda: self._end(wanted, answers)
        future = self._threads.submit(self._filling.insert, tokens)
        return lambda: self._end(wanted, future.result())

    def _tokens(self, news: Sequence[_New]) -> list[Token]:
        tokens = _numbered(self._store, news, self._prefix, self._highest)
        if self._sign is None:
            return tokens
        return [with_signature(token, self._sign(token.id, token.body)) for token in tokens]

    def _end(self, wanted: Sequence[_New], answers: Sequence[Token | None]) -> list[Token]:
        """See to those that were refused; the tokens added."""
        added = [answer for answer in answers if answer is not None]
        for _ in range(NUMBERING_TRIES):
            refused = [new for new, answer in zip(wanted, answers) if answer is None]
            if not refused:
                return added
            # Either somebody pushed the same just now, or the id is taken.
            known = self._store.known_push_keys([new.key for new in refused if new.key is not None])
            wanted = [new for new in refused if new.key is None or new.key not in known]
            for new in wanted:
                if new.id is not None:
                    raise _other_content(new.id)
            answers = self._filling.insert(self._tokens(wanted))
            added += [answer for answer in answers if answer is not None]
        raise PoolUnavailable(
            f"ids after {self._prefix} are taken by another program all the time", "Push again."
        )


def _numbered(store: Store, news: Sequence[_New], prefix: str, highest: int) -> list[Token]:
    """Tokens for these, each with its own id or the next number."""
    unnumbered = sum(new.id is None for new in news)
    number = store.reserve_numbers(prefix, unnumbered) if unnumbered else 0
    if unnumbered and number <= highest:  # ids that are still to come in this push stay free
        number = max(store.reserve_numbers(prefix, highest - number + unnumbered), highest + 1)
    tokens = []
    for new in news:
        token_id = new.id
        if token_id is None:
            token_id = f"{prefix}{number}"
            number += 1
        body = fresh_body(new.fields)
        if new.key is not None:
            body["picas"] = {"push": new.key}
        tokens.append(Token(token_id, body))
    return tokens


def _digest(fields: Mapping[str, Any], token_id: str | None) -> str:
    text = fields.get("input")
    if token_id is None and len(fields) == 1 and isinstance(text, str):
        content = '{"input":' + encode_basestring_ascii(text) + "}"  # what the encoder would write, sooner
    else:
        try:
            content = jsontext.canonical(fields if token_id is None else {**fields, "_id": token_id})
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidInput(f"a token's fields cannot be written as JSON: {error}") from error
    if len(content) > MAX_FIELDS_BYTES:
        raise TokenTooLarge(
            f"a token that begins {content[:60]} has {len(content):,} bytes; at most {MAX_FIELDS_BYTES:,} are pushed",
            "Put large data in a file and its name in the token.",
        )
    return blake2b(content.encode("ascii"), digest_size=12).hexdigest()


def _key(fields: Mapping[str, Any], token_id: str | None, occurrence: int) -> str:
    return f"{_digest(fields, token_id)}-{occurrence}"


def _batches(news: Iterator[_New]) -> Iterator[list[_New]]:
    while True:
        batch = list(islice(news, BATCH))
        if not batch:
            return
        yield batch


class _Occurrences:
    """How often each content has come so far in this push, in bounded memory."""

    def __init__(self) -> None:
        self._recent: dict[str, int] = {}
        self._disk: sqlite3.Connection | None = None

    def __enter__(self) -> _Occurrences:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._disk is not None:
            self._disk.close()

    def count(self, digest: str) -> int:
        """How many of this content came before this one."""
        before = self._recent.get(digest)
        if before is None:
            before = self._on_disk(digest)
            if len(self._recent) >= OCCURRENCES_IN_MEMORY:
                self._spill()
        self._recent[digest] = before + 1
        return before

    def _on_disk(self, digest: str) -> int:
        if self._disk is None:
            return 0
        row = self._disk.execute("SELECT n FROM seen WHERE digest = ?", (digest,)).fetchone()
        return row[0] if row else 0

    def _spill(self) -> None:
        if self._disk is None:
            import sqlite3  # noqa: PLC0415 - some Pythons have none, and need it for nothing else

            self._disk = sqlite3.connect(
                "", isolation_level=None
            )  # a temporary file that SQLite itself removes
            self._disk.execute(
                "CREATE TABLE seen (digest TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID"
            )
        self._disk.execute("BEGIN")
        self._disk.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?)", sorted(self._recent.items()))
        self._disk.execute("COMMIT")
        self._recent.clear()
