"""`picas` that has started already, up to the point where it reads its command line.

To start Python and import what `picas` needs takes longer than most of what the tests ask of it. So one process does that
once, and each command is a fork of it: a process of its own, with arguments, directory, environment and standard streams of
its own. Run as a program this module is that first process.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

STREAMS = 3
"""What travels with a request: the files that are to be its standard streams."""

_MOST = 1 << 20

_FOR_PYTHON = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "TZ")
"""Variables that count when a process starts, and not later."""


class Warm:
    """The process to fork, started when it is first wanted; it ends with this one."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._environment: dict[str, str] = {}

    def close(self) -> None:
        """Have it end."""
        if self._socket is not None and self._process is not None:
            self._socket.close()
            self._process.wait()
            self._socket = self._process = None

    def run(
        self, args: list[str], given: bytes, directory: Path, environment: Mapping[str, str], seconds: float
    ) -> subprocess.CompletedProcess[bytes] | None:
        """Run a command to its end; None if that cannot be done so: another one runs, or its Python must be another.

        Raises:
            subprocess.TimeoutExpired: it takes too long, and was killed.
        """
        if not self._turn.acquire(blocking=False):
            return None
        try:
            if self._socket is None:
                self._start(environment)
            if _for_python(environment) != _for_python(self._environment):
                return None
            return self._run(args, given, directory, environment, seconds)
        finally:
            self._turn.release()

    def _start(self, environment: Mapping[str, str]) -> None:
        # No more of it than that: others may look for secrets in the environments of all processes.
        self._environment = {**_for_python(environment), "PATH": environment.get("PATH", os.defpath)}
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MOST)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                cwd=Path(__file__).parents[1],
                env=self._environment,
            )

    def _run(
        self, args: list[str], given: bytes, directory: Path, environment: Mapping[str, str], seconds: float
    ) -> subprocess.CompletedProcess[bytes]:
        assert self._socket is not None
        facts = {"args": args, "cwd": str(directory), "env": dict(environment), "umask": _umask()}
        files = [os.memfd_create(name) for name in ("in", "out", "err")]
        try:
            with open(files[0], "wb", closefd=False) as stream:
                stream.write(given)
            os.lseek(files[0], 0, os.SEEK_SET)
            socket.send_fds(self._socket, [json.dumps(facts).encode()], files)
            pid = self._heard(60.0)
            assert pid is not None, "no command can be started"
            code = self._heard(seconds)
            if code is None:
                os.kill(pid, signal.SIGKILL)
                self._heard(60.0)
                raise subprocess.TimeoutExpired(args, seconds)
            return subprocess.CompletedProcess(args, code, _content(files[1]), _content(files[2]))
        finally:
            for file in files:
                os.close(file)

    def _heard(self, seconds: float) -> int | None:
        """The number that it tells next; None if it tells none in time."""
        assert self._socket is not None
        until = time.monotonic() + seconds
        while not select.select([self._socket], [], [], max(0.0, until - time.monotonic()))[0]:
            if time.monotonic() >= until:
                return None
        return int(self._socket.recv(100))


def _for_python(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_FOR_PYTHON)}


def _content(file: int) -> bytes:
    os.lseek(file, 0, os.SEEK_SET)
    with open(file, "rb", closefd=False) as stream:
        return stream.read()


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


# --- The first process -------------------------------------------------------------------------------


def _import_all() -> None:
    """Load what commands need."""
    from picas.cli.group import VERBS

    for name in VERBS:
        import_module(f"picas.cli.{name}")
    for name in ("classic.iterators", "pilot.loop", "stores.couch.store", "stores.sqlite.store"):
        import_module(f"picas.{name}")


def _serve(asked: socket.socket) -> bool:
    """Fork for each request. True in such a fork, which is then to run picas."""
    while True:
        said, files, _, _ = socket.recv_fds(asked, _MOST, STREAMS)
        if not said:
            return False
        pid = os.fork()
        if pid == 0:
            asked.close()
            _become(json.loads(said), files)
            return True
        for file in files:
            os.close(file)
        asked.send(str(pid).encode())
        _, status = os.waitpid(pid, 0)
        with contextlib.suppress(BrokenPipeError):
            asked.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(request: dict[str, Any], files: list[int]) -> None:
    """Be as a process that was started so."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
        os.set_inheritable(number, True)
    os.umask(request["umask"])
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.path[0] = request["cwd"]  # as with python -m
    sys.argv = [import_module("picas.__main__").__file__ or "", *request["args"]]
    random.seed()


def _run_picas() -> int:
    """Run the command line as `python -m picas` does, and what is to run at the end; the exit code."""
    from picas.cli.main import run

    try:
        code = run(sys.argv[1:])
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def main() -> None:
    """Serve until the other side has ended."""
    number = int(sys.argv[1])
    fcntl.fcntl(number, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    _import_all()
    gc.freeze()  # what is there now is nobody's to look through, and so stays shared
    with socket.socket(fileno=number) as asked:
        if not _serve(asked):
            return
    os._exit(_run_picas())  # to take the interpreter apart would take longer than most commands


if __name__ == "__main__":
    main()
