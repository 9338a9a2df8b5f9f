"""A cluster of Apache CouchDB nodes on one machine, whose nodes die, freeze and are cut off from each other.

with CouchCluster() as cluster:
    cluster.kill(2)
    cluster.partition([0], [1, 2])
    cluster.heal()
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import threading
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tests.couchdb.processes import START_SECONDS, wait_until
from tests.couchdb.servers import CouchServer

if TYPE_CHECKING:
    from collections.abc import Iterable

_HOST = "127.0.0.1"


class CouchCluster:
    """Apache CouchDB nodes that share their databases; nodes are numbered from 0.

    All have the same administrator, password and login cookies. Used as a context, it is up within.

    Args:
        n: how many nodes, and how many copies of every document.
        tick_seconds: a node that says nothing for so long is taken for gone by the others (Erlang's
            net_ticktime). It matters where nothing is closed: for a frozen node and a silent partition.
    """

    def __init__(self, n: int = 3, *, tick_seconds: int = 8) -> None:
        self._secrets = {"cookie": secrets.token_hex(8), "login": secrets.token_hex(16)}
        self.password = secrets.token_hex(12)
        self.nodes = [_Node(f"node{i + 1}", self, n, tick_seconds) for i in range(n)]
        self._frozen: set[int] = set()
        self.network: _Network | None = None

    @property
    def url(self) -> str:
        """The URL of the first node, with credentials."""
        return self.nodes[0].url

    @property
    def urls(self) -> list[str]:
        """The URLs of all nodes, with credentials."""
        return [node.url for node in self.nodes]

    # the whole

    def __enter__(self) -> CouchCluster:
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _open(self) -> None:
        self.network = _Network([node.name for node in self.nodes])
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            node.wait_ready()
        first = self.nodes[0]
        for node in self.nodes[1:]:
            status, answer = first.ask("PUT", f"/_node/_local/_nodes/{node.erlang_name}", {})
            assert status == 201, answer
        status, answer = first.ask("POST", "/_cluster_setup", {"action": "finish_cluster"})
        assert status == 201, answer
        self.wait_whole()

    def close(self) -> None:
        """End all nodes for good and remove their data."""
        for node in self.nodes:
            node.close()
        if self.network is not None:
            self.network.close()
            self.network = None

    def heal(self) -> None:
        """Start the dead nodes, wake the frozen ones, join the parts, and wait until all see each other.

        Raises:
            ServerFailed: they do not.
        """
        assert self.network is not None
        self.network.mend()
        for i in list(self._frozen):
            self.thaw(i)
        dead = [node for node in self.nodes if not node.running]
        for node in dead:
            node.launch()
        for node in dead:
            node.wait_ready()
        self.wait_whole()

    def wait_whole(self, seconds: float = START_SECONDS) -> None:
        """Wait until every node sees every other and has the system databases."""
        wait_until(
            lambda: all(self._is_member(node) for node in self.nodes),
            seconds,
            lambda: f"the nodes do not see each other\n{self.nodes[0].log_tail()}",
        )

    def _is_member(self, node: _Node) -> bool:
        _, answer = node.ask("GET", "/_membership")
        everyone = sorted(other.erlang_name for other in self.nodes)
        return (
            sorted(answer["all_nodes"]) == sorted(answer["cluster_nodes"]) == everyone
            and node.ask("GET", "/_users")[0] == 200
        )

    def wait_replicated(self, seconds: float = START_SECONDS) -> None:
        """Wait until every running node has all revisions of what it keeps a copy of."""
        wait_until(self._is_replicated, seconds, lambda: "the nodes do not catch up")

    def _is_replicated(self) -> bool:
        # CouchDB's own count of what is left to send is 0 also when a node has yet to find out that there is
        # something, so the copies are compared.
        first, *others = self._awake()
        live = first.ask("GET", "/_all_dbs")[1]
        copies = first.copies(live)
        return all(node.copies(live) == copies for node in others)

    def _awake(self) -> list[_Node]:
        return [node for i, node in enumerate(self.nodes) if node.running and i not in self._frozen]

    # single nodes

    def kill(self, i: int) -> None:
        """KILL: the others notice at once."""
        self._frozen.discard(i)
        self.nodes[i].kill()

    def stop(self, i: int) -> None:
        """TERM: it leaves in good order."""
        self._frozen.discard(i)
        self.nodes[i].stop()

    def start(self, i: int) -> None:
        """Start a node that was killed or stopped; it catches up by itself."""
        self.nodes[i].start()

    def freeze(self, i: int) -> None:
        """SIGSTOP: it still accepts connections and answers nothing; the others notice by its silence."""
        self._frozen.add(i)
        self.nodes[i].freeze()

    def thaw(self, i: int) -> None:
        self._frozen.discard(i)
        self.nodes[i].thaw()

    # the network between them

    def partition(self, *groups: Iterable[int], silent: bool = False) -> None:
        """Cut the nodes of each group off from those of the others; clients still reach all of them.

        Without `silent` the connections are closed, and this returns when the nodes have noticed. With it
        nothing is closed and nothing gets through: the nodes wait for each other until `tick_seconds`.
        """
        assert self.network is not None
        named = [[self.nodes[i] for i in group] for group in groups]
        for one, other in combinations(named, 2):
            for a in one:
                for b in other:
                    self.network.separate(a.name, b.name, silent=silent)
        if not silent:
            for group in named:
                for node in group:
                    self._wait_alone(node, group)

    def _wait_alone(self, node: _Node, group: list[_Node]) -> None:
        names = sorted(member.erlang_name for member in group)
        wait_until(
            lambda: sorted(node.ask("GET", "/_membership")[1]["all_nodes"]) == names,
            START_SECONDS,
            lambda: f"{node.name} still sees the others",
        )

    def isolate(self, i: int, *, silent: bool = False) -> None:
        """Cut one node off from all others."""
        self.partition([i], [j for j in range(len(self.nodes)) if j != i], silent=silent)


class _Node(CouchServer):
    """One node of a cluster."""

    def __init__(self, name: str, cluster: CouchCluster, copies: int, tick_seconds: int) -> None:
        super().__init__(name=name)
        self.password = cluster.password
        self.erlang_name = f"{name}@{_HOST}"
        self._cluster = cluster
        self._copies = copies
        self._tick_seconds = tick_seconds

    def vm_args(self) -> str:
        return (
            f"-name {self.erlang_name}\n"
            f"-setcookie {self._cluster._secrets['cookie']}\n"
            "-start_epmd false\n"
            "-kernel inet_dist_use_interface {127,0,0,1}\n"
            # nodes on the same side of a partition would part, too
            "-kernel prevent_overlapping_partitions false\n"
            f"-kernel net_ticktime {self._tick_seconds}\n"
        ) + super().vm_args()

    def environment(self) -> dict[str, str]:
        assert self._cluster.network is not None
        port = self._cluster.network.mappers[self.name]
        return {**super().environment(), "ERL_EPMD_PORT": str(port), "ERL_EPMD_ADDRESS": _HOST}

    def settings(self) -> dict[str, dict[str, Any]]:
        sections = super().settings()
        sections["couchdb"]["single_node"] = "false"
        sections["cluster"] = {"q": 2, "n": self._copies, "reconnect_interval_sec": 1}
        sections["chttpd_auth"]["secret"] = self._cluster._secrets["login"]
        return sections

    def copies(self, databases: list[str]) -> dict[str, dict[str, list[str]]]:
        """What it has of them on its own disk: shard -> id of a document -> its revisions."""
        found = {}
        for shard in self.ask("GET", "/_node/_local/_all_dbs")[1]:
            # shards/00000000-7fffffff/NAME.TIME; a deleted one may still lie about where a node was down
            if shard != "_dbs" and shard.split("/", 2)[-1].rpartition(".")[0] not in databases:
                continue
            path = f"/_node/_local/{quote(shard, safe='')}/_changes?style=all_docs"
            status, answer = self.ask("GET", path)
            if status == 200:  # it may have been deleted just now
                rows = answer["results"]
                found[shard] = {row["id"]: sorted(leaf["rev"] for leaf in row["changes"]) for row in rows}
        return found

    def ready(self) -> bool:
        # 404: up, and not yet a member
        return self.ask("GET", "/_up")[0] in {200, 404}


class _Network:
    """The program of `distribution.py`, through which the nodes speak."""

    def __init__(self, names: list[str]) -> None:
        program = Path(__file__).with_name("distribution.py")
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(program), *names],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,  # Ctrl-C is not for it
        )
        self.mappers: dict[str, int] = json.loads(self._read())

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def _do(self, command: str) -> None:
        with self._lock:
            assert self._process.stdin is not None
            self._process.stdin.write(command + "\n")
            answer = self._read()
        assert answer == "ok\n", f"{command}: {answer!r}"

    def separate(self, a: str, b: str, *, silent: bool) -> None:
        self._do(f"{'silence' if silent else 'cut'} {a} {b}")

    def mend(self) -> None:
        self._do("mend")

    def close(self) -> None:
        self._process.communicate()
