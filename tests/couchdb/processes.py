"""Server processes for the tests: started, looked at, killed; none outlives the process that started it."""

from __future__ import annotations

import atexit
import base64
import contextlib
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Callable
from urllib.parse import urlsplit

START_SECONDS = 60.0
"""A server takes about two seconds; a busy machine gets more."""

STOP_SECONDS = 15.0
"""After a TERM, before a KILL."""

ASK_SECONDS = 60.0
"""How long an answer may take."""

# Below the range that Linux and macOS take for outgoing connections, so that nobody takes the port of a
# server that is down for a moment.
_PORTS = range(20_000, 32_000)

# Reads "+pid folder" and "-pid" lines. At the end of its input the one who started it has gone, however:
# what was not taken back is killed and removed.
_GUARD = """
import os, shutil, signal, sys, time
kept = {}
for line in sys.stdin:
    sign, (pid, _, folder) = line[0], line[1:].rstrip("\\n").partition(" ")
    if sign == "+":
        kept[pid] = folder
    else:
        kept.pop(pid, None)
for pid in kept:
    try:
        os.kill(int(pid), signal.SIGKILL)
    except ProcessLookupError:
        pass
for _ in range(20):  # a dying server may still write
    for folder in kept.values():
        shutil.rmtree(folder, ignore_errors=True)
    time.sleep(0.1)
    if not any(map(os.path.exists, kept.values())):
        break
"""


class ServerFailed(Exception):
    """A server did not start, or ended by itself; the message has the end of its log."""


class _Guard:
    """A small process that kills the servers when this one dies, also by SIGKILL.

    Not PR_SET_PDEATHSIG: that goes with the *thread* that started a server, and tests start some in threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def add(self, pid: int, folder: Path) -> None:
        self._say(f"+{pid} {folder}")

    def remove(self, pid: int) -> None:
        self._say(f"-{pid}")

    def _say(self, line: str) -> None:
        with self._lock:
            if self._process is None:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _GUARD],
                    stdin=subprocess.PIPE,
                    text=True,
                    start_new_session=True,  # Ctrl-C is not for it
                )
                atexit.register(self._close)
            stdin = self._process.stdin
            assert stdin is not None
            stdin.write(line + "\n")
            stdin.flush()

    def _close(self) -> None:
        assert self._process is not None
        self._process.communicate()


_guard = _Guard()


class Server:
    """One server process with a folder and a port of its own, on the loopback interface.

    Args:
        name: what its messages and its folder are called.

    Subclasses say how it is started (`command`, `environment`, `write_files`) and when it is `ready`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = Path(tempfile.mkdtemp(prefix=f"picas-{name}-"))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._started_before = False

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return {**os.environ, "HOME": str(self.folder)}

    def write_files(self) -> None:
        """Write the configuration; once, before the first start."""

    def ready(self) -> bool:
        """Whether it answers as it should; may raise OSError or http.client.HTTPException for no."""
        raise NotImplementedError

    # the process

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} is not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and wait until it answers. The port stays the same from the first start on.

        Raises:
            ServerFailed: it did not come up.
        """
        self.launch()
        try:
            self.wait_ready()
        except BaseException:
            self.kill()
            raise

    def launch(self) -> None:
        """Start it without waiting."""
        assert not self.running, f"{self.name} is running"
        self.kill()  # it may have ended by itself
        if not self._started_before:
            self.write_files()
            self._started_before = True
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                env=self.environment(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        _guard.add(self._process.pid, self.folder)

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        """Wait until it answers.

        Raises:
            ServerFailed: it ended, or it took longer than `seconds`.
        """
        wait_until(self._is_ready, seconds, lambda: f"{self.name} does not answer\n{self.log_tail()}")

    def _is_ready(self) -> bool:
        assert self._process is not None
        code = self._process.poll()
        if code is not None:
            raise ServerFailed(f"{self.name} ended with exit code {code}\n{self.log_tail()}")
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.ready()
        return False

    def stop(self) -> None:
        """TERM, as an administrator stops it."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """KILL: nothing that it holds in memory is written."""
        self._end(signal.SIGKILL)

    def _end(self, with_signal: int) -> None:
        process = self._process
        if process is None:
            return
        process.send_signal(with_signal)
        process.send_signal(signal.SIGCONT)  # it may be frozen
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _guard.remove(process.pid)
        self._process = None

    def restart(self) -> None:
        """Stop and start, on the same port and data."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """SIGSTOP: connections are still accepted, nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """End it for good and remove its data."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # its log

    @property
    def log_path(self) -> Path:
        return self.folder / "server.log"

    def log_tail(self, lines: int = 30) -> str:
        """The last lines of what it wrote, in its own words."""
        if not self.log_path.exists():
            return ""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    for port in random.sample(_PORTS, 200):
        with socket.socket() as probe:
            # as servers do: a connection that has just been closed does not count
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise ServerFailed("no free port")


def wait_until(condition: Callable[[], Any], seconds: float, problem: Callable[[], str]) -> None:
    """Wait until `condition` says something true.

    Raises:
        ServerFailed: with the text of `problem`, it took longer than `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise ServerFailed(problem())
        time.sleep(0.03)


def ask(
    url: str, method: str, path: str, body: Any = None, *, seconds: float = ASK_SECONDS
) -> tuple[int, Any]:
    """One request on a connection of its own: the status, and the JSON (or the text) of the answer.

    Args:
        url: ``http://user:password@host:port``; the user is optional, and so is a path before `path`.
        body: what becomes JSON; bytes are sent as they are; None for no body.

    Raises:
        OSError, http.client.HTTPException: there was no answer.
    """
    parts = urlsplit(url)
    headers = {"Accept": "application/json", "Connection": "close"}
    if parts.username is not None:
        login = f"{parts.username}:{parts.password}".encode()
        headers["Authorization"] = "Basic " + base64.b64encode(login).decode()
    if body is not None:
        headers["Content-Type"] = "application/json"
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=seconds)
    try:
        text = body if body is None or isinstance(body, bytes) else json.dumps(body)
        connection.request(method, parts.path.rstrip("/") + path, text, headers)
        with connection.getresponse() as response:
            content = response.read().decode(errors="replace")
            status = response.status
    finally:
        connection.close()
    try:
        return status, json.loads(content)
    except ValueError:
        return status, content
