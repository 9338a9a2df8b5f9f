"""Tokens with conflicting versions in a CouchDB database: which there are, what to make of them, and doing it.

Conflicts come from clusters whose nodes did not hear of each other in time, and from databases that replicate.
Nothing is lost by them; readers are shown one version and the others wait unseen. `decide` is a pure function:

- A leaf whose claim was given up (see `picas.stores.couch.leaves`) counts for nothing where there is another one. If
  there are only such leaves, nobody has the token, and it is made todo.
- While a leaf is locked by a claim that has not run out, all stays as it is: its pilot writes to that leaf.
- Else a finished version beats a locked one, and that one beats one that is todo. What the others know of
  ended attempts is kept in the history of the winner, their logs and files beside its own.
- Versions that differ in what users wrote are left for a person to look at.

A leaf is deleted only by somebody who has written another one, the winner, and had that confirmed by a quorum. What
was read is no reason to delete anything: it may be the view of a node that has lost sight of the others, where the
very opposite is decided at the same moment; and in a ``_bulk_docs`` each write stands for itself, so that if the
winner's were refused, since its pilot was faster, the deletions beside it would go through all the same.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from picas import tokens, transitions
from picas.stores.couch import bulk, leaves
from picas.stores.couch.copies import copied
from picas.stores.couch.index import MEND
from picas.stores.design import MAIN
from picas.tokens import State, Token, log_name_of_attempt

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from picas.payload import Payload
    from picas.stores.couch.http import Server

LOCK_SECONDS = 86_400.0
"""A claim in a conflicting version counts as running for so long, seconds."""

MENDING_SECONDS = 600.0
"""Nobody is still at mending a token after so long: that is four requests, and each takes two minutes at most."""

PAGE = 5_000
"""Changes read at a time where all documents are looked through."""

BATCH = 100
"""Tokens mended in one step."""

_ORDER = {State.DONE: 0, State.ERROR: 1, State.LOCKED: 2, State.TODO: 3, None: 4}


@dataclass(frozen=True)
class Repair:
    """What is to be done with the leaves of a token.

    Attributes:
        winner: what the leaf that stays becomes.
        losers: the leaves to be deleted.
        attach: what the winner is to have of theirs: leaf, attachment, its name in the winner.
    """

    winner: Token
    losers: tuple[Token, ...]
    attach: tuple[tuple[Token, str, str], ...] = ()


@dataclass(frozen=True)
class Mended:
    """What was done: ids of tokens.

    Attributes:
        freed: they are todo again.
        merged: one version of them is left, or fewer at least.
    """

    freed: list[str]
    merged: list[str]


# --- Deciding ----------------------------------------------------------------------------------------


def decide(found: Sequence[Token], now: float, lock_seconds: float = LOCK_SECONDS) -> Repair | None:
    """What to do with the leaves of one token; None for nothing, now.

    Args:
        found: its leaves, the one that readers are shown first; not all of them given up.
        now: the server's time.
        lock_seconds: how long a claim counts as running.
    """
    given_up = tuple(_nobodys(found, now))
    standing = sorted((leaf for leaf in found if leaf not in given_up), key=lambda leaf: _ORDER[leaf.state])
    if any(_is_running(leaf, now, lock_seconds) for leaf in standing):
        return None
    winner, *others = standing
    if any(_users_fields(leaf) != _users_fields(winner) for leaf in others):
        others = []
    return _merged(winner, others, given_up) if others or given_up else None


def _nobodys(found: Sequence[Token], now: float) -> list[Token]:
    """The leaves that are locked and that nobody has: the claim was given up or is over, or its mender is gone."""
    # A claim that was written twice, to nodes that were apart, has two leaves, and its pilot ended one of them.
    over = {leaf.claim_id for leaf in found if leaf.state is not State.LOCKED or leaves.is_void(leaf)}
    over |= {entry.get("claim") for leaf in found for entry in leaf.history}
    return [
        leaf
        for leaf in found
        if leaf.state is State.LOCKED
        and ((leaf.claim_id and leaf.claim_id in over) or _is_forsaken(leaf, now))
    ]


def _is_running(leaf: Token, now: float, lock_seconds: float) -> bool:
    # A mender that is at it needs its leaf as it wrote it, however short the time is that claims are given.
    return leaf.state is State.LOCKED and (
        leaf.run.get("mends") is True or now - _locked_at(leaf) < lock_seconds
    )


def _is_forsaken(leaf: Token, now: float) -> bool:
    return leaf.run.get("mends") is True and now - _locked_at(leaf) > MENDING_SECONDS


def _locked_at(leaf: Token) -> float:
    claimed = leaf.run.get("claimed", leaf.get("lock"))
    return float(claimed) if isinstance(claimed, (int, float)) and claimed > 0 else 0.0


def _users_fields(leaf: Token) -> dict[str, Any]:
    return {name: value for name, value in leaf.body.items() if name not in tokens.RESERVED_FIELDS}


def _merged(winner: Token, others: Sequence[Token], given_up: tuple[Token, ...]) -> Repair:
    """The winner with all that the others know and it does not."""
    history = list(winner.history)
    attach: list[tuple[Token, str, str]] = []
    running = []
    known = {_told_by(entry) for entry in (*history, winner.run)}
    for leaf in others:
        names = {name: log_name_of_attempt(name, _label(leaf)) for name in _only_there(leaf, winner)}
        attach += [(leaf, name, new) for name, new in names.items()]
        if leaf.state is State.LOCKED:
            running.append(leaf.run)
        for entry in (*leaf.history, *_last_run(leaf, winner)):
            claim, _ = told = _told_by(entry)
            # A claim may be told of twice: that it was given up, and of its result that came nevertheless.
            if claim is None or not known & {told, (claim, True)}:
                logs = [names.get(name, name) for name in transitions.logs_of(entry)]
                history.append({**entry, **({"logs": logs} if logs else {}), "superseded": True})
                known.add(told)
    ours = {**winner.picas}
    if history:
        ours["history"] = history[-tokens.MAX_HISTORY :]
    if running and winner.state is State.LOCKED:
        # Whoever holds one of these claims may still finish: see `picas.transitions.held_by`.
        ours["run"] = {**winner.run, "also": [*winner.run.get("also", ()), *running]}
    body = {**winner.body, **({"picas": ours} if ours else {})}
    merged = Token(winner.id, body, winner.rev, winner.attachments)
    return Repair(merged, (*others, *given_up), tuple(attach))


def _last_run(leaf: Token, winner: Token) -> list[dict[str, Any]]:
    """The last attempt of a version as entries for the history; of another client's, what it tells."""
    if leaf.state is State.LOCKED and winner.state is not State.LOCKED:
        return [leaf.run] if leaf.run else []  # so that its pilot, if it is alive, learns that it is late
    if leaf.state not in (State.DONE, State.ERROR):
        return []
    logs = [name for name in tokens.log_names(leaf.id) if name in leaf.attachments]
    theirs = {"host": leaf.get("hostname"), "exit_code": leaf.get("exit_code"), "logs": logs}
    ended = tokens.ended_at(leaf.body)
    return [leaf.run or {**theirs, "started": ended, "ended": ended}]


def _only_there(leaf: Token, winner: Token) -> Iterator[str]:
    """The attachments of a leaf that are not the winner's too."""
    for name, info in leaf.attachments.items():
        there = winner.attachments.get(name)
        if there is None or there.digest != info.digest:
            yield name


def _told_by(entry: Mapping[str, Any]) -> tuple[str | None, bool]:
    """Of which claim an entry tells, which anybody may have written, and whether it tells of a result."""
    claim = entry.get("claim")
    return (claim if isinstance(claim, str) else None), "started" in entry


def _label(leaf: Token) -> str:
    return f"superseded-{(leaf.claim_id or (leaf.rev or '').partition('-')[2])[:8]}"


# --- Finding -----------------------------------------------------------------------------------------


def scan(server: Server, database: str) -> Iterator[str]:
    """The ids of documents with conflicting versions, found without an index: all changes are looked through.

    Args:
        database: the database's name, quoted.

    Raises:
        PoolUnavailable, PoolRefused: as requests do.
    """
    query: dict[str, Any] = {"style": "all_docs", "limit": PAGE, "since": "0"}
    while True:
        answer = server.request("GET", f"{database}/_changes", query=query)
        rows = answer.value["results"]
        # More than one leaf; but what was mended has them too, deleted.
        suspects = [row["id"] for row in rows if len(row["changes"]) > 1 and not row.get("deleted")]
        for start in range(0, len(suspects), BATCH):
            some = suspects[start : start + BATCH]
            yield from (i for i, found in zip(some, leaves.read(server, database, some)) if len(found) > 1)
        if len(rows) < PAGE:
            return
        query["since"] = answer.value["last_seq"]


def count(server: Server, database: str) -> int:
    """How many tokens have conflicting versions or are locked by a claim that was given up.

    One request where our own view is there; else all changes are looked through.

    Raises:
        PoolUnavailable, PoolRefused: as requests do.
    """
    answer = server.request("GET", _view(database), query=_ROWS, expect=(404,))
    if answer.status == 404:
        return sum(1 for _ in scan(server, database))
    rows = answer.value["rows"]
    return int(rows[0]["value"]) if rows else 0


def find(server: Server, database: str) -> Iterator[str]:
    """The ids of the tokens that `count` counts; those that are mended meanwhile may be among them.

    Raises:
        PoolUnavailable, PoolRefused: as requests do.
    """
    query: dict[str, Any] = {**_ROWS, "reduce": False, "limit": PAGE}
    last = None
    while True:
        answer = server.request("GET", _view(database), query=query, expect=(404,))
        if answer.status == 404:
            yield from scan(server, database)
            return
        rows = answer.value["rows"]
        yield from (row["id"] for row in rows if row["id"] != last)
        if len(rows) < PAGE:
            return
        # That row again: if it is gone by then, skipping it would skip another.
        last = rows[-1]["id"]
        query.update(startkey=rows[-1]["key"], startkey_docid=last)


_ROWS: dict[str, Any] = {"startkey": [MEND], "endkey": [MEND, {}]}


def _view(database: str) -> str:
    return f"{database}/_design/{MAIN}/_view/tokens"


# --- Mending -----------------------------------------------------------------------------------------


def mend(
    server: Server, database: str, ids: Sequence[str], now: float, lock_seconds: float = LOCK_SECONDS
) -> Mended:
    """Put these tokens right as far as that can be done now.

    Any number of processes may do this at the same time. A token that changes meanwhile is left alone.

    Args:
        database: the database's name, quoted.

    Raises:
        PoolUnavailable, PoolRefused: as requests do.
    """
    freed: list[str] = []
    merged: list[str] = []
    for start in range(0, len(ids), BATCH):
        found = leaves.read(server, database, ids[start : start + BATCH])
        found = [each for each in found if all(leaf.get("type") == tokens.TOKEN_TYPE for leaf in each)]
        nobodys = [each for each in found if each and len(_nobodys(each, now)) == len(each)]
        freed += _free(server, database, nobodys, now)
        repairs = [
            repair
            for each in found
            if len(each) > 1 and each not in nobodys and (repair := decide(each, now, lock_seconds))
        ]
        merged += _merge(server, database, [repair for repair in repairs if not repair.attach])
        for repair in repairs:
            if repair.attach:
                merged += _merge(server, database, [repair])
    return Mended(freed, merged)


def mend_all(server: Server, database: str, now: float, lock_seconds: float = LOCK_SECONDS) -> Mended:
    """Put right whatever can be put right now, in the whole database; see `mend`."""
    done = mend(server, database, list(find(server, database)), now, lock_seconds)
    return Mended(list(dict.fromkeys(done.freed)), list(dict.fromkeys(done.merged)))


def _merge(server: Server, database: str, repairs: Sequence[Repair]) -> list[str]:
    """Write the winners and then, of those that a quorum has, delete the losers; the ids of these tokens."""
    with tempfile.TemporaryDirectory(prefix="picas-mending-") as folder:
        writes = []
        for repair in repairs:
            payloads: list[Payload] = []
            for i, (leaf, name, new) in enumerate(repair.attach):
                payload = copied(server, database, leaf, name, new, Path(folder, str(i)))
                if payload is None:
                    return []  # it was mended meanwhile
                payloads.append(payload)
            winner = repair.winner
            writes.append(bulk.Write(bulk.document(winner), winner.attachments, tuple(payloads)))
        written = bulk.write(server, database, writes)
    done = [repair for repair, answer in zip(repairs, written) if answer.revision and answer.quorum]
    _delete(server, database, [leaf for repair in done for leaf in repair.losers])
    return [repair.winner.id for repair in done]


def _free(server: Server, database: str, nobodys: Sequence[Sequence[Token]], now: float) -> list[str]:
    """Make tokens todo again that are locked only by claims that were given up; the ids of those that are.

    To be sure that no claim comes about meanwhile this is done as by a claimer (see `picas.stores.couch.doubt`): with a
    claim of its own that is written, and confirmed by being written once more after a look at what else is there.
    """
    taken = [_taken_over(found[0], now) for found in nobodys]
    first = _write(server, database, taken)
    again = leaves.read(server, database, [token.id for token in taken])
    alone: list[Token] = []
    given_up: list[Token] = []
    rest: dict[str, list[Token]] = {}
    for token, answer, found in zip(taken, first, again):
        mine = leaves.with_claim(found, token.claim_id)
        if mine is None:
            continue  # somebody else was faster
        rest[mine.id] = [leaf for leaf in found if leaf is not mine]
        if answer.quorum and len(_nobodys(rest[mine.id], now)) == len(rest[mine.id]):
            alone.append(mine)
        else:
            given_up.append(leaves.void(mine))
    free: list[Token] = []
    for token, answer in zip(alone, _write(server, database, alone)):
        ours = Token(token.id, token.body, answer.revision or token.rev, token.attachments)
        if answer.revision and answer.quorum:
            free.append(transitions.release(ours, now))
        else:
            given_up.append(leaves.void(ours))
    _write(server, database, given_up)
    written = _write(server, database, free)
    sure = [token.id for token, answer in zip(free, written) if answer.revision and answer.quorum]
    _delete(server, database, [leaf for token_id in sure for leaf in rest[token_id]])
    return [token.id for token, answer in zip(free, written) if answer.revision]


def _taken_over(leaf: Token, now: float) -> Token:
    run = {"claim": os.urandom(12).hex(), "claimed": round(now, 3), "attempt": leaf.attempt, "mends": True}
    return Token(leaf.id, {**leaf.body, "picas": {**leaf.picas, "run": run}}, leaf.rev, leaf.attachments)


def _write(server: Server, database: str, versions: Sequence[Token]) -> list[bulk.Written]:
    return bulk.write(
        server,
        database,
        [bulk.Write(bulk.document(token), token.attachments) for token in versions],
    )


def _delete(server: Server, database: str, losers: Sequence[Token]) -> None:
    gone = [bulk.Write({"_id": leaf.id, "_rev": leaf.rev, "_deleted": True}) for leaf in losers]
    bulk.write(server, database, gone)
