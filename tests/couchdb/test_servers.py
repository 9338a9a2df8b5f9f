"""The servers that the other tests rely on do what their names say."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import urllib3
from tests.couchdb.faults import LoseAnswer
from tests.couchdb.processes import ask, wait_until
from tests.couchdb.servers import CouchServer, PouchServer, couchdb_home, pouchdb_program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.couchdb.cluster import CouchCluster
    from tests.couchdb.conftest import Proxied

ROOT = Path(__file__).parents[2]


def test_a_database_is_there_and_empty(database: str) -> None:
    assert ask(database, "GET", "")[1]["doc_count"] == 0
    assert ask(database, "PUT", "/one", {})[0] == 201


def test_the_next_database_is_another_one(database: str) -> None:
    assert ask(database, "GET", "/one")[0] == 404


def test_a_write_whose_answer_is_lost_is_stored(proxied: Proxied) -> None:
    rule = proxied.proxy.fault(LoseAnswer(), "PUT", "/one$")
    with pytest.raises(http.client.RemoteDisconnected):
        ask(proxied.url, "PUT", "/one", {})
    assert ask(proxied.direct, "GET", "/one")[0] == 200
    assert ask(proxied.url, "PUT", "/one", {})[0] == 409
    assert (rule.hits, proxied.proxy.count("PUT", "/one$")) == (1, 2)


def test_a_feed_comes_through_the_proxy_as_it_is_written(proxied: Proxied) -> None:
    with urllib3.PoolManager(retries=False, timeout=10) as client:
        url = proxied.url + "/_changes?feed=continuous&since=now&heartbeat=1000"
        headers = urllib3.make_headers(basic_auth=urlsplit(url).netloc.rpartition("@")[0])
        feed = client.request("GET", url, headers=headers, preload_content=False)
        assert ask(proxied.direct, "PUT", "/one", {})[0] == 201
        line = next(line for line in feed if line.strip())
        assert b'"one"' in line
        feed.close()


@pytest.fixture(scope="module")
def server() -> Iterator[CouchServer]:
    """A server that is no one else's, since it is killed here."""
    if couchdb_home() is None:
        pytest.skip("needs an Apache CouchDB, installed here")
    with CouchServer({"couchdb": {"max_document_size": 1000}}) as server:
        server.ask("PUT", "/kept")
        yield server


class TestOneServer:
    def test_only_its_administrator_is_let_in(self, server: CouchServer) -> None:
        assert server.ask("GET", "/kept")[0] == 200
        assert ask(server.origin, "GET", "/kept")[0] == 401

    def test_a_setting_is_set(self, server: CouchServer) -> None:
        assert server.ask("PUT", "/kept/large", {"text": "x" * 2000})[0] == 413

    def test_data_and_url_outlive_a_restart(self, server: CouchServer) -> None:
        url = server.url
        assert server.ask("PUT", "/kept/restarted", {})[0] == 201
        server.restart()
        assert ask(url, "GET", "/kept/restarted")[0] == 200

    def test_what_was_acknowledged_outlives_a_kill(self, server: CouchServer) -> None:
        for i in range(20):
            assert server.ask("PUT", f"/kept/killed_{i}", {})[0] == 201
        server.kill()
        with pytest.raises(ConnectionRefusedError):
            server.ask("GET", "/")
        server.start()
        found = server.ask("GET", "/kept/_all_docs?startkey=%22killed%22&endkey=%22killez%22")[1]
        assert len(found["rows"]) == 20

    def test_a_frozen_one_accepts_and_does_not_answer(self, server: CouchServer) -> None:
        server.freeze()
        with pytest.raises(socket.timeout):
            ask(server.url, "GET", "/", seconds=0.2)
        server.thaw()
        assert server.ask("GET", "/")[0] == 200


@pytest.mark.skipif(pouchdb_program() is None, reason="PouchDB's server is not installed: scripts/pouchdb.sh")
def test_pouchdbs_server_keeps_its_data_and_port_too() -> None:
    with PouchServer() as server:
        server.ask("PUT", "/kept")
        assert server.ask("PUT", "/kept/one", {})[0] == 201
        server.kill()
        server.start()
        assert server.ask("GET", "/kept/one")[0] == 200


@pytest.mark.skipif(couchdb_home() is None, reason="needs an Apache CouchDB, installed here")
def test_a_server_goes_with_the_process_that_started_it() -> None:
    program = (
        "import os\n"
        "from tests.couchdb.servers import CouchServer\n"
        "server = CouchServer()\n"
        "server.start()\n"
        "print(server.origin, server.folder, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", program], check=False, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert killed.returncode == -9
    origin, folder = killed.stdout.split()
    wait_until(lambda: not Path(folder).exists(), 10, lambda: f"{folder} is still there")
    wait_until(lambda: _refuses(origin), 10, lambda: f"{origin} still answers")


def _refuses(origin: str) -> bool:
    try:
        ask(origin, "GET", "/")
    except ConnectionRefusedError:
        return True
    except ConnectionError:  # it is about to go
        pass
    return False


class TestCluster:
    def test_what_one_node_stores_the_others_show(
        self, cluster: CouchCluster, cluster_database: list[str]
    ) -> None:
        first, second, third = cluster_database
        assert ask(first, "PUT", "/one", {})[0] == 201
        cluster.wait_replicated()
        assert [ask(url, "GET", "/one")[0] for url in (second, third)] == [200, 200]

    def test_two_nodes_do_without_the_third_which_catches_up(
        self, cluster: CouchCluster, cluster_database: list[str]
    ) -> None:
        first, second, third = cluster_database
        cluster.kill(2)
        assert ask(first, "PUT", "/one", {})[0] == 201
        assert ask(second, "GET", "/one")[0] == 200
        with pytest.raises(ConnectionRefusedError):
            ask(third, "GET", "/one")
        cluster.start(2)
        cluster.wait_whole()
        cluster.wait_replicated()
        # its own copy, since nobody else is there to ask
        cluster.isolate(2)
        assert ask(third, "GET", "/one?r=1")[0] == 200

    def test_only_the_larger_part_has_a_quorum(
        self, cluster: CouchCluster, cluster_database: list[str]
    ) -> None:
        first, _, third = cluster_database
        cluster.partition([0, 1], [2])
        assert ask(first, "PUT", "/one", {"at": "first"})[0] == 201
        assert ask(third, "PUT", "/one", {"at": "third"})[0] == 202
        cluster.heal()
        cluster.wait_replicated()
        assert len(ask(third, "GET", "/one?conflicts=true")[1]["_conflicts"]) == 1

    def test_a_silent_cut_holds_a_write_back_until_it_is_mended(
        self, cluster: CouchCluster, cluster_database: list[str]
    ) -> None:
        cluster.isolate(0, silent=True)
        with pytest.raises(socket.timeout):
            ask(cluster_database[0], "PUT", "/one", {}, seconds=0.5)
        cluster.heal()
        cluster.wait_replicated()
        assert ask(cluster_database[2], "GET", "/one")[0] == 200

    def test_the_others_do_without_a_frozen_node(
        self, cluster: CouchCluster, cluster_database: list[str]
    ) -> None:
        cluster.freeze(1)
        assert ask(cluster_database[0], "PUT", "/one", {})[0] == 201
        with pytest.raises(socket.timeout):
            ask(cluster_database[1], "GET", "/one", seconds=0.2)
