"""The server that tests with CouchDB run on, and databases on it: for all of the tests.

A server that ``PICAS_TEST_COUCHDB`` names (its URL with an administrator's credentials, without a database);
else a private Apache CouchDB, where one is installed; else PouchDB's server, where ``scripts/pouchdb.sh`` has
installed it. With none at all these tests are skipped, and fail in CI.
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, Any, Union

import pytest
from tests.couchdb.processes import ask
from tests.couchdb.servers import CouchServer, GivenServer, PouchServer, couchdb_home, pouchdb_program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

AnyServer = Union[CouchServer, PouchServer, GivenServer]

# Read here: the tests themselves see no PICAS_ variable of their caller.
_GIVEN = os.environ.get("PICAS_TEST_COUCHDB")

_SERVER = pytest.StashKey[AnyServer]()
_NAME = pytest.StashKey[str]()


@pytest.fixture(scope="session")
def couchdb(request: pytest.FixtureRequest) -> Iterator[AnyServer]:
    """A server that speaks CouchDB's protocol: `url`, `origin`, `ask()`. All tests share it."""
    server: AnyServer
    if _GIVEN:
        server = GivenServer(_GIVEN)
    elif couchdb_home() is not None:
        server = CouchServer()
    elif pouchdb_program() is not None:
        server = PouchServer()
    else:
        missing = "no Apache CouchDB, and PouchDB's server is not installed either: run scripts/pouchdb.sh"
        if "CI" in os.environ:
            pytest.fail(missing)
        pytest.skip(missing)
    if isinstance(server, GivenServer):
        request.config.stash[_NAME] = _name(server) + f", given as {server.origin}"
        yield server
        return
    with server:
        request.config.stash[_NAME] = _name(server)
        request.config.stash[_SERVER] = server
        yield server


def _name(server: AnyServer) -> str:
    status, answer = server.ask("GET", "/")
    assert status == 200, f"the server for the tests answers {status}: {answer}"
    kind = "PouchDB's server" if "express-pouchdb" in answer else "Apache CouchDB"
    return f"{kind} {answer['version']}"


@pytest.fixture(scope="session")
def real_couchdb(couchdb: AnyServer) -> AnyServer:
    """The same server, for what only Apache CouchDB can; the test is skipped, in CI too, on another one."""
    if not _name(couchdb).startswith("Apache"):
        pytest.skip("only Apache CouchDB can do this, and these tests run on " + _name(couchdb))
    return couchdb


@pytest.fixture(autouse=True)
def _marked(request: pytest.FixtureRequest) -> None:
    """``@pytest.mark.couchdb`` asks for a real CouchDB."""
    if request.node.get_closest_marker("couchdb") and "_cluster" not in request.fixturenames:
        request.getfixturevalue("real_couchdb")


def pytest_itemcollected(item: pytest.Item) -> None:
    """A test that asks for a real CouchDB has the marker, so that ``-m couchdb`` chooses it."""
    if {"real_couchdb", "_cluster"} & set(getattr(item, "fixturenames", ())):
        item.add_marker(pytest.mark.couchdb)


class Databases:
    """Makes and drops databases on the server."""

    def __init__(self, server: AnyServer) -> None:
        self.server = server

    def make(self) -> str:
        """The URL, with an administrator's credentials, of a new and empty database."""
        self._revive()
        path = create_database(self.server)
        return self.server.url + path

    def drop(self, url: str) -> None:
        """Remove one."""
        self._revive()
        ask(url, "DELETE", "")

    def _revive(self) -> None:
        """A server that a test has killed or frozen, or whose request was too much for it, serves the next one."""
        server = self.server
        if isinstance(server, GivenServer):
            return
        if server.running:
            server.thaw()
        else:
            server.start()


def create_database(server: Any) -> str:
    """The path of a new and empty database on a server that can `ask`."""
    path = "/picas_test_" + secrets.token_hex(6)
    status, answer = server.ask("PUT", path)
    assert status in {201, 202}, answer
    return path


@pytest.fixture(scope="session")
def databases(couchdb: AnyServer) -> Databases:
    """For fixtures that live longer than a test; a test takes `database` or `new_database`."""
    return Databases(couchdb)


@pytest.fixture
def database(databases: Databases) -> Iterator[str]:
    """The URL, with an administrator's credentials, of an empty database that goes with the test."""
    url = databases.make()
    yield url
    databases.drop(url)


@pytest.fixture
def new_database(databases: Databases) -> Iterator[Callable[[], str]]:
    """Makes such databases, for tests that need more than one."""
    made: list[str] = []

    def make() -> str:
        made.append(databases.make())
        return made[-1]

    yield make
    for url in made:
        databases.drop(url)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """A test that failed shows what the server wrote last."""
    report = yield
    server = item.config.stash.get(_SERVER, None)
    if report.failed and server is not None and "couchdb" in getattr(item, "fixturenames", ()):
        assert not isinstance(server, GivenServer)
        report.sections.append(("the server's log", server.log_tail()))
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist tells the process that prints the summary which server it was."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None and _NAME in session.config.stash:
        output["couchdb"] = session.config.stash[_NAME]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Hear what a worker has told."""
    name = getattr(node, "workeroutput", {}).get("couchdb")
    if name:
        node.config.stash[_NAME] = name


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which server it was: on PouchDB's some tests are skipped."""
    if _NAME in config.stash:
        terminalreporter.write_line("CouchDB tests ran on: " + config.stash[_NAME])
