"""The design documents of a CouchDB database: found, written, exchanged for newer ones without a stall, removed.

Any change to the views of a design document makes the server build the index anew, and until it is built a
reader that does not wait for it is told that there is nothing. So documents are compared before they are
written, and new views are built under another name before they take the place of the old ones: the server
knows an index by what its views are, not by their document's name.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from picas.errors import InvalidInput, PoolRefused, PoolUnavailable
from picas.stores import design
from picas.stores.classic_designs import ClassicDesigns, Found, Made
from picas.stores.design import NEXT

if TYPE_CHECKING:
    from collections.abc import Callable

    from picas.stores.couch.http import Server

    Document = dict[str, Any]
    OnProgress = Callable[[str, int], object]

POLL_SECONDS = 0.3
"""How often is looked how far an index has been built."""

NEARLY = 500
"""So few changes are missing from an index that it is waited for without telling."""

COPIES_SECONDS = 2.0
"""On a cluster no node has been at work on an index for so long: all copies of it are built."""

STUCK_SECONDS = 60.0
"""An index that has come no further for so long is not waited for."""

COMMIT_SECONDS = 6.0
"""A server writes down what it has built of an index every 5 s (its ``commit_freq``)."""

MAY_NOT = (401, 403)


class Designs(ClassicDesigns):
    """The design documents of a database.

    Args:
        database: the database's name, quoted.

    Every method may raise `PoolUnavailable` and `PoolRefused`.
    """

    def __init__(self, server: Server, database: str) -> None:
        super().__init__(f"{server.url}/{database}")
        self._server = server
        self._database = database

    # --- Reading ---

    def get(self, name: str) -> Document | None:
        """The design document of this name."""
        answer = self._server.request("GET", self._path(name), expect=(404,))
        found: Document = answer.value
        return None if answer.status == 404 else found

    def survey(self) -> list[Found]:
        """All design documents, by name."""
        query = {"startkey": '"_design/"', "endkey": '"_design0"', "include_docs": True}
        answer = self._server.request("GET", f"{self._database}/_all_docs", query=query)
        return [self._found(row["doc"]) for row in answer.value["rows"] if row.get("doc")]

    def _found(self, doc: Document) -> Found:
        name = doc["_id"].partition("/")[2]
        views = doc.get("views")
        names = list(views) if isinstance(views, dict) and doc.get("language") != "query" else []
        rows = {view: self._count(name, view) for view in names if view != "lib"}
        pending = self.pending(name) if names else 0
        return Found(name, design.judge(name, doc), rows, design.slow_reduce(doc), pending)

    def _count(self, name: str, view: str) -> int | None:
        """How many rows the view has, as far as it is built."""
        query = {"limit": 0, "reduce": False, "update": "false"}
        # 404, 400, 500: a view whose function the server cannot even read.
        answer = self._server.request(
            "GET", f"{self._path(name)}/_view/{view}", query=query, expect=(400, 404, 500)
        )
        found = answer.value.get("total_rows") if isinstance(answer.value, dict) else None
        return found if isinstance(found, int) else None

    def pending(self, name: str) -> int | None:
        """How many changes the index of this design document does not have yet; None if that is not known.

        On a cluster the answer is of one copy of each part, and the next one may be of others.
        """
        answer = self._server.request("GET", f"{self._path(name)}/_info", expect=(404,))
        try:
            return int(answer.value["view_index"]["updates_pending"]["minimum"])
        except (KeyError, TypeError, ValueError):
            return None  # PouchDB's server does not say

    def building(self, name: str) -> PoolUnavailable | None:
        """The error for an answer that has not come because the index is being built, if that is so."""
        pending = self.pending(name)
        if pending is None or pending <= NEARLY:
            return None
        return PoolUnavailable(
            f"{self._place}: the index of the design document {name} is being built; {pending:,} changes to go",
            "It goes on by itself: picas views list shows how far it is.",
        )

    # --- Writing ---

    def ensure(self, name: str, wanted: Document | None = None) -> bool:
        """Have our own design document of this name; it is written only where there is none.

        Args:
            wanted: its content, where `picas.stores.design.own` does not say; another one is then replaced.

        Returns:
            False if there is none, and we may not write it.

        Raises:
            PoolRefused: what is there under its name cannot be used.
        """
        found = self.get(name)
        if found is None:
            # 409: another process was faster.
            content = wanted or design.own()[name]
            answer = self._server.request("PUT", self._path(name), content, expect=(409, *MAY_NOT))
            return answer.status not in MAY_NOT
        if wanted is not None:
            if design.digest(found) != design.digest(wanted):
                self._put(name, {**wanted, "_rev": found["_rev"]})
            return True
        if not design.is_readable(name, found):
            raise self.unusable(name)
        return True

    def unusable(self, name: str) -> PoolRefused:
        """The error for a design document of ours that gives other rows than it should."""
        return PoolRefused(
            f"{self._place}: the design document {name} is not what PiCaS has written: somebody has changed it,"
            " or it is of an older version",
            f"picas views create writes it anew: picas --pool {self._place} views create",
        )

    def create_own(self, on_progress: OnProgress | None = None) -> list[Made]:
        """Bring our own design documents up to date; one of a newer program stays as it is."""
        made = []
        for name, wanted in design.own().items():
            found = self.get(name)
            if found is not None and design.judge(name, found).standing == "newer":
                made.append(Made(name, "kept"))
            else:
                made.append(Made(name, self._write(name, found, wanted, on_progress)))
        return made

    def create_guard(self, *, force: bool = False) -> Made:
        name, wanted = design.GUARD, design.guard()
        found = self.get(name)
        if found is None:
            self._put(name, wanted)
            return Made(name, "created")
        standing = design.judge(name, found).standing
        if standing == "newer":
            return Made(name, "kept")
        if standing == "edited" and not force:
            raise InvalidInput(
                f"{self._place}: the design document {name} was changed by somebody; it is left as it is",
                "--force replaces it.",
            )
        if standing == "current":
            return Made(name, "unchanged")
        self._put(name, {**wanted, "_rev": found["_rev"]})
        return Made(name, "updated")

    def _write(
        self, name: str, found: Document | None, wanted: Document, on_progress: OnProgress | None
    ) -> str:
        if found is None:
            self._put(name, wanted)
            self.build(name, on_progress)
            return "created"
        if {key: value for key, value in found.items() if not key.startswith("_")} == wanted:
            self.build(name, on_progress)
            self._delete(name + NEXT)  # of an exchange that was cut off
            return "unchanged"
        if design.digest(found) == design.digest(wanted):
            self._put(name, {**wanted, "_rev": found["_rev"]})
            return "updated"
        self._exchange(name, found, wanted, on_progress)
        return "updated"

    def _exchange(self, name: str, found: Document, wanted: Document, on_progress: OnProgress | None) -> None:
        """Put new views in the place of others, with no moment at which they are not built.

        Cut off in the middle, the next one goes on with what has been built so far.
        """
        coming = name + NEXT
        there = self.get(coming)
        if there is None or design.digest(there) != design.digest(wanted):
            self._put(coming, {**wanted, **({"_rev": there["_rev"]} if there else {})})
        self.build(coming, on_progress)
        self._put(name, {**wanted, "_rev": found["_rev"]})
        # When the document goes that an index was built for, the server closes the index, and goes on with what
        # it has written down: of a small one nothing before this time.
        time.sleep(COMMIT_SECONDS)
        self._delete(coming)
        self._clean_up()

    def build(self, name: str, on_progress: OnProgress | None = None) -> None:
        """Wait until the index of this design document is built."""
        found = self.get(name) or {}
        views = list(found.get("views") or {})
        if not views:
            return
        path = f"{self._path(name)}/_view/{views[0]}"
        query = {"limit": 0, "reduce": False}
        self._server.request("GET", path, query={**query, "update": "lazy"})
        begun = time.monotonic()
        least, since = None, begun
        while (pending := self.pending(name)) is not None and pending > NEARLY:
            if least is None or pending < least:
                least, since = pending, time.monotonic()
            elif time.monotonic() - since > STUCK_SECONDS:
                break  # the server is in trouble; the next request has it say so
            if on_progress is not None:
                on_progress(name, pending)
            time.sleep(POLL_SECONDS)
        self._server.request("GET", path, query=query)
        if self._has_copies():
            self._wait_for_copies(name, time.monotonic() - begun)

    def _wait_for_copies(self, name: str, one_took: float) -> None:
        """Wait for the other copies of the index, which the last request has had the servers begin with.

        A reader that does not wait for an index is answered by any of them.
        """
        now = time.monotonic()
        until, at_most = now + max(COPIES_SECONDS, one_took), now + STUCK_SECONDS + 2 * one_took
        while time.monotonic() < min(until, at_most):  # where much is written some node is always at work
            time.sleep(POLL_SECONDS)
            if self._is_being_built(name):
                until = max(until, time.monotonic() + COPIES_SECONDS)

    def _is_being_built(self, name: str) -> bool:
        """Whether a node is at work on an index of this design document, as far as we may know."""
        answer = self._server.request("GET", "_active_tasks", expect=(404, *MAY_NOT))
        tasks = answer.value if isinstance(answer.value, list) else []
        return any(
            task.get("design_document") == f"_design/{name}"
            and f"/{unquote(self._database)}." in task["database"]
            for task in tasks
            if task.get("type") == "indexer"
        )

    def _has_copies(self) -> bool:
        """Whether there is more than one copy of each part of the database."""
        cluster = self._server.request("GET", self._database).value.get("cluster")
        return isinstance(cluster, dict) and cluster.get("n", 1) > 1

    def remove(self, name: str, *, force: bool = False) -> None:
        super().remove(name, force=force)
        self._clean_up()

    # --- Requests ---

    def _path(self, name: str) -> str:
        return f"{self._database}/_design/{quote(name, safe='')}"

    def _put(self, name: str, document: Document) -> None:
        answer = self._server.request("PUT", self._path(name), document, expect=(409, *MAY_NOT))
        if answer.status in MAY_NOT:
            raise self.not_allowed()
        if answer.status == 409:
            raise PoolUnavailable(
                f"{self._place}: somebody else is writing the design document {name} at the same time",
                "Try again.",
            )

    def not_allowed(self) -> PoolRefused:
        """The error where views are to be written or removed, and we may not."""
        said = "only an administrator of the database may write and remove its design documents"
        return PoolRefused(f"{self._place}: {said}", self.how_to_get_views)

    @property
    def how_to_get_views(self) -> str:
        """What to ask an administrator for."""
        return f"Ask whoever runs it for this, once: picas --pool {self._place} views create"

    def _delete(self, name: str) -> None:
        found = self.get(name)
        if found is not None:
            query = {"rev": found["_rev"]}
            answer = self._server.request(
                "DELETE", self._path(name), query=query, expect=(404, 409, *MAY_NOT)
            )
            if answer.status in MAY_NOT:
                raise self.not_allowed()

    def _clean_up(self) -> None:
        """Have the files of indexes removed that nothing refers to any more, where we may."""
        self._server.request("POST", f"{self._database}/_view_cleanup", {}, expect=(404, *MAY_NOT))
