"""What the parts of the contract share: a fresh store, and tokens to put into it."""

from __future__ import annotations

import json
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import pytest

from picas.payload import Payload
from picas.stores.base import Change
from picas.tokens import Claimer, Outcome, Token, fresh_body
from picas.transitions import claim, finish

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from picas.stores.base import Store

CLAIMER = Claimer("pilot-1", "node-1")
"""Who claims where it does not matter who."""


class StoreFixtures:
    """The fixtures of the contract: ``url``, of a fresh store, and ``store``, opened."""

    opener = "picas.stores:open_store"

    def store_url(self, tmp_path: Path) -> str:
        """The URL of a fresh, empty store. The one thing that a subclass must define."""
        raise TypeError(f"{type(self).__name__} does not say where its store is: define store_url(tmp_path)")

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        """The URL of this test's own store."""
        return self.store_url(tmp_path)

    @pytest.fixture
    def store(self, url: str) -> Iterator[Store]:
        """This test's own store."""
        store = self.open(url)
        yield store
        store.close()

    def open(self, url: str) -> Store:
        """The store at this URL."""
        module, _, function = self.opener.partition(":")
        return cast("Store", getattr(import_module(module), function)(url))


def fresh(token_id: str, **fields: Any) -> Token:
    """A new token with these fields."""
    return Token(token_id, {**fresh_body({"input": f"work of {token_id}"}), **fields})


def add(store: Store, *tokens: Token) -> list[Token]:
    """The tokens, in the store: all of them must be new."""
    added = [token for token in store.insert(tokens) if token is not None]
    assert len(added) == len(tokens)
    return added


def add_many(store: Store, count: int, **fields: Any) -> list[str]:
    """The ids of so many new tokens, ``token_0000`` and on."""
    return [token.id for token in add(store, *(fresh(f"token_{n:04}", **fields) for n in range(count)))]


def take(token: Token) -> Token:
    """What the tests claim with."""
    return claim(token, CLAIMER, 1_700_000_000.0)


def claim_all(store: Store, limit: int = 10_000, order: str = "oldest") -> list[Token]:
    """Claim until there are so many or nothing is left; one claim may bring fewer than there are."""
    claimed: list[Token] = []
    while len(claimed) < limit:
        more = store.claim(take, limit - len(claimed), None, order)
        if not more:
            break
        claimed += more
    return claimed


def finished(token: Token, ended: float, exit_code: int = 0) -> Token:
    """A claimed token after its work ended."""
    return finish(token, Outcome(exit_code, ended - 2.0, ended))


def get(store: Store, token_id: str) -> Token:
    """The token of this id, which must be there."""
    token = store.fetch([token_id])[0]
    assert token is not None, f"{token_id} is not there"
    return token


def write(
    store: Store, token: Token, *payloads: Payload, rename: dict[str, str] | None = None, **fields: Any
) -> Token:
    """The token, written with these fields and files; the write must be taken."""
    changed = store.replace([changed_token(token, *payloads, rename=rename, **fields)])[0]
    assert changed is not None, f"{token.id} was not written"
    return changed


def changed_token(
    token: Token, *payloads: Payload, rename: dict[str, str] | None = None, **fields: Any
) -> Change:
    """The change that gives a token these fields and files."""
    return Change(Token(token.id, {**token.body, **fields}, token.rev), payloads, rename or {})


def blob(name: str, data: bytes, content_type: str = "application/octet-stream") -> Payload:
    """These bytes under this name."""
    return Payload(name, content_type, (data,) if data else ())


def read(store: Store, token_id: str, name: str) -> bytes:
    """The whole attachment."""
    return b"".join(store.read_attachment(token_id, name))


def as_json(body: Any) -> str:
    """A document in the one form in which two of them can be compared, 1 and 1.0 kept apart."""
    return json.dumps(body, sort_keys=True)


def ids(tokens: Sequence[Token | None]) -> list[str]:
    """The ids of tokens, None being none."""
    return [token.id for token in tokens if token is not None]


@contextmanager
def refused(*kinds: type[Exception]) -> Iterator[None]:
    """The block must end in one of these errors."""
    with pytest.raises(kinds):
        yield
