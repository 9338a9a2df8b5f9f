"""The CouchDB that is measured: what ``PICAS_TEST_COUCHDB`` names, else a private one; a database per round."""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING, Any, Union

from tests.couchdb.servers import CouchServer, GivenServer, couchdb_home

import picas
from benchmarks._harness import BenchmarkError
from picas.stores import design

if TYPE_CHECKING:
    from collections.abc import Iterator

AnyServer = Union[CouchServer, GivenServer]

STATES = ("todo", "locked", "done", "error")

VIEW = f"_design/{design.MAIN}/_view/tokens"
"""The lean view that PiCaS claims by, below a database: rows of [state, −priority, number]."""


@contextlib.contextmanager
def couchdb() -> Iterator[AnyServer]:
    """A real CouchDB for one benchmark.

    Raises:
        BenchmarkError: there is none.
    """
    given = os.environ.get("PICAS_TEST_COUCHDB")
    if given:
        yield GivenServer(given)
        return
    if couchdb_home() is None:
        raise BenchmarkError("there is no Apache CouchDB: install it, or name a server in PICAS_TEST_COUCHDB")
    # A line of log for each request, which would be the default, is work for none of those compared.
    with CouchServer({"log": {"level": "warning"}}) as server:
        yield server


class Database:
    """A database for one round, dropped afterwards."""

    def __init__(self, server: AnyServer) -> None:
        self.name = "picas_bench_" + secrets.token_hex(6)
        self.server = server
        self.url = f"{server.url}/{self.name}"

    def __enter__(self) -> Database:
        self.ask("PUT", "")
        return self

    def __exit__(self, *error: object) -> None:
        self.ask("DELETE", "")

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """One request below the database, with a slash before it unless empty; the JSON of the answer.

        Raises:
            BenchmarkError: the answer is no success.
            TimeoutError: the server itself took too long, as over an index of many tokens.
        """
        status, answer = self.server.ask(method, f"/{self.name}{path}", body)
        if status == 500 and isinstance(answer, dict) and answer.get("error") == "timeout":
            raise TimeoutError(answer.get("reason"))
        if status >= 300:
            raise BenchmarkError(f"{method} {path}: {status} {answer}")
        return answer

    def counts(self) -> dict[str, int]:
        """How many tokens there are in each state, by PiCaS's own view, brought up to date."""
        rows = self.ask("GET", f"/{VIEW}?group_level=1")["rows"]
        return {row["key"][0]: row["value"] for row in rows if row["key"][0] in STATES}

    def expect_done(self, tokens: int) -> None:
        """Raise `BenchmarkError` unless there are so many tokens and all are done."""
        self.expect({"done": tokens})

    def expect(self, counts: dict[str, int]) -> None:
        """Raise `BenchmarkError` unless there are so many tokens in each state; the views are built before.

        Raises:
            TimeoutError: that takes long; the server goes on with it.
        """
        found = self.counts()
        if found != counts:
            raise BenchmarkError(f"expected {counts}, the database has {found}")


@contextlib.contextmanager
def filled(server: AnyServer, tokens: int) -> Iterator[Database]:
    """A database with so many tokens, its views built."""
    with Database(server) as database:
        with picas.open_pool(database.url) as pool:
            pool.push(["x"] * tokens)
        database.expect({"todo": tokens})
        yield database


def version(server: AnyServer) -> str:
    """The server's own words."""
    return str(server.ask("GET", "/")[1]["version"])
