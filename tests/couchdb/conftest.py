"""The servers that the CouchDB tests run on.

A server that ``PICAS_TEST_COUCHDB`` names (its URL with an administrator's credentials, without a database);
else a private Apache CouchDB, where one is installed; else PouchDB's server, where ``scripts/pouchdb.sh`` has
installed it. With none at all these tests are skipped, and fail in CI.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

import pytest
from tests.couchdb.cluster import CouchCluster
from tests.couchdb.proxy import FaultProxy
from tests.couchdb.servers import CouchServer, GivenServer, PouchServer, couchdb_home, pouchdb_program

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    answer = server.ask("GET", "/")[1]
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


@pytest.fixture
def database(couchdb: AnyServer) -> Iterator[str]:
    """The URL, with an administrator's credentials, of an empty database that goes with the test."""
    _revive(couchdb)
    path = _create_database(couchdb)
    yield couchdb.url + path
    _revive(couchdb)
    couchdb.ask("DELETE", path)


def _revive(server: AnyServer) -> None:
    """A server that a test has killed or frozen, or whose request was too much for it, serves the next one."""
    if isinstance(server, GivenServer):
        return
    if server.running:
        server.thaw()
    else:
        server.start()


def _create_database(server: AnyServer) -> str:
    path = "/picas_test_" + secrets.token_hex(6)
    status, answer = server.ask("PUT", path)
    assert status in {201, 202}, answer
    return path


@dataclass(frozen=True)
class Proxied:
    """A database and the proxy in front of it."""

    url: str
    """By way of the proxy, with credentials."""
    direct: str
    """Not by way of it, to see what was stored."""
    proxy: FaultProxy


@pytest.fixture
def proxied(couchdb: AnyServer, database: str) -> Iterator[Proxied]:
    """An empty database behind a proxy that does what it is told: `proxied.proxy.fault(...)`."""
    if not couchdb.origin.startswith("http:"):
        pytest.skip("the proxy does not speak https to a server")
    with FaultProxy(couchdb.origin) as proxy:
        yield Proxied(proxy.through(database), database, proxy)


@pytest.fixture(scope="session")
def _cluster() -> Iterator[CouchCluster]:
    if couchdb_home() is None:
        pytest.skip("a cluster needs an Apache CouchDB, installed here")
    with CouchCluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(_cluster: CouchCluster) -> Iterator[CouchCluster]:
    """Three nodes, all well; what the test does to them is mended afterwards. All tests share them."""
    yield _cluster
    _cluster.heal()


@pytest.fixture
def cluster_database(cluster: CouchCluster) -> Iterator[list[str]]:
    """The URLs of one empty database, on each node of the cluster, that goes with the test."""
    path = _create_database(cluster.nodes[0])
    yield [url + path for url in cluster.urls]
    cluster.heal()
    cluster.nodes[0].ask("DELETE", path)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """A test that failed shows what the server wrote last."""
    report = yield
    server = item.config.stash.get(_SERVER, None)
    if report.failed and server is not None and "couchdb" in getattr(item, "fixturenames", ()):
        assert not isinstance(server, GivenServer)
        report.sections.append(("the server's log", server.log_tail()))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which server it was: on PouchDB's some tests are skipped."""
    if _NAME in config.stash:
        terminalreporter.write_line("CouchDB tests ran on: " + config.stash[_NAME])
