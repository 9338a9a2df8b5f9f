"""The pool in an Apache CouchDB database, shared by machines everywhere.

Claims walk the index (see `picas.stores.walk`) and lock a batch in one ``_bulk_docs``. A claim holds only if
the server confirms it with a quorum: on a cluster a write that is merely ``accepted`` may be one of two
winners, so it is walked away from. Every claim has a random id, since two equal documents get the same
revision and would both win.
"""

from __future__ import annotations

import json
import random
import tempfile
import threading
import time
from collections import OrderedDict
from heapq import merge
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable
from urllib.parse import quote

from picas.errors import PoolRefused, PoolUnavailable, TokenNotFound
from picas.payload import CHUNK_BYTES, Payload, file_payload
from picas.stores import bulk, design
from picas.stores.base import Change, Progress
from picas.stores.walk import FREE, Walk
from picas.tokens import State, Token, number_after, token_from_document

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from picas.selection import Selection
    from picas.stores.bulk import Written
    from picas.stores.http import Server

PAGE = 200
"""Rows read at a time."""

ID_PAGE = 10_000
"""Rows read at a time where only ids are wanted."""

REMEMBERED = 20_000
"""Versions of tokens whose attachments' names are remembered, so that a write need not ask for them."""

NUMBERS = "picas_numbers"
"""The document that holds the highest number given out for each prefix of ids."""

ROUNDS = 20
"""How often a claim tries to win against others before it reports that it could not."""

BACK_OFF_SECONDS = (0.01, 1.0)
"""Shortest and longest pause between two of these tries."""

MANY_PRIORITIES = 100
"""So many different priorities are listed one by one; with more, order by age is only kept within each state."""

STATES: tuple[State | None, ...] = (*State, None)


class CouchStore:
    """A `picas.stores.base.Store` in a CouchDB database. See there for what the methods guarantee.

    Args:
        server: the server.
        database: the database's name.

    Raises:
        PoolRefused: there is no such database, or we may not use it.
        PoolUnavailable: the server does not answer.
    """

    def __init__(self, server: Server, database: str) -> None:
        self._server = server
        self._database = quote(database, safe="")
        self.url = f"{server.url}/{self._database}"
        self._claiming = threading.Lock()
        self._walks: dict[str, Walk] = {}
        self._in_doubt: list[Token] = []  # claims whose answer was lost
        self._attached = _Attached()
        self._designed = False
        self._push_keys_read = False
        self._given: dict[str, int] = {}  # prefix → highest number that is known to be given out
        if server.request("GET", self._database, expect=(404,)).status == 404:
            raise PoolRefused(
                f"there is no database {database} on {server.url}",
                "Check the name; whoever runs the server can make it.",
            )

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._server.close()

    def now(self) -> float:
        """The time by the server's clock."""
        return self._server.now()

    # --- Requests ---

    def _view(self, design_name: str, view: str, query: Mapping[str, Any], body: Any = None) -> list[Any]:
        if not self._designed:
            design.ensure(self._server, self._database)
            self._designed = True
        path = f"{self._database}/_design/{design_name}/_view/{view}"
        answer = self._server.request("GET" if body is None else "POST", path, body, query=query)
        rows: list[Any] = answer.value["rows"]
        return rows

    def _rows(self, query: Mapping[str, Any]) -> list[Any]:
        return self._view(design.MAIN, "tokens", query)

    def _token(self, doc: Mapping[str, Any]) -> Token:
        token = token_from_document(doc)
        self._attached.remember(token.id, token.rev, token.attachments)
        return token

    # --- Adding ---

    def insert(self, tokens: Sequence[Token]) -> list[Token | None]:
        writes = [bulk.Write(bulk.document(token)) for token in tokens]
        there = self._taken_push_keys(tokens)
        wanted = []
        for i, token in enumerate(tokens):
            key = token.picas.get("push")
            if key is None or key not in there:
                wanted.append(i)
                there.add(key)
        self._note_given([tokens[i].id for i in wanted])
        answers = bulk.write(self._server, self._database, [writes[i] for i in wanted])
        added: list[Token | None] = [None] * len(tokens)
        for i, written in zip(wanted, answers):
            if written.revision is not None:
                self._attached.remember(tokens[i].id, written.revision, ())
                added[i] = Token(tokens[i].id, tokens[i].body, written.revision)
        return added

    def _taken_push_keys(self, tokens: Sequence[Token]) -> set[Any]:
        keys = [key for token in tokens if (key := token.picas.get("push")) is not None]
        return set(self.known_push_keys(keys)) if keys else set()

    def known_push_keys(self, keys: Collection[str]) -> set[str]:
        # The index is brought up to date once; what is added later in this push has other keys.
        query = {"reduce": False, **({"update": "false"} if self._push_keys_read else {})}
        found = self._view(design.PUSH, "keys", query, {"keys": list(keys)})
        return {row["key"] for row in found}

    def reserve_numbers(self, prefix: str, count: int) -> int:
        while True:
            answer = self._server.request("GET", f"{self._database}/{NUMBERS}", expect=(404,))
            found: dict[str, Any] = (
                answer.value if answer.status != 404 else {"_id": NUMBERS, "type": "picas"}
            )
            given = dict(found.get("given") or {})
            last = int(given[prefix]) if prefix in given else self._highest_number(prefix)
            given[prefix] = last + count
            # Two equal documents would both win, and two callers get the same numbers.
            document = {**found, "given": given, "nonce": random.getrandbits(64)}
            written = bulk.write(self._server, self._database, [bulk.Write(document)])[0]
            if written.revision is not None and written.quorum:
                self._given[prefix] = last + count
                return last + 1

    def _highest_number(self, prefix: str) -> int:
        highest = -1
        query: dict[str, Any] = {"limit": ID_PAGE}
        if prefix:
            query.update(startkey=json.dumps(prefix), endkey=json.dumps(prefix + "\U0010ffff"))
        while True:
            answer = self._server.request("GET", f"{self._database}/_all_docs", query=query)
            rows = answer.value["rows"]
            for row in rows:
                highest = max(highest, number_after(prefix, row["id"]))
            if len(rows) < ID_PAGE:
                return highest
            query.update(startkey=json.dumps(rows[-1]["id"]), skip=1)

    def _note_given(self, ids: Sequence[str]) -> None:
        """Let the numbers that are given out go on after those of these ids.

        A prefix that nobody has asked numbers of is not in the document; it is searched when somebody does.
        """
        if not any(token_id[-1:].isdigit() and not self._is_given(token_id) for token_id in ids):
            return
        while True:
            answer = self._server.request("GET", f"{self._database}/{NUMBERS}", expect=(404,))
            given = dict(answer.value.get("given") or {}) if answer.status != 404 else {}
            highest = {
                prefix: max((number_after(prefix, i) for i in ids if i.startswith(prefix)), default=-1)
                for prefix in given
            }
            raised = {prefix: number for prefix, number in highest.items() if number > given[prefix]}
            if raised:
                document = {**answer.value, "given": {**given, **raised}, "nonce": random.getrandbits(64)}
                written = bulk.write(self._server, self._database, [bulk.Write(document)])[0]
                if written.revision is None:
                    continue
            self._given.update(given, **raised)
            return

    def _is_given(self, token_id: str) -> bool:
        prefix = token_id.rstrip("0123456789")
        return number_after(prefix, token_id) <= self._given.get(prefix, -1)

    # --- Reading ---

    def fetch(self, ids: Sequence[str]) -> list[Token | None]:
        if not ids:
            return []
        answer = self._server.request(
            "POST", f"{self._database}/_all_docs", {"keys": list(ids)}, query={"include_docs": True}
        )
        return [self._token(row["doc"]) if row.get("doc") else None for row in answer.value["rows"]]

    def scan(
        self, states: Collection[State] | None = None, where: Selection | None = None
    ) -> Iterator[Token]:
        wanted = STATES if states is None else tuple(states)
        last: tuple[Any, ...] = ()
        for place, state, doc in merge(*self._streams(wanted), key=lambda item: item[0]):
            if place <= last:
                continue  # it moved to another state meanwhile, and has been seen in the one before
            token = self._token(doc)
            if token.state is state and (where is None or where.matches(token.id, token.body)):
                last = place
                yield token

    def _streams(self, states: Sequence[State | None]) -> list[Iterator[tuple[Any, State | None, Any]]]:
        """For each state, and each priority in it, its rows by age."""
        groups = self._rows({"group_level": 2})
        names = {state.value if state else None: state for state in states}
        found = [(row["key"][0], row["key"][1]) for row in groups if row["key"][0] in names]
        if len(found) > MANY_PRIORITIES:
            return [self._stream([name], state) for name, state in names.items()]
        return [self._stream([name, priority], names[name]) for name, priority in found]

    def _stream(self, start: list[Any], state: State | None) -> Iterator[tuple[Any, State | None, Any]]:
        for place, doc in self._aged(start):
            yield place, state, doc

    def _aged(self, start: list[Any], *, newest: bool = False) -> Iterator[tuple[Any, Any]]:
        """The documents whose rows begin with this, by age, each with its place in that order."""
        query: dict[str, Any] = {"reduce": False, "include_docs": True, "limit": PAGE, "descending": newest}
        ends = ([*start, {}], start) if newest else (start, [*start, {}])
        query.update(startkey=ends[0], endkey=ends[1])
        while True:
            rows = self._rows(query)
            for row in rows:
                if row.get("doc"):
                    yield (row["key"][2], row["id"]), row["doc"]
            if len(rows) < PAGE:
                return
            query.update(startkey=rows[-1]["key"], startkey_docid=rows[-1]["id"], skip=1)

    def counts(self, where: Selection | None = None) -> dict[State | None, int]:
        counted: dict[State | None, int] = dict.fromkeys(STATES, 0)
        if where is not None:
            for token in self.scan(None, where):
                counted[token.state] += 1
            return counted
        for row in self._rows({"group_level": 1}):
            name = row["key"][0]
            counted[State(name) if name else None] += row["value"]
        return counted

    def progress(self, seconds: float) -> Progress:
        now = self.now()
        since = {"startkey": now - seconds}
        rows = self._view(design.MAIN, "finished", since)
        if not rows:
            return Progress(now, seconds, 0, None)
        stats = rows[0]["value"]
        first = self._view(design.MAIN, "finished", {**since, "reduce": False, "limit": 1})
        wall = stats["sum"] / stats["count"]
        span = max(now - first[0]["key"] + wall, 0.001) if first else seconds
        return Progress(now, min(seconds, span), int(stats["count"]), wall)

    def read_attachment(self, token_id: str, name: str) -> Iterator[bytes]:
        path = f"{self._database}/{quote(token_id, safe='')}/{quote(name, safe='')}"
        pieces = self._server.download(path, CHUNK_BYTES)
        if pieces is None:
            raise TokenNotFound(f"{self.url}: token {token_id} has no attachment {name}")
        return pieces

    # --- Claiming ---

    def claim(
        self, take: Callable[[Token], Token], limit: int, where: Selection | None, order: str
    ) -> list[Token]:
        with self._claiming:
            recovered = self._resolve_doubt()
            if recovered:
                return recovered
            walk = self._walks.setdefault(where.text if where else "", Walk(self._rows, where))
            pause = BACK_OFF_SECONDS[0]
            for _ in range(ROUNDS):
                if order == "priority":
                    candidates = walk.candidates(limit)
                else:
                    candidates = self._by_age(limit, where, newest=order == "newest")
                if not candidates:
                    return []
                won = self._lock(take, candidates)
                walk.met_others(len(candidates), len(won))
                if won:
                    return won
                time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads pilots
                pause = min(pause * 2, BACK_OFF_SECONDS[1])
        raise PoolUnavailable(f"{self.url}: others were faster {ROUNDS} times in a row")

    def _lock(self, take: Callable[[Token], Token], docs: Sequence[Mapping[str, Any]]) -> list[Token]:
        """Write the claims; those that hold."""
        tokens = [take(self._token(doc)) for doc in docs]
        writes = [bulk.Write(bulk.document(token), tuple(token.attachments)) for token in tokens]
        try:
            answers = bulk.write(self._server, self._database, writes)
        except PoolUnavailable:
            self._in_doubt = tokens
            return self._resolve_doubt()
        return [
            self._as_written(token, written)
            for token, written in zip(tokens, answers)
            if written.revision is not None and written.quorum
        ]

    def _resolve_doubt(self) -> list[Token]:
        """The claims of a write without an answer that turn out to hold.

        Raises:
            PoolUnavailable: the server still does not answer; they stay in doubt.
        """
        if not self._in_doubt:
            return []
        current = self.fetch([token.id for token in self._in_doubt])
        claims = {token.id: token.claim_id for token in self._in_doubt}
        self._in_doubt = []
        return [token for token in current if token is not None and token.claim_id == claims[token.id]]

    def _by_age(self, limit: int, where: Selection | None, *, newest: bool) -> list[dict[str, Any]]:
        """The oldest or newest free documents, whatever their priority."""
        groups = self._rows({**FREE, "reduce": True, "group_level": 2})
        streams = [self._aged(row["key"], newest=newest) for row in groups]
        found: list[dict[str, Any]] = []
        for _, doc in merge(*streams, key=lambda item: item[0], reverse=newest):
            token = token_from_document(doc)
            if token.state is State.TODO and (where is None or where.matches(token.id, token.body)):
                found.append(doc)
                if len(found) == limit:
                    break
        return found

    # --- Changing ---

    def replace(self, changes: Sequence[Change]) -> list[Token | None]:
        names = self._attached.known([change.token for change in changes], self.fetch)
        with tempfile.TemporaryDirectory(prefix="picas-moving-") as folder:
            writes = [
                self._write_of(change, there, Path(folder, str(i)))
                for i, (change, there) in enumerate(zip(changes, names))
            ]
            answers = bulk.write(self._server, self._database, writes)
        return [
            self._as_written(change.token, written, [*write.stubs, *(p.name for p in write.payloads)])
            if written.revision is not None and (written.quorum or _is_over(change.token))
            else None
            for change, write, written in zip(changes, writes, answers)
        ]

    def _write_of(self, change: Change, there: Collection[str], folder: Path) -> bulk.Write:
        payloads = {payload.name: payload for payload in change.attach}
        stubs = dict.fromkeys(there)
        for old, new in change.rename.items():
            if old in stubs:
                del stubs[old]
                payloads.setdefault(new, self._copy(change.token.id, old, new, folder))
        kept = [name for name in stubs if name not in payloads]
        return bulk.Write(bulk.document(change.token), kept, tuple(payloads.values()))

    def _copy(self, token_id: str, old: str, new: str, folder: Path) -> Payload:
        """An attachment as it is, to be attached under another name: the server itself cannot rename one."""
        folder.mkdir(exist_ok=True)
        path = folder / str(len(list(folder.iterdir())))
        with open(path, "xb") as file:
            file.writelines(self.read_attachment(token_id, old))
        token = self.fetch([token_id])[0]
        info = token.attachments.get(old) if token else None
        return file_payload(new, info.content_type if info else "text/plain", path)

    def _as_written(self, token: Token, written: Written, names: Collection[str] | None = None) -> Token:
        self._attached.remember(token.id, written.revision, token.attachments if names is None else names)
        return Token(token.id, token.body, written.revision, token.attachments if names is None else {})

    def delete(self, tokens: Sequence[Token]) -> list[bool]:
        writes = [bulk.Write({"_id": token.id, "_rev": token.rev, "_deleted": True}) for token in tokens]
        answers = bulk.write(self._server, self._database, writes)
        return [written.revision is not None for written in answers]


class _Attached:
    """The names of the attachments of versions that this process has seen.

    A document that is written without naming its attachments loses them, so they must be known.
    """

    def __init__(self) -> None:
        self._names: OrderedDict[tuple[str, str], tuple[str, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def remember(self, token_id: str, revision: str | None, names: Collection[str]) -> None:
        if revision is None:
            return
        with self._lock:
            self._names[token_id, revision] = tuple(names)
            while len(self._names) > REMEMBERED:
                self._names.popitem(last=False)

    def known(
        self, tokens: Sequence[Token], fetch: Callable[[Sequence[str]], list[Token | None]]
    ) -> list[tuple[str, ...]]:
        """The names for each token; of versions that are not known they are asked for."""
        unknown = [token.id for token in tokens if (token.id, token.rev or "") not in self._names]
        fetch(unknown)  # remembers what it finds; a version that is not the current one will not be written
        return [self._names.get((token.id, token.rev or ""), ()) for token in tokens]


def _is_over(token: Token) -> bool:
    """Whether a token is finished: its result is worth keeping also where too few nodes have confirmed it."""
    return token.state in (State.DONE, State.ERROR)
