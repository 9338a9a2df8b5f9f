"""What only the tests of CouchDB itself need: faults on the way, and a cluster. The server is in `fixtures`."""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from tests.couchdb.cluster import CouchCluster
from tests.couchdb.fixtures import create_database
from tests.couchdb.proxy import FaultProxy
from tests.couchdb.servers import CouchServer, couchdb_home

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.couchdb.fixtures import AnyServer


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
    path = create_database(cluster.nodes[0])
    yield [url + path for url in cluster.urls]
    cluster.heal()
    cluster.nodes[0].ask("DELETE", path)


@pytest.fixture(scope="session")
def jwt_secret() -> bytes:
    """What tokens for `strict_couchdb` are signed with."""
    return secrets.token_bytes(32)


@pytest.fixture(scope="session")
def strict_couchdb(jwt_secret: bytes) -> Iterator[CouchServer]:
    """A server to be rude to, as on the one that all share a wrong password locks everybody out.

    It has a database `strict` for the role `picas`, takes bearer tokens, and lets people change their passwords.
    """
    if couchdb_home() is None:
        pytest.skip("only Apache CouchDB can do this, and there is none here")
    handlers = ("cookie", "jwt", "default")
    with CouchServer(
        {
            "chttpd": {
                "authentication_handlers": ", ".join(
                    f"{{chttpd_auth, {name}_authentication_handler}}" for name in handlers
                )
            },
            "couchdb": {"users_db_security_editable": "true"},
            "jwt_keys": {"hmac:_default": base64.b64encode(jwt_secret).decode()},
        },
        name="strict",
    ) as server:
        assert server.ask("PUT", "/strict")[0] == 201
        members = {"members": {"roles": ["picas"]}, "admins": {"roles": ["_admin"]}}
        assert server.ask("PUT", "/strict/_security", members)[0] == 200
        # as a server must be that lets people change their own passwords
        assert (
            server.ask("PUT", "/_users/_security", {"admins": {"roles": ["_admin"]}, "members": {}})[0] == 200
        )
        yield server
