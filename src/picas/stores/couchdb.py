"""The pool in an Apache CouchDB database, shared by machines everywhere.

Claims walk the index (see `picas.stores.walk`) and lock a batch in one ``_bulk_docs``. A claim holds only if
the server confirms it with a quorum: on a cluster a write that is merely ``accepted`` may be one of two
winners, so it is walked away from. Every claim has a random id, since two equal documents get the same
revision and would both win.
"""

from __future__ import annotations

import json
import tempfile
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable
from urllib.parse import quote, unquote

from picas.errors import PicasError, PoolRefused, TokenNotFound
from picas.payload import CHUNK_BYTES, Payload
from picas.stores import bulk, leaves
from picas.stores.attached import Attached
from picas.stores.base import Change
from picas.stores.claims import Claims
from picas.stores.copies import copied
from picas.stores.designs import Designs
from picas.stores.feed import CouchWatch
from picas.stores.filling import CouchFilling, Turn
from picas.stores.http import segment
from picas.stores.index import STATES
from picas.stores.indexes import open_index, open_view
from picas.stores.numbers import Numbers
from picas.stores.strangers import Strangers
from picas.tokens import State, Token, release

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from picas.selection import Selection
    from picas.stores.base import Change, Progress
    from picas.stores.bulk import Written
    from picas.stores.http import Server
    from picas.stores.index import Index

REMEMBERED = 20_000
"""Versions of tokens whose attachments' names are remembered, so that a write need not ask for them."""

ROUNDS = 20
"""How often a claim tries to win against others before it reports that it could not."""

BACK_OFF_SECONDS = (0.01, 1.0)
"""Shortest and longest pause between two of these tries."""


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
        self._index: Index = OwnIndex(server, self._database)
        self._numbers = Numbers(server, self._database)
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

    def _token(self, doc: Mapping[str, Any]) -> Token:
        token = token_from_document(doc)
        self._attached.remember(token.id, token.rev, token.attachments)
        return token

    # --- Adding ---

    def insert(
        self, tokens: Sequence[Token], files: Mapping[str, Sequence[Payload]] | None = None
    ) -> list[Token | None]:
        files = files or {}
        writes = [bulk.Write(bulk.document(token), (), _by_name(files.get(token.id, ()))) for token in tokens]
        there = self._taken_push_keys(tokens)
        wanted = []
        for i, token in enumerate(tokens):
            key = token.picas.get("push")
            if key is None or key not in there:
                wanted.append(i)
                there.add(key)
        self._numbers.note([tokens[i].id for i in wanted])
        answers = bulk.write(self._server, self._database, [writes[i] for i in wanted])
        added: list[Token | None] = [None] * len(tokens)
        for i, written in zip(wanted, answers):
            if written.revision is not None:
                names = [payload.name for payload in writes[i].payloads]
                self._attached.remember(tokens[i].id, written.revision, names)
                added[i] = Token(tokens[i].id, tokens[i].body, written.revision)
        return added

    def _taken_push_keys(self, tokens: Sequence[Token]) -> set[Any]:
        keys = [key for token in tokens if (key := token.picas.get("push")) is not None]
        return set(self.known_push_keys(keys)) if keys else set()

    def known_push_keys(self, keys: Collection[str]) -> set[str]:
        return self._index.push_keys(keys)

    def reserve_numbers(self, prefix: str, count: int) -> int:
        return self._numbers.reserve(prefix, count)

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
        for doc in self._index.documents(STATES if states is None else states):
            token = self._token(doc)
            if where is None or where.matches(token.id, token.body):
                yield token

    def counts(self, where: Selection | None = None) -> dict[State | None, int]:
        if where is None:
            return self._index.counts()
        counted: dict[State | None, int] = dict.fromkeys(STATES, 0)
        for token in self.scan(None, where):
            counted[token.state] += 1
        return counted

    def progress(self, seconds: float) -> Progress:
        return self._index.progress(self.now(), seconds)

    def other_documents(self) -> int:
        documents = self._server.request("GET", self._database).value["doc_count"]
        designs = {"startkey": json.dumps("_design/"), "endkey": json.dumps("_design0")}
        answer = self._server.request("GET", f"{self._database}/_all_docs", query=designs)
        ours = len(answer.value["rows"]) + self._numbers.is_there()
        return max(0, int(documents) - ours - sum(self.counts().values()))

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
            walk = self._walks.setdefault(where.text if where else "", Walk(self._index.rows, where))
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
        fitting = (
            doc for doc in self._index.free(newest=newest) if where is None or where.matches(doc["_id"], doc)
        )
        return list(islice(fitting, limit))

    # --- Changing ---

    def replace(self, changes: Sequence[Change]) -> list[Token | None]:
        names = self._attached.known([change.token for change in changes], self.fetch)
        moving = any(change.rename for change in changes)
        with tempfile.TemporaryDirectory(prefix="picas-moving-") if moving else nullcontext("") as folder:
            possible = [
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


def _by_name(payloads: Iterable[Payload]) -> tuple[Payload, ...]:
    """What is to be attached; of two of one name the last counts."""
    return tuple({payload.name: payload for payload in payloads}.values())


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
