"""The numbers in the ids of pushed tokens, given out by a document in the database, so that no two are equal."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

from picas.errors import PoolRefused, PoolUnavailable
from picas.stores.couch import bulk, leaves
from picas.tokens import number_after

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from picas.stores.couch.bulk import Written
    from picas.stores.couch.http import Server
    from picas.tokens import Token

NUMBERS = "picas_numbers"
"""The document that holds the highest number given out for each prefix of ids."""

PAGE = 10_000
"""Ids read at a time."""

UNCONFIRMED = 20
"""So many writes in a row that too few nodes of a cluster confirm, and no numbers are given out."""


class Numbers:
    """Who gives out numbers.

    Args:
        database: the database's name, quoted.
    """

    def __init__(self, server: Server, database: str) -> None:
        self._server = server
        self._database = database
        self._given: dict[str, int] = {}  # prefix → highest number that is known to be given out

    def reserve(self, prefix: str, count: int) -> int:
        """The first of ``count`` numbers that nobody else gets; see `picas.stores.base.Store.reserve_numbers`.

        Raises:
            PoolUnavailable: too few nodes of a cluster are there to be sure of that.
            PoolRefused: we may not write to the database.
        """
        unconfirmed = 0
        while unconfirmed < UNCONFIRMED:
            found = self._document()
            given = found["given"]
            last = int(given[prefix]) if prefix in given else self._highest(prefix)
            written = self._write(found, {**given, prefix: last + count})
            if written.revision is not None and written.quorum and not self._is_in_conflict():
                self._given[prefix] = last + count
                return last + 1
            unconfirmed += not written.quorum
        raise self._unsure()

    def note(self, ids: Sequence[str]) -> None:
        """Let the numbers that are given out go on after those of these ids.

        A prefix that nobody has asked numbers of is not in the document; it is searched when somebody does.
        """
        if not any(token_id[-1:].isdigit() and not self._is_given(token_id) for token_id in ids):
            return
        while True:
            found = self._document()
            given = found["given"]
            highest = {
                prefix: max((number_after(prefix, i) for i in ids if i.startswith(prefix)), default=-1)
                for prefix in given
            }
            raised = {prefix: number for prefix, number in highest.items() if number > given[prefix]}
            if not raised or self._write(found, {**given, **raised}).revision is not None:
                self._given.update(given, **raised)
                return

    def _is_given(self, token_id: str) -> bool:
        prefix = token_id.rstrip("0123456789")
        return number_after(prefix, token_id) <= self._given.get(prefix, -1)

    def _document(self) -> dict[str, Any]:
        found = leaves.read(self._server, self._database, [NUMBERS])[0]
        if not found:
            return {"_id": NUMBERS, "type": "picas", "given": {}}
        # Of versions in conflict, each may have given out numbers.
        given: dict[str, int] = {}
        for leaf in found:
            for prefix, number in _given(leaf.body).items():
                given[prefix] = max(number, given.get(prefix, -1))
        if len(found) > 1:
            self._join(found, given)
            return self._document()
        return {**found[0].body, "_id": NUMBERS, "_rev": found[0].rev, "given": given}

    def _join(self, found: Sequence[Token], given: dict[str, int]) -> None:
        """Make one version of several."""
        winner, *others = found
        written = self._write({**winner.body, "_id": NUMBERS, "_rev": winner.rev}, given)
        if written.revision is not None and written.quorum:
            gone = [{"_id": NUMBERS, "_rev": leaf.rev, "_deleted": True} for leaf in others]
            bulk.write(self._server, self._database, [bulk.Write(each) for each in gone])
        elif not written.quorum:
            raise self._unsure()

    def _is_in_conflict(self) -> bool:
        """Whether somebody else may have been given the same numbers, from another version."""
        return len(leaves.read(self._server, self._database, [NUMBERS])[0]) > 1

    def _unsure(self) -> PoolUnavailable:
        return PoolUnavailable(
            f"{self._server.url} gives out no numbers for new tokens: too few nodes of the cluster confirm it",
            "Push again when more of them are up.",
        )

    def _write(self, found: dict[str, Any], given: dict[str, int]) -> Written:
        # Two equal documents would both win, and two callers get the same numbers.
        document = {**found, "given": given, "nonce": random.getrandbits(64)}
        written = bulk.write(self._server, self._database, [bulk.Write(document)])[0]
        if written.refused is not None:
            why = written.refused.message.partition(": ")[2]  # what is meant is no token
            raise PoolRefused(
                f"nothing can be pushed to {self._server.url}/{self._database}: {why}", written.refused.advice
            )
        return written

    def _highest(self, prefix: str) -> int:
        """The highest number after the prefix in any id there is."""
        highest = -1
        query: dict[str, Any] = {"limit": PAGE}
        if prefix:
            query.update(startkey=json.dumps(prefix), endkey=json.dumps(prefix + "\U0010ffff"))
        while True:
            answer = self._server.request("GET", f"{self._database}/_all_docs", query=query)
            rows = answer.value["rows"]
            for row in rows:
                highest = max(highest, number_after(prefix, row["id"]))
            if len(rows) < PAGE:
                return highest
            # That row again: if it is gone by then, skipping it would skip another.
            query.update(startkey=json.dumps(rows[-1]["id"]))


def _given(document: Mapping[str, Any]) -> dict[str, int]:
    given = document.get("given")
    given = given if isinstance(given, dict) else {}  # somebody may have edited it
    return {prefix: number for prefix, number in given.items() if isinstance(number, int)}
