"""Looking closely at a pool on CouchDB: the way to it, the login, rights, copies, views, conflicts, time.

Nothing is changed, but for a document that is written and removed again to see whether that is allowed, and for
what is to be mended.
"""

from __future__ import annotations

import secrets
import statistics
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from picas.errors import PicasError, PoolRefused
from picas.stores import design
from picas.stores.couch import conflicts, reach
from picas.stores.couch.admin import MAY_NOT, User, is_database_admin, who_am_i
from picas.stores.couch.designs import Designs
from picas.stores.finding import FAILURE, OK, WARNING, Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from picas.settings.config import Access
    from picas.stores.couch.http import Server

OLDEST_VERSION = (3, 0)
"""Older ones are no longer kept, and know no quorum as this one does."""

ROUNDS = 11
"""Requests whose time is measured."""

SLOW_SECONDS = 0.2
"""A round trip longer than this is worth a word."""

SKEW_SECONDS = 10.0
"""So far may two clocks be apart without anybody being confused by logs."""

FAR_BEHIND = 10_000
"""An index that lacks more changes than this makes whoever reads it wait."""


class CouchCheckup:
    """A look at one pool, step by step.

    Args:
        server: its server.
        database: the database's name.
        access: how the server is reached.
    """

    def __init__(self, server: Server, database: str, access: Access, *, mend: bool = False) -> None:
        self._server = server
        self._mend = mend
        self._name = database
        self._path = quote(database, safe="")
        self._access = access
        self._user = User(None, ())
        self._info: dict[str, Any] = {}
        self._real = False

    def findings(self) -> Iterator[Finding]:
        """What is found, as it is found; it ends early where there is no going on."""
        try:
            for finding in reach.look(self._server.url, self._access):
                yield finding
                if finding.level == FAILURE:
                    return
            basics: tuple[tuple[str, Callable[[], Finding]], ...] = (
                ("server", self._version),
                ("login", self._login),
                ("database", self._database),
            )
            for name, look in basics:
                finding = self._tried(name, look)
                yield finding
                if finding.level == FAILURE:
                    return
        except PicasError as error:
            yield Finding("settings", FAILURE, error.message, error.advice)
            return
        yield self._tried("rights", self._rights)
        if "cluster" in self._info:
            yield self._tried("copies", self._copies)
            yield self._tried("quorum", self._quorum)
        yield self._tried("views", self._views)
        yield self._tried("conflicts", self._conflicts)
        yield self._tried("round trip", self._round_trip)
        yield self._clock()

    @staticmethod
    def _tried(name: str, look: Callable[[], Finding]) -> Finding:
        try:
            return look()
        except PicasError as error:
            return Finding(name, FAILURE, error.message, error.advice)

    # --- The server and we ---

    def _version(self) -> Finding:
        try:
            said = self._server.request("GET", "").value
        except PoolRefused:
            if not self._server.is_refused:
                raise
            return Finding("server", OK, "it answers")  # and does not let us in, as is seen next
        told = said if isinstance(said, dict) else {}
        version = str(told.get("version", ""))
        data = {"version": version or None}
        if "express-pouchdb" in told:
            return Finding(
                "server", WARNING, f"PouchDB's server {version}", "It is good for trying things out.", data
            )
        if told.get("couchdb") != "Welcome":
            return Finding("server", FAILURE, f"{self._server.url} is no CouchDB", "Check the URL.", data)
        self._real = True
        numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
        if numbers < OLDEST_VERSION:
            advice = "Nobody mends its faults any more. Whoever runs it should go to version 3."
            return Finding("server", WARNING, f"CouchDB {version}", advice, data)
        return Finding("server", OK, f"CouchDB {version}", data=data)

    def _login(self) -> Finding:
        login = self._server.login
        self._user = who_am_i(self._server)
        data = {"user": self._user.name, "roles": list(self._user.roles)}
        if login is None:
            text = "as nobody: no place has a user name and password for this server"
            return Finding("login", WARNING, text, "picas init asks for them and keeps them.", data)
        if self._user.name is None:
            text = f"{self._server.url} takes no notice of who asks"
            return Finding("login", WARNING if self._user.is_admin else FAILURE, text, "", data)
        roles = f" ({', '.join(self._user.roles)})" if self._user.roles else ""
        text = f"as {self._user.name}{roles}; the password is from {login.source}"
        if self._user.is_admin:
            advice = "A server administrator's password is more than a pilot needs: use a member's there."
            return Finding("login", OK, text, advice, data)
        return Finding("login", OK, text, data=data)

    def _database(self) -> Finding:
        answer = self._server.request("GET", self._path, expect=(404, *MAY_NOT))
        if answer.status == 404:
            return Finding(
                "database",
                FAILURE,
                f"there is no database {self._name}",
                "Is the name right? A server administrator makes it with: picas init --create",
            )
        if answer.status in MAY_NOT:
            who = self._user.name or "YOUR_NAME"
            return Finding(
                "database",
                FAILURE,
                f"the database {self._name} is not ours to read",
                f"Ask a server administrator to run: picas init --create --member {who}",
            )
        self._info = answer.value
        count = self._info.get("doc_count")
        return Finding("database", OK, f"{self._name} has {count:,} documents", data={"documents": count})

    # --- Rights ---

    def _rights(self) -> Finding:
        security = self._server.request("GET", f"{self._path}/_security", expect=MAY_NOT).value
        may_design = not self._real or is_database_admin(self._user, security)
        status = self._write()
        data = {"read": True, "write": status < 300, "design": may_design}
        if status >= 300:
            return Finding(
                "rights",
                FAILURE,
                f"we may read, and not write (the server answered {status})",
                "Pilots and picas push need to write. Whoever runs the database says who may.",
                data,
            )
        self._info["written"] = status
        if may_design:
            return Finding("rights", OK, "we may read, write, and change views", data=data)
        return Finding("rights", OK, "we may read and write, not change views: enough for pilots", data=data)

    def _write(self) -> int:
        """Write a document and remove it; the status of the answer.

        One that is local leaves nothing behind and wakes nobody, but no validation function sees it. Only
        where there is such a function an ordinary one is written, which leaves its id for ever.
        """
        query = {"startkey": '"_design/"', "endkey": '"_design0"', "include_docs": True}
        rows = self._server.request("GET", f"{self._path}/_all_docs", query=query).value["rows"]
        is_validated = any("validate_doc_update" in (row.get("doc") or {}) for row in rows)
        name = f"picas-check-{secrets.token_hex(8)}"
        path = f"{self._path}/{name}" if is_validated else f"{self._path}/_local/{name}"
        written = self._server.request("PUT", path, {"type": "picas-check"}, expect=MAY_NOT)
        if written.status < 300:
            self._server.request("DELETE", path, query={"rev": written.value["rev"]}, expect=(404, 409))
        return written.status

    # --- Copies ---

    def _copies(self) -> Finding:
        cluster = self._info["cluster"]
        shards = self._server.request("GET", f"{self._path}/_shards").value["shards"]
        nodes = sorted({node for holders in shards.values() for node in holders})
        others = self._nodes()
        count = len(others[1]) if others else len(nodes)
        copies, quorum = int(cluster["n"]), int(cluster["w"])
        data = {"copies": copies, "quorum": quorum, "shards": cluster["q"], "nodes": count}
        if count == 1:
            return Finding("copies", OK, "one server, one copy: have its disk backed up", data=data)
        text = f"{copies} of each document on {count} servers, {quorum} of them for a quorum"
        if copies == 1:
            return Finding(
                "copies",
                WARNING,
                "one of each document, though there are several servers",
                "What is on a server that is down is missing. Make the database anew with n=3 and picas copy to it.",
                data,
            )
        return Finding("copies", OK, text, data=data)

    def _nodes(self) -> tuple[list[str], list[str]] | None:
        """The servers that are up, and all of them; None if we are not told."""
        answer = self._server.request("GET", "_membership", expect=(404, *MAY_NOT))
        if answer.status >= 300:
            return None
        return answer.value["all_nodes"], answer.value["cluster_nodes"]

    def _quorum(self) -> Finding:
        nodes = self._nodes()
        away = sorted(set(nodes[1]) - set(nodes[0])) if nodes else []
        data = {"away": away}
        missing = f" (away: {', '.join(away)})" if away else ""
        if self._info.get("written") == 202:
            return Finding(
                "quorum",
                FAILURE,
                f"too few servers take a write{missing}",
                "Nothing can be claimed until they are back; results are saved all the same.",
                data,
            )
        if away:
            return Finding(
                "quorum", WARNING, f"there is one{missing}", "Bring the missing servers back.", data
            )
        return Finding("quorum", OK, "there is one", data=data)

    # --- Views and conflicts ---

    def _views(self) -> Finding:
        designs = Designs(self._server, self._path)
        found = {each.name: each for each in designs.survey()}
        others = sorted(n for n, each in found.items() if each.judged.kind == "classic")
        missing = [name for name in design.own() if name not in found]
        bad = [name for name in design.own() if name in found and not self._is_readable(designs, name)]
        behind = max((found[name].pending or 0 for name in design.own() if name in found), default=0)
        data = {"missing": missing, "unusable": bad, "behind": behind, "classic": others}
        advice = "Somebody who may change views runs: picas views create"
        if bad:
            return Finding("views", FAILURE, f"not as PiCaS has written them: {', '.join(bad)}", advice, data)
        if missing and others:
            text = f"PiCaS's own are missing ({', '.join(missing)}); the classic ones serve, slower"
            return Finding("views", WARNING, text, advice, data)
        if missing:
            text = f"missing: {', '.join(missing)}; the first that may change views makes them"
            return Finding("views", WARNING, text, advice, data)
        if behind > FAR_BEHIND:
            text = f"there, and {behind:,} changes behind"
            return Finding(
                "views", WARNING, text, "The server is building them: what reads them waits.", data
            )
        more = f"; classic ones: {', '.join(others)}" if others else ""
        return Finding("views", OK, f"there and current{more}", data=data)

    @staticmethod
    def _is_readable(designs: Designs, name: str) -> bool:
        document = designs.get(name)
        return document is not None and design.is_readable(name, document)

    def _conflicts(self) -> Finding:
        done = ""
        data: dict[str, Any] = {}
        if self._mend:
            mended = conflicts.mend_all(self._server, self._path, self._server.now())
            data = {"mended": mended.merged, "freed": mended.freed}
            done = (
                f"; {len(mended.merged):,} mended, {len(mended.freed):,} made free again"
                if any(data.values())
                else ""
            )
        count = conflicts.count(self._server, self._path)
        data["conflicts"] = count
        if not count:
            return Finding("conflicts", OK, f"none{done}", data=data)
        left = (
            "Those that stay are held by claims that may be running, or differ in what users wrote."
            if self._mend
            else "Pilots that find nothing to do mend them, and so does: picas check --mend"
        )
        kind = "have several versions or a claim that was given up"
        return Finding("conflicts", WARNING, f"{count:,} tokens {kind}{done}", left, data)

    # --- Time ---

    def _round_trip(self) -> Finding:
        times = []
        for _ in range(ROUNDS):
            started = time.monotonic()
            self._server.request("GET", self._path)
            times.append(time.monotonic() - started)
        seconds = statistics.median(times)
        text = f"{seconds * 1000:.1f} ms (median of {ROUNDS})"
        data = {"seconds": seconds}
        if seconds > SLOW_SECONDS:
            advice = "Tokens of less than a second will wait for the network; several pilots hide it."
            return Finding("round trip", WARNING, text, advice, data)
        return Finding("round trip", OK, text, data=data)

    def _clock(self) -> Finding:
        ahead = self._server.now() - time.time()
        data = {"server_ahead": ahead}
        if abs(ahead) < SKEW_SECONDS:
            return Finding("clock", OK, "the server's and ours agree", data=data)
        way = "ahead of" if ahead > 0 else "behind"
        return Finding(
            "clock",
            WARNING,
            f"the server's is {abs(ahead):,.0f} s {way} this machine's",
            "Claims go by the server's; times in logs and in certificates do not. Set both by NTP.",
            data,
        )
