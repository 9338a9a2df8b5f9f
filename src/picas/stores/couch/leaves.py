"""The versions of a token that a CouchDB database holds side by side, and claims that were given up.

On a cluster, and where databases replicate, two writes to one version may both be stored: the document then has
two *leaves*. Every reader is shown the same one of them; a write to any of them is taken. A *void* leaf is one
whose claim was given up by its own pilot because it was not sure to hold. It stays locked, so it offers nothing
to anybody, and it never becomes a claim again.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from picas.errors import PoolUnavailable
from picas.stores.couch.bulk import CREATED
from picas.tokens import State, Token, token_from_document
from picas.transitions import held_by

if TYPE_CHECKING:
    from collections.abc import Sequence

    from picas.stores.couch.http import Server


def read(server: Server, database: str, ids: Sequence[str]) -> list[list[Token]]:
    """For each id the leaves that are not deleted, the one that readers are shown first; none if it is gone.

    The server asks a quorum of the nodes, so what a quorum has taken is among them.

    Source: CouchDB's HTTP API, ``/{db}/_bulk_get``; without a revision it answers with all leaves.

    Args:
        database: the database's name, quoted.

    Raises:
        PoolUnavailable, PoolRefused: as requests do.
    """
    if not ids:
        return []
    answer = server.request("POST", f"{database}/_bulk_get", {"docs": [{"id": i} for i in ids]})
    found: dict[str, list[Token]] = {}
    for result in answer.value["results"]:
        docs = [each["ok"] for each in result["docs"] if "ok" in each]
        alive = [token_from_document(doc) for doc in docs if not doc.get("_deleted")]
        found[result["id"]] = sorted(alive, key=_rank, reverse=True)
    return [found.get(token_id, []) for token_id in ids]


def expect_quorum(server: Server, database: str) -> None:
    """Look whether a quorum of the nodes is in reach: what a read does not tell, a write does.

    Raises:
        PoolUnavailable: there is none.
        PoolRefused: as requests do.
    """
    path = f"{database}/_local/picas_quorum_{os.urandom(8).hex()}"
    written = server.request("PUT", path, {})
    if written.status != CREATED:
        raise PoolUnavailable(
            f"{server.url} is out of touch with the other nodes of its cluster",
            "It goes on when they are back, or find each other again.",
        )
    server.request("DELETE", f"{path}?rev={written.value['rev']}")


def _rank(token: Token) -> tuple[int, str]:
    """By what CouchDB compares leaves: the longest, of those the one with the highest hash."""
    return generation(token.rev), (token.rev or "").partition("-")[2]


def generation(revision: str | None) -> int:
    """How many versions led to this one, itself included; 0 for none."""
    return int((revision or "0").partition("-")[0])


def with_claim(leaves: Sequence[Token], claim: str | None) -> Token | None:
    """The leaf that is held by this claim, or was; None if there is none."""
    return next((leaf for leaf in leaves if claim is not None and leaf.claim_id == claim), None)


def locked_by(leaves: Sequence[Token], claim: str | None) -> Token | None:
    """The leaf that is locked by this claim, which has not been given up; None if there is none."""
    for leaf in leaves:
        if claim is not None and leaf.claim_id == claim and leaf.state is State.LOCKED and not is_void(leaf):
            return leaf
    return None


def with_attempt(leaves: Sequence[Token], claim: str | None) -> Token | None:
    """The leaf whose history knows the claim, or whose own claim stands for it; None if there is none."""
    for leaf in leaves:
        if claim is not None and (held_by(leaf, claim) or any(e.get("claim") == claim for e in leaf.history)):
            return leaf
    return None


def is_void(token: Token) -> bool:
    """Whether the token is locked by a claim that was given up."""
    return token.state is State.LOCKED and token.run.get("void") is True


def void(token: Token) -> Token:
    """The token with its claim given up."""
    run = {**token.run, "void": True}
    return Token(token.id, {**token.body, "picas": {**token.picas, "run": run}}, token.rev, token.attachments)
