"""The pool in an Apache CouchDB database, shared by machines everywhere.

What reads views is in `picas.stores.couch.index`, claiming in `picas.stores.couch.claims`, writing in `picas.stores.couch.bulk`.
"""

from __future__ import annotations

import json
import tempfile
import time
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable
from urllib.parse import quote, unquote

from picas.errors import PicasError, PoolRefused, TokenNotFound
from picas.payload import CHUNK_BYTES, Payload
from picas.stores.base import Change
from picas.stores.couch import bulk, leaves
from picas.stores.couch.admin import who_am_i
from picas.stores.couch.attached import Attached
from picas.stores.couch.claims import Claims
from picas.stores.couch.copies import copied
from picas.stores.couch.designs import Designs
from picas.stores.couch.doubt import SETTLE_SECONDS, Doubts
from picas.stores.couch.feed import CouchWatch
from picas.stores.couch.filling import CouchFilling, Turn
from picas.stores.couch.fleet import CouchFleet
from picas.stores.couch.http import segment
from picas.stores.couch.index import STATES
from picas.stores.couch.indexes import open_index, open_view
from picas.stores.couch.numbers import Numbers
from picas.stores.couch.strangers import Strangers
from picas.tokens import State, Token
from picas.transitions import claimed_as, release

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from picas.selection import Selection
    from picas.stores.base import Filling, Progress, Tally
    from picas.stores.couch.http import Server
    from picas.stores.couch.index import Index, Read


class CouchStore:
    """A `picas.stores.base.Store` in a CouchDB database. See there for what the methods guarantee.

    Args:
        server: the server.
        database: the database's name.
        view: claims take only tokens that this view lists, such as ``SingleCore/todo``.

    Raises:
        PoolRefused: there is no such database, or we may not use it.
        PoolUnavailable: the server does not answer.
        InvalidInput: there is no such view.
    """

    at_once = 1

    def __init__(self, server: Server, database: str, view: str | None = None) -> None:
        self._server = server
        self._database = quote(database, safe="")
        self.url = f"{server.url}/{self._database}"
        found = server.request("GET", self._database, expect=(404,))
        if found.status == 404:
            raise PoolRefused(
                f"there is no database {database} on {server.url}",
                "Check the name; whoever runs the server can make it.",
            )
        if not isinstance(found.value, dict) or "db_name" not in found.value:
            raise PoolRefused(
                f"what answers at {self.url} is no CouchDB",
                "Check the address of the pool, its port and path.",
            )
        self._attached = Attached(digests="auto_compaction" in found.value)  # what PouchDB's server tells
        self._known_index: Index | None = None
        self._known_user: str | None = None
        self._view_name = view or ""
        self._view = open_view(server, self._database, view) if view else None
        self._numbers = Numbers(server, self._database)
        strangers = Strangers(server, self._database, self._last_stranger)
        self._is_cluster = int((found.value.get("cluster") or {}).get("n", 1)) > 1
        doubts = Doubts(server, self._database, self._to_mend, is_cluster=self._is_cluster)
        self._claims = Claims(
            server, self._database, self._reader, self._attached, doubts, strangers, self._due
        )

    def through(self, view: str) -> CouchStore:
        return CouchStore(self._server, unquote(self._database), view)

    @property
    def designs(self) -> Designs:
        """The database's design documents."""
        return Designs(self._server, self._database)

    @property
    def fleet(self) -> CouchFleet:
        """See `picas.stores.base.Store`."""
        return CouchFleet(self._server, self._database)

    @property
    def _index(self) -> Index:
        if self._known_index is None:
            self._known_index = open_index(self._server, self._database)
        return self._known_index

    def _reader(self, where: Selection | None) -> Read:
        return (self._view or self._index).reader(where)

    def _last_stranger(self) -> float | None:
        return self._index.last_stranger()

    def _due(self, limit: int) -> list[tuple[float, str]]:
        return (self._view or self._index).due(limit)

    def _to_mend(self, limit: int) -> list[str]:
        return self._index.to_mend(limit)

    def close(self) -> None:
        """Give back claims that nobody was told of, and close the connections that are not in use."""
        with suppress(PicasError):
            held = self._claims.leave()
            self.replace([Change(release(token, self.now())) for token in held])
        self._server.close()

    def now(self) -> float:
        """The time by the server's clock."""
        return self._server.now()

    # --- Adding ---

    def insert(
        self, tokens: Sequence[Token], files: Mapping[str, Sequence[Payload]] | None = None
    ) -> list[Token | None]:
        return self._add(tokens, files or {}, self._taken_push_keys(tokens))

    def _add(
        self, tokens: Sequence[Token], files: Mapping[str, Sequence[Payload]], there: set[Any]
    ) -> list[Token | None]:
        """Add tokens whose push keys are not among these."""
        writes = [bulk.Write(bulk.document(token), {}, _by_name(files.get(token.id, ()))) for token in tokens]
        wanted = []
        for i, token in enumerate(tokens):
            key = token.push_key
            if key is None or key not in there:
                wanted.append(i)
                there.add(key)
        self._numbers.note([tokens[i].id for i in wanted])
        answers = bulk.write(self._server, self._database, [writes[i] for i in wanted])
        added: list[Token | None] = [None] * len(tokens)
        for i, written in zip(wanted, answers):
            if written.revision is not None:
                names = dict.fromkeys(payload.name for payload in writes[i].payloads)
                self._attached.remember(tokens[i].id, written.revision, names)
                added[i] = Token(tokens[i].id, tokens[i].body, written.revision)
        bulk.raise_refusals(answers, added)
        return added

    def _taken_push_keys(self, tokens: Sequence[Token]) -> set[Any]:
        keys = [key for token in tokens if (key := token.picas.get("push")) is not None]
        return set(self.known_push_keys(keys)) if keys else set()

    def known_push_keys(self, keys: Collection[str]) -> set[str]:
        return self._index.push_keys(keys)

    @contextmanager
    def filling(self, on_wait: Callable[[str], object] | None = None) -> Iterator[Filling]:
        with Turn(self._server, self._database, on_wait) as turn:
            yield CouchFilling(
                turn,
                self._index.push_keys,
                lambda tokens, files: self._add(tokens, files, set()),
                self.insert,
            )

    def reserve_numbers(self, prefix: str, count: int) -> int:
        return self._numbers.reserve(prefix, count)

    # --- Reading ---

    def fetch(self, ids: Sequence[str]) -> list[Token | None]:
        if not ids:
            return []
        answer = self._server.request(
            "POST", f"{self._database}/_all_docs", {"keys": list(ids)}, query={"include_docs": True}
        )
        return [self._attached.token(row["doc"]) if row.get("doc") else None for row in answer.value["rows"]]

    def newest(self, token: Token) -> Token | None:
        current = self._of_claim(token) or self._otherwise(token)
        if current is not None:
            self._attached.remember(current.id, current.rev, current.attachments)
        return current

    def _of_claim(self, token: Token) -> Token | None:
        """The version that knows of this token's claim."""
        found = leaves.read(self._server, self._database, [token.id])[0]
        return leaves.with_claim(found, token.claim_id) or leaves.with_attempt(found, token.claim_id)

    def _otherwise(self, token: Token) -> Token | None:
        """What there is where no version knows of this token's claim.

        Raises:
            PoolUnavailable: there may be one on nodes of a cluster that are out of reach.
        """
        if self._is_cluster:
            leaves.expect_quorum(self._server, self._database)
            time.sleep(SETTLE_SECONDS)
            late = self._of_claim(token)
            if late is not None:
                return late
        found = leaves.read(self._server, self._database, [token.id])[0]
        return found[0] if found else None

    def scan(
        self, states: Collection[State] | None = None, where: Selection | None = None
    ) -> Iterator[Token]:
        for doc in self._index.documents(STATES if states is None else states):
            token = self._attached.token(doc)
            if where is None or where.matches(token.id, token.body):
                yield token

    def counts(self, where: Selection | None = None) -> dict[State | None, int]:
        if where is None:
            return self._index.counts()
        counted: dict[State | None, int] = dict.fromkeys(STATES, 0)
        for token in self.scan(None, where):
            counted[token.state] += 1
        return counted

    def tally(self, fields: Sequence[Sequence[str]]) -> list[Tally]:
        return self._index.tally(fields, self.now())

    def latest(self, limit: int) -> list[Token]:
        return [self._attached.token(doc) for doc in self._index.latest(limit)]

    def progress(self, seconds: float) -> Progress:
        return self._index.progress(self.now(), seconds)

    def other_documents(self) -> int:
        documents = int(self._server.request("GET", self._database).value["doc_count"])
        designs = self._ids_from("_design/", "_design0")
        ours = [row for row in self._ids_from("picas_", "picas`") if row["doc"].get("type") == "picas"]
        return max(0, documents - len(designs) - len(ours) - sum(self.counts().values()))

    def _ids_from(self, first: str, end: str) -> list[Any]:
        """Rows of the documents with ids from ``first`` on and before ``end``."""
        query = {"startkey": first, "endkey": end, "inclusive_end": False, "include_docs": True}
        path = f"{self._database}/_all_docs"
        rows: list[Any] = self._server.request(
            "GET", path, query={name: json.dumps(value) for name, value in query.items()}
        ).value["rows"]
        return rows

    def read_attachment(self, token_id: str, name: str) -> Iterator[bytes]:
        path = f"{self._database}/{segment(token_id)}/{segment(name)}"
        pieces = self._server.download(path, CHUNK_BYTES)
        if pieces is None:
            raise TokenNotFound(f"{self.url}: token {token_id} has no attachment {name}")
        return pieces

    # --- Claiming ---

    def claim(
        self, take: Callable[[Token], Token], limit: int, where: Selection | None, order: str
    ) -> list[Token]:
        user = self._user_name()
        if user is None:
            return self._claims.claim(take, limit, where, order)
        return self._claims.claim(lambda token: claimed_as(take(token), user), limit, where, order)

    def _user_name(self) -> str | None:
        """Who claims, as the server knows him; None for nobody in particular. A rule of the database may ask for it."""
        login = self._server.login
        if login is None or login.username:
            return login.username if login else None
        if self._known_user is None:  # a bearer token says it to the server, not to us
            self._known_user = who_am_i(self._server).name
        return self._known_user

    def next_due(self, where: Selection | None = None) -> float | None:
        return (self._view or self._index).next_due(where)

    def watch(self) -> CouchWatch:
        return CouchWatch(self._server, self._database, self._free_count, self._claims, self._view_name)

    def _free_count(self, update: str) -> int:
        return (self._view or self._index).free_count(update)

    # --- Changing ---

    def replace(self, changes: Sequence[Change]) -> list[Token | None]:
        names = self._attached.known([change.token for change in changes], self.fetch)
        moving = any(change.rename for change in changes)
        with tempfile.TemporaryDirectory(prefix="picas-moving-") if moving else nullcontext("") as folder:
            possible = [
                self._write_of(change, there, Path(folder, str(i)))
                for i, (change, there) in enumerate(zip(changes, names))
            ]
            writes = [write for write in possible if write is not None]
            sent = iter(bulk.write(self._server, self._database, writes))
        answers = [bulk.Written(None) if write is None else next(sent) for write in possible]
        # Without a quorum too: whoever writes here has the token or speaks for its user, and is not to wait until
        # nodes are back. Of claims alone it matters, and those are not made here.
        replaced = [
            self._as_written(change.token, written, write)
            if write is not None and written.revision is not None
            else None
            for change, write, written in zip(changes, possible, answers)
        ]
        bulk.raise_refusals(answers, replaced)
        return replaced

    def _write_of(self, change: Change, there: bulk.Stubs, folder: Path) -> bulk.Write | None:
        """The write; None if the version that it replaces is not there any more."""
        payloads = {payload.name: payload for payload in change.attach}
        stubs = dict(there)
        for old, new in change.rename.items():
            if old in stubs:
                del stubs[old]
                folder.mkdir(exist_ok=True)
                path = folder / str(len(payloads))
                copy = copied(self._server, self._database, change.token, old, new, path)
                if copy is None:
                    return None
                payloads.setdefault(new, copy)
        gone = payloads.keys() | set(change.remove)
        kept = {name: info for name, info in stubs.items() if name not in gone}
        return bulk.Write(bulk.document(change.token), kept, tuple(payloads.values()))

    def _as_written(self, token: Token, written: bulk.Written, write: bulk.Write) -> Token:
        files = dict.fromkeys(payload.name for payload in write.payloads)
        self._attached.remember(token.id, written.revision, {**write.stubs, **files})
        return Token(token.id, token.body, written.revision)

    def delete(self, tokens: Sequence[Token]) -> list[bool]:
        writes = [bulk.Write({"_id": token.id, "_rev": token.rev, "_deleted": True}) for token in tokens]
        answers = bulk.write(self._server, self._database, writes)
        deleted = [written.revision is not None for written in answers]
        self._delete_conflicting([token for token, gone in zip(tokens, deleted) if gone])
        bulk.raise_refusals(answers, deleted)
        return deleted

    def _delete_conflicting(self, gone: Sequence[Token]) -> None:
        """Of deleted tokens delete also the versions that were in conflict with them and come to light now."""
        if not gone:
            return
        keys = {"keys": [token.id for token in gone]}
        rows = self._server.request("POST", f"{self._database}/_all_docs", keys).value["rows"]
        # What somebody has made anew since is younger than what was deleted.
        hidden = [
            {"_id": token.id, "_rev": row["value"]["rev"], "_deleted": True}
            for token, row in zip(gone, rows)
            if not row.get("value", {"deleted": True}).get("deleted")
            and leaves.generation(row["value"]["rev"]) <= leaves.generation(token.rev)
        ]
        if hidden:
            bulk.write(self._server, self._database, [bulk.Write(each) for each in hidden])
            self._delete_conflicting(
                [token for token in gone if token.id in {each["_id"] for each in hidden}]
            )


def _by_name(payloads: Iterable[Payload]) -> tuple[Payload, ...]:
    """What is to be attached; of two of one name the last counts."""
    return tuple({payload.name: payload for payload in payloads}.values())
