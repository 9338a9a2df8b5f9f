"""A cluster of three CouchDB nodes as a model, in which everything happens in an order that is drawn by lot.

Only what claims are about: documents with their revision trees, on each node its own; writes that reach the nodes one
by one, reads of a quorum, nodes that tell each other what they have, nodes that are cut off. Programs run in threads
of which one at a time is awake, and every step on a node is a place where another one may go on. Time is made up.
"""

from __future__ import annotations

import hashlib
import json
import random
import threading
from dataclasses import dataclass
from typing import Any, Callable

from picas.stores.couch.http import Answer

NODES = 3
QUORUM = 2

LONG_SECONDS = 2.0
"""How long a message may be under way; most are there at once."""


class Lot:
    """Decides who goes on; one thread at a time does."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 1_000_000.0
        self._awake_at: dict[threading.Thread, float] = {}
        self._running: threading.Thread | None = None
        self._changed = threading.Condition()
        self.errors: list[BaseException] = []

    def run(self, programs: list[Callable[[], None]]) -> None:
        """Run these to their ends."""
        threads = [threading.Thread(target=self._program, args=(program,)) for program in programs]
        self._awake_at = dict.fromkeys(threads, self.now)
        for thread in threads:
            thread.start()
        with self._changed:
            self._choose()
        for thread in threads:
            thread.join()
        if self.errors:
            raise self.errors[0]

    def _program(self, program: Callable[[], None]) -> None:
        me = threading.current_thread()
        with self._changed:
            self._changed.wait_for(lambda: self._running is me)
        try:
            program()
        except BaseException as error:  # noqa: BLE001 - raised by run
            self.errors.append(error)
        with self._changed:
            del self._awake_at[me]
            self._choose()

    def sleep(self, seconds: float) -> None:
        """Let others go on, and come back after so long or later."""
        me = threading.current_thread()
        if me not in self._awake_at:
            self.now += seconds
            return
        with self._changed:
            self._awake_at[me] = self.now + seconds
            self._choose()
            self._changed.wait_for(lambda: self._running is me)

    def step(self) -> None:
        """Something takes a moment, and now and then long."""
        late = self.random.random() < 0.05
        self.sleep(self.random.uniform(0, LONG_SECONDS) if late else 0.0)

    def _choose(self) -> None:
        if self._awake_at:
            ready = [thread for thread, at in self._awake_at.items() if at <= self.now]
            if not ready:
                first = min(self._awake_at, key=lambda thread: self._awake_at[thread])
                self.now, ready = self._awake_at[first], [first]
            self._running = self.random.choice(ready)
        self._changed.notify_all()

    # what stands in for the module time

    def monotonic(self) -> float:
        return self.now

    time = monotonic


@dataclass(frozen=True)
class Version:
    """One version of a document."""

    parent: str | None
    body: dict[str, Any]
    deleted: bool


Tree = dict[str, Version]


def leaves_of(tree: Tree) -> list[str]:
    parents = {version.parent for version in tree.values()}
    return sorted((rev for rev in tree if rev not in parents), key=_rank)


def shown(tree: Tree) -> str | None:
    alive = [rev for rev in leaves_of(tree) if not tree[rev].deleted]
    return alive[-1] if alive else None


def _rank(rev: str) -> tuple[int, str]:
    generation, _, digest = rev.partition("-")
    return int(generation), digest


class Cluster:
    """The nodes, and who can reach whom."""

    def __init__(self, lot: Lot) -> None:
        self.lot = lot
        self.nodes: list[dict[str, Tree]] = [{} for _ in range(NODES)]
        self.alone: int | None = None
        self.well = False

    def reach(self, one: int, other: int) -> bool:
        return one == other or self.alone not in {one, other}

    def replicate(self, one: int, other: int) -> None:
        """The one tells the other all it has."""
        if self.reach(one, other):
            for doc_id, tree in self.nodes[one].items():
                self.nodes[other].setdefault(doc_id, {}).update(tree)

    def heal(self) -> None:
        self.alone = None
        for one in (*range(NODES), *range(NODES)):
            for other in range(NODES):
                self.replicate(one, other)

    def edit(self, node: int, doc: dict[str, Any], rev: str) -> bool:
        """What a node makes of a write of its own: refused if the version before is no leaf there."""
        tree = self.nodes[node].setdefault(doc["_id"], {})
        parent = doc.get("_rev")
        if parent not in leaves_of(tree) if parent else shown(tree) is not None:
            return False
        body = {key: value for key, value in doc.items() if key not in {"_id", "_rev", "_deleted"}}
        tree[rev] = Version(parent, body, bool(doc.get("_deleted")))
        return True


class NodeServer:
    """Stands in for `picas.stores.couch.http.Server`: one node of the cluster, asked by one program."""

    url = "http://model"
    patience = 0.0

    def __init__(self, cluster: Cluster, node: int) -> None:
        self.cluster = cluster
        self.node = node

    def now(self) -> float:
        return self.cluster.lot.now

    def request(
        self, method: str, path: str, value: Any = None, *, query: Any = None, expect: Any = ()
    ) -> Answer:
        if path.endswith("/_bulk_docs"):
            docs = json.loads(value)["docs"] if isinstance(value, bytes) else value["docs"]
            return Answer(201, [self._write(doc) for doc in docs])
        if path.endswith("/_bulk_get"):
            return Answer(200, {"results": [self._read(each["id"]) for each in value["docs"]]})
        assert method == "GET"
        return Answer(200, {"cluster": {"n": NODES}})

    def _others(self) -> list[int]:
        order = list(range(NODES))
        self.cluster.lot.random.shuffle(order)
        return order

    def _write(self, doc: dict[str, Any]) -> dict[str, Any]:
        generation = _rank(doc.get("_rev", "0-"))[0] + 1
        rev = f"{generation}-{hashlib.md5(json.dumps(doc, sort_keys=True).encode()).hexdigest()}"
        taken = 0
        for node in self._others():
            self.cluster.lot.step()
            taken += self.cluster.reach(self.node, node) and self.cluster.edit(node, doc, rev)
        if not taken:
            return {"id": doc["_id"], "error": "conflict"}
        return {"ok": True, "id": doc["_id"], "rev": rev, **({"accepted": True} if taken < QUORUM else {})}

    def _read(self, doc_id: str) -> dict[str, Any]:
        seen: Tree = {}
        answers = 0
        for node in self._others():
            self.cluster.lot.step()
            if not self.cluster.reach(self.node, node):
                continue
            tree = self.cluster.nodes[node].get(doc_id, {})
            same = leaves_of({**seen, **tree}) == leaves_of(seen) == leaves_of(tree)
            seen.update(tree)
            answers += 1
            if answers >= QUORUM and same:
                break
        docs = [
            {
                "_id": doc_id,
                "_rev": rev,
                **({"_deleted": True} if seen[rev].deleted else {}),
                **seen[rev].body,
            }
            for rev in leaves_of(seen)
        ]
        return {"id": doc_id, "docs": [{"ok": doc} for doc in docs]}

    def todo(self) -> list[dict[str, Any]]:
        """What a view on this node alone would show as free."""
        self.cluster.lot.step()
        found = []
        for doc_id, tree in self.cluster.nodes[self.node].items():
            rev = shown(tree)
            if rev is not None and tree[rev].body["lock"] == 0:
                found.append({"_id": doc_id, "_rev": rev, **tree[rev].body})
        return found
