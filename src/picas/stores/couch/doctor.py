"""What is wrong with a CouchDB database: conflicts, design documents, room that is wasted.

Whether pilots can work at all is what `picas.stores.couch.checkup` looks at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable
from urllib.parse import quote

from picas.errors import PoolError, PoolRefused
from picas.stores import design
from picas.stores.couch import conflicts
from picas.stores.couch.admin import MAY_NOT
from picas.stores.couch.designs import Designs
from picas.stores.design import GUARD, NEXT
from picas.stores.finding import OK, WARNING, Ailment, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from picas.stores.classic_designs import Found
    from picas.stores.couch.http import Server

    Sizes = Mapping[str, Any]

WASTEFUL_BYTES = 100_000_000
"""So much room may be wasted without a word."""

WASTEFUL_FACTOR = 3
"""A file is too large if it is so many times what its content needs."""

MANY_TOMBSTONES = 10_000
"""So many deleted documents cost nothing worth a word: each is an id and a revision, in the index of all ids."""


class CouchDoctor:
    """A look at one database.

    Args:
        database: its name.
    """

    def __init__(self, server: Server, database: str) -> None:
        self._server = server
        self._path = quote(database, safe="")
        self._designs = Designs(server, self._path)

    def checks(self) -> Mapping[str, Callable[[], Iterator[Ailment]]]:
        """What can be looked at, by name."""
        return {
            "conflicts": self._conflicts,
            "views": self._views,
            "size": self._size,
            "tombstones": self._tombstones,
            "compaction": self._compaction,
        }

    # --- Conflicts ---

    def _conflicts(self) -> Iterator[Ailment]:
        count = conflicts.count(self._server, self._path)
        data = {"conflicts": count}
        if not count:
            yield Ailment(Finding("conflicts", OK, "none", data=data))
            return
        text = f"{count:,} with several versions, or a claim that was given up"
        yield Ailment(
            Finding("conflicts", WARNING, text, "Pilots that find nothing to do mend them.", data),
            self._mend_conflicts,
        )

    def _mend_conflicts(self) -> str:
        done = conflicts.mend_all(self._server, self._path, self._server.now())
        left = conflicts.count(self._server, self._path)
        told = f"made one of {len(done.merged):,}, freed {len(done.freed):,}"
        if left:
            raise PoolError(
                f"{told}; {left:,} stay: held by claims that may be running, or different in what users wrote"
            )
        return told

    # --- Design documents ---

    def _views(self) -> Iterator[Ailment]:
        found = {each.name: each for each in self._designs.survey()}
        stale = self._stale(found)
        edited = [name for name, each in found.items() if each.judged.standing == "edited"]
        broken = [name for name, each in found.items() if None in each.rows.values()]
        foreign = [name for name, each in found.items() if not each.judged.ours and name not in broken]
        if stale:
            text = f"missing, of an older version, or left over: {', '.join(stale)}"
            finding = Finding("views", WARNING, text, "picas views create", {"stale": stale})
            yield Ailment(finding, lambda: self._renew(found))
        if edited:
            text = f"changed by somebody: {', '.join(edited)}"
            advice = "What is in them is not what it should be: picas views create --force, with --name NAME for one that is not Monitor."
            yield Ailment(Finding("views", WARNING, text, advice, {"edited": edited}))
        if broken:
            text = f"with views that the server cannot read: {', '.join(broken)}"
            advice = "Every change has it try again. If nobody needs them: picas views remove NAME --force"
            yield Ailment(Finding("views", WARNING, text, advice, {"broken": broken}))
        if not stale and not edited and not broken:
            more = f"; of other programs: {', '.join(foreign)}" if foreign else ""
            yield Ailment(Finding("views", OK, f"PiCaS's own are current{more}", data={"foreign": foreign}))

    def _stale(self, found: Mapping[str, Found]) -> list[str]:
        own = [name for name in design.own() if name not in found]
        older = [name for name, each in found.items() if each.judged.standing == "older"]
        # Of an exchange that was cut off: while one is going on the document it is for is not current yet.
        left = [
            name
            for name, each in found.items()
            if each.judged.kind == "building"
            and (of := found.get(name[: -len(NEXT)])) is not None
            and of.judged.standing == "current"
        ]
        return [*own, *older, *left]

    def _renew(self, found: Mapping[str, Found]) -> str:
        made = self._designs.create_own()
        for name in self._stale(found):
            if name == GUARD:
                made.append(self._designs.create_guard())
            elif name in found and found[name].judged.kind == "classic":
                made.append(self._designs.create_classic(name))
            elif (
                name in found
                and found[name].judged.kind == "building"
                and self._designs.get(name) is not None
            ):
                self._designs.remove(name)
        changed = [f"{each.name} {each.outcome}" for each in made if each.outcome != "unchanged"]
        return ", ".join(changed) or "removed what was left over"

    # --- Room ---

    def _size(self) -> Iterator[Ailment]:
        wasteful = self._wasteful()
        if not wasteful:
            yield Ailment(Finding("size", OK, "the files are about as large as what is in them"))
            return
        told = [f"{name} {file / 1e6:,.0f} MB for {active / 1e6:,.0f} MB" for name, file, active in wasteful]
        data = {name: {"file": file, "content": active} for name, file, active in wasteful}
        finding = Finding(
            "size",
            WARNING,
            f"too large for what is in them: {', '.join(told)}",
            "The server compacts them by itself, or when an administrator of the database asks it to.",
            {"files": data},
        )
        yield Ailment(finding, self._compact)

    def _wasteful(self) -> list[tuple[str, int, int]]:
        """Name, size of the file and of its content, of the database and each index, where the one is too large."""
        sizes: list[tuple[str, Sizes]] = [
            ("the database", self._info().get("sizes") or {}),
            *((each, self._index_sizes(each)) for each in self._with_views()),
        ]
        found = [(name, _bytes(each, "file"), _bytes(each, "active")) for name, each in sizes]
        return [
            (name, file, active)
            for name, file, active in found
            if file - active > WASTEFUL_BYTES and file > WASTEFUL_FACTOR * active
        ]

    def _with_views(self) -> list[str]:
        return [each.name for each in self._designs.survey() if each.rows]

    def _index_sizes(self, name: str) -> Sizes:
        path = f"{self._path}/_design/{quote(name, safe='')}/_info"
        value = self._server.request("GET", path, expect=(404,)).value
        index = value.get("view_index") if isinstance(value, dict) else None
        return (index or {}).get("sizes") or {}

    def _compact(self) -> str:
        self._ask(f"{self._path}/_compact")
        self._ask(f"{self._path}/_view_cleanup")
        for name in self._with_views():
            self._ask(f"{self._path}/_compact/{quote(name, safe='')}")
        return "asked the server to compact the database and its indexes, which takes a while"

    def _ask(self, path: str) -> None:
        answer = self._server.request("POST", path, {}, expect=(404, *MAY_NOT))
        if answer.status in MAY_NOT:
            raise PoolRefused(
                f"{self._server.url}: only an administrator of the database may have it compacted",
                "Ask one to run picas doctor --fix.",
            )

    def _tombstones(self) -> Iterator[Ailment]:
        info = self._info()
        gone, there = _count(info, "doc_del_count"), _count(info, "doc_count")
        data = {"deleted": gone, "documents": there}
        if gone <= MANY_TOMBSTONES or gone <= 2 * there:
            yield Ailment(Finding("tombstones", OK, f"{gone:,} of deleted documents", data=data))
            return
        text = f"{gone:,} of deleted documents, for {there:,} that there are: the server keeps them for ever"
        advice = "A new database is without: picas copy OLD NEW, and then work on that."
        yield Ailment(Finding("tombstones", WARNING, text, advice, data))

    def _compaction(self) -> Iterator[Ailment]:
        answer = self._server.request("GET", "_node/_local/_config/smoosh", expect=(400, 404, *MAY_NOT))
        if answer.status != 200:
            yield Ailment(Finding("compaction", OK, "only a server administrator is told how it is set"))
            return
        said = answer.value if isinstance(answer.value, dict) else {}
        off = [name for name in ("db_channels", "view_channels") if name in said and not said[name].strip()]
        if not off:
            yield Ailment(Finding("compaction", OK, "the server does it by itself", data={"off": []}))
            return
        yield Ailment(
            Finding(
                "compaction",
                WARNING,
                f"the server does not compact by itself: [smoosh] {' and '.join(off)} of its configuration is empty",
                "Files grow with every change. Take these settings out, or compact by picas doctor size --fix now and then.",
                {"off": off},
            )
        )

    def _info(self) -> dict[str, Any]:
        value = self._server.request("GET", self._path).value
        return value if isinstance(value, dict) else {}


def _count(info: Mapping[str, Any], name: str) -> int:
    value = info.get(name)
    return value if isinstance(value, int) else 0


def _bytes(sizes: Sizes, name: str) -> int:
    return _count(sizes, name)
