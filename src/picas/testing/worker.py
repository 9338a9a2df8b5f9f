"""A program that the contract starts several times: it opens a store and works on it beside the others.

Called as ``worker.py OPENER URL WORK [ARG]``. It says ``"ready"``, waits for a line, works, and says what
came of it, each a line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from itertools import count
from typing import TYPE_CHECKING, Any, Callable

from picas.payload import Payload
from picas.stores.base import Change
from picas.tokens import Claimer, Token, fresh_body
from picas.transitions import claim

if TYPE_CHECKING:
    from picas.stores.base import Store


def drain(store: Store, limit: str) -> list[str]:
    """Claim until nothing is left; the ids."""
    claimer = Claimer(f"pilot-{os.getpid()}", "node")
    mine: list[str] = []
    while True:
        # The same second for all: a store must not take two claims for one because they look alike.
        claimed = store.claim(
            lambda token: claim(token, claimer, 1_700_000_000.0), int(limit), None, "priority"
        )
        if not claimed:
            return mine
        mine += [token.id for token in claimed]


def race(store: Store) -> list[str]:
    """Read all and write all; the ids of those where nobody was faster."""
    mine = []
    for token in list(store.scan()):
        if "winner" not in token.body:
            change = Change(Token(token.id, {**token.body, "winner": os.getpid()}, token.rev))
            mine += [written.id for written in store.replace([change]) if written]
    return mine


def number(store: Store, times: str) -> list[int]:
    """Reserve a number so many times."""
    return [store.reserve_numbers("token_", 1) for _ in range(int(times))]


def insert(store: Store, times: str) -> list[str]:
    """Insert the same ids as everybody; those that were added."""
    answers = [store.insert([Token(f"t{n:04}", fresh_body({}))])[0] for n in range(int(times))]
    return [token.id for token in answers if token]


def write(store: Store) -> None:
    """Write for ever, documents with small and large files, and say of each write that it was answered."""
    tokens: dict[str, Token] = {}
    for version in count(1):
        token_id = f"{os.getpid()}-{version % 5}"
        fields = {"version": version, "size": 300_000 if version % 3 == 0 else 100}
        token = tokens.get(token_id) or store.insert([Token(token_id, fresh_body({}))])[0]
        assert token is not None
        log = Payload("log", "text/plain", (bytes([version % 256]) * fields["size"],))
        written = store.replace([Change(Token(token_id, {**token.body, **fields}, token.rev), (log,))])[0]
        assert written is not None
        tokens[token_id] = written
        say([token_id, version])


WORK: dict[str, Callable[..., Any]] = {
    "drain": drain,
    "race": race,
    "number": number,
    "insert": insert,
    "write": write,
}
"""What can be asked for on the command line."""


def say(answer: Any) -> None:
    """One line for the test that started us."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Do what the command line says."""
    opener, url, work, *args = sys.argv[1:]
    module, _, function = opener.partition(":")
    store = getattr(import_module(module), function)(url)
    say("ready")
    sys.stdin.readline()
    say(WORK[work](store, *args))
    store.close()


if __name__ == "__main__":
    main()
