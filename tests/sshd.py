"""A real server of ssh on the loopback interface, with keys of its own, that lets the user in who started it."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.couchdb.processes import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

_PLACES = f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"

# Where sshd, run by root, locks up those of its processes that talk to strangers; made at the start of a machine.
_EMPTY = Path("/run/sshd")

_CONFIG = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/me.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 100
SetEnv {environment}
"""

_CLIENT = """\
Host node1 node2 node3
  HostName 127.0.0.1
  Port {port}
Host nobody
  HostName 127.0.0.1
  Port {closed}
Host silent
  HostName 127.0.0.1
  Port {silent}
Host *
  IdentityFile {folder}/me
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known
"""


def serving(environment: dict[str, str]) -> Iterator[SshServer]:
    """The server, for a fixture. Where it is not installed, or lets nobody in, tests are skipped, and fail in CI.

    Args:
        environment: what processes find in their environment that ssh starts.
    """
    missing = [name for name in ("sshd", "ssh", "ssh-keygen") if shutil.which(name, path=_PLACES) is None]
    if missing:
        _give_up(f"not installed: {', '.join(missing)}")
    with SshServer(environment) as server:
        tried = subprocess.run(
            [*shlex.split(server.client), "node1", "true"], check=False, capture_output=True
        )
        if tried.returncode != 0:  # an account that is locked, for one
            _give_up(f"nobody gets in: {tried.stderr.decode()}{server.log_tail()}")
        yield server


def _give_up(problem: str) -> None:
    if "CI" in os.environ:
        pytest.fail(problem)
    pytest.skip(problem)


class SshServer(Server):
    """The server, and a configuration for clients with hosts that are all this one.

    ``node1``, ``node2`` and ``node3`` are this machine; at ``nobody`` nobody listens; ``silent`` takes connections and says nothing.

    Args:
        environment: what processes find in their environment that ssh starts.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        super().__init__("sshd")
        self.given = environment
        self._silent = socket.create_server(("127.0.0.1", 0))
        self._closed = socket.socket()  # bound, but it does not listen, and so nobody else does
        self._closed.bind(("127.0.0.1", 0))

    @property
    def client(self) -> str:
        """The value of PICAS_SSH."""
        return f"ssh -F {shlex.quote(str(self.folder / 'client'))}"

    def __enter__(self) -> SshServer:
        self.start()
        return self

    def write_files(self) -> None:
        if os.geteuid() == 0:
            _EMPTY.mkdir(mode=0o755, exist_ok=True)
        for name in ("host", "me"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)], check=True
            )
        public = (self.folder / "host.pub").read_text()
        (self.folder / "known").write_text(f"[127.0.0.1]:{self.port} {public}")
        environment = " ".join(f'"{name}={value}"' for name, value in self.given.items())
        ports = {
            "port": self.port,
            "closed": self._closed.getsockname()[1],
            "silent": self._silent.getsockname()[1],
        }
        facts = {**ports, "folder": self.folder, "environment": environment}
        (self.folder / "server").write_text(_CONFIG.format(**facts))
        (self.folder / "client").write_text(_CLIENT.format(**facts))

    def command(self) -> list[str]:
        program = shutil.which("sshd", path=_PLACES)
        assert program
        return [program, "-D", "-e", "-f", str(self.folder / "server")]

    def ready(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            return connection.recv(4) == b"SSH-"

    def close(self) -> None:
        super().close()
        self._silent.close()
        self._closed.close()
