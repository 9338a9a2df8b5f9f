"""`picas` as people run it: a process of its own, in a directory of its own, with or without a terminal."""

from __future__ import annotations

import atexit
import contextlib
import errno
import fcntl
import io
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable
from urllib.parse import urlsplit

import pytest
from tests.warm import Warm

from picas.cli.main import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PICAS = (sys.executable, "-m", "picas")

WARM = Warm()
atexit.register(WARM.close)

PATIENCE_SECONDS = 120.0
"""Seconds after which what should happen soon counts as not happening, on a slow and busy machine too."""


@dataclass(frozen=True)
class Answer:
    """How a command ended: its exit code, what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The JSON document on the standard output."""
        return json.loads(self.out)

    @property
    def json_lines(self) -> list[Any]:
        """One JSON value a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def error(self) -> dict[str, str]:
        """The JSON error on the error output."""
        error: dict[str, str] = json.loads(self.err)["error"]
        return error


class Shell:
    """A directory to run commands in, and an environment for them.

    Args:
        database: the URL of the pool if it is not the file ``picas.db`` in the directory.
    """

    def __init__(self, directory: Path, database: str | None = None) -> None:
        self.directory = directory
        self.own = {"XDG_CONFIG_HOME": str(directory / "config"), "PICAS_SPOOL": str(directory / "spool")}
        self.pool = f"sqlite:///{directory / 'picas.db'}"
        if database is not None:
            parts = urlsplit(database)
            self.pool = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
            self.own.update(PICAS_POOL=self.pool)
            if parts.username:  # PouchDB's server has no users
                self.own.update(PICAS_USERNAME=parts.username, PICAS_PASSWORD=parts.password or "")
        self.environment = {**os.environ, "PYTHONWARNINGS": "error", **self.own}

    def __call__(self, *args: str, stdin: str = "", **environment: str) -> Answer:
        """Run picas without a terminal."""
        given, environ = stdin.encode(), {**self.environment, **environment}
        ended = WARM.run(list(args), given, self.directory, environ, PATIENCE_SECONDS)
        if ended is None:
            return self.anew(*args, stdin=stdin, **environment)
        return Answer(ended.returncode, ended.stdout.decode(), ended.stderr.decode())

    def anew(self, *args: str, stdin: str = "", **environment: str) -> Answer:
        """The same with a Python that is started for it: for what others see of such a process."""
        ended = subprocess.run(
            [*PICAS, *args],
            input=stdin.encode(),
            capture_output=True,
            cwd=self.directory,
            env={**self.environment, **environment},
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        return Answer(ended.returncode, ended.stdout.decode(), ended.stderr.decode())

    def here(self, *args: str) -> Answer:
        """The same in this process, which is much faster: for what is only about words."""
        out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.directory)
            patch.setattr(sys, "stdin", io.StringIO())
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            for name, value in self.own.items():
                patch.setenv(name, value)
            code = run(args)
        for stream in (out, err):
            stream.seek(0)
        return Answer(code, out.read(), err.read())

    @contextlib.contextmanager
    def start(self, *args: str) -> Iterator[subprocess.Popen[bytes]]:
        """Picas at work beside the test; it is killed if the test fails, or if it takes too long."""
        with subprocess.Popen(
            [*PICAS, *args],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            patience = threading.Timer(PATIENCE_SECONDS, process.kill)
            patience.start()
            try:
                yield process
            except BaseException:
                process.kill()
                raise
            finally:
                patience.cancel()

    def terminal(self, *args: str, columns: int = 80, **environment: str) -> Terminal:
        """Run picas on a terminal of its own."""
        return Terminal(
            [*PICAS, *args], self.directory, {**self.environment, "TERM": "xterm", **environment}, columns
        )

    def is_empty(self) -> bool:
        """Whether there is no token, nor a pool where one would have to be made."""
        if self.pool.startswith("sqlite:") and not self.path("picas.db").exists():
            return True
        return bool(self.here("status", "--json").json["total"] == 0)

    def write(self, name: str, text: str) -> str:
        """Write a file in the directory; its name."""
        (self.directory / name).write_text(text, "utf-8")
        return name

    def path(self, name: str) -> Path:
        """A file in the directory."""
        return self.directory / name


class Terminal:
    """A process with a pseudo-terminal for its standard streams."""

    def __init__(self, argv: list[str], directory: Path, environment: dict[str, str], columns: int) -> None:
        self._main, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.process = subprocess.Popen(
            argv,
            stdin=other,
            stdout=other,
            stderr=other,
            cwd=directory,
            env=environment,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - so that Ctrl-C is a signal
        )
        os.close(other)
        self.text = ""

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._main, text.encode())

    def wait_for(self, wanted: str) -> str:
        """Read until this was printed; all that was printed so far."""
        self._read(lambda: wanted in self.text)
        assert wanted in self.text, f"{wanted!r} is not in {self.text!r}"
        return self.text

    def end(self) -> int:
        """Read until the process has ended; its exit code."""
        self._read(lambda: False)
        code = self.process.wait(PATIENCE_SECONDS)
        os.close(self._main)
        return code

    def _read(self, enough: Callable[[], bool]) -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        while not enough():
            left = until - time.monotonic()
            if left <= 0:
                self.process.kill()
                self.process.wait()
            assert left > 0, f"it has not ended; the last it said was {self.text[-500:]!r}"
            if not select.select([self._main], [], [], left)[0]:
                continue
            try:
                data = os.read(self._main, 1 << 16)
            except OSError as error:
                if error.errno != errno.EIO:  # how Linux says that the other side is closed
                    raise
                return
            if not data:
                return
            self.text += data.decode("utf-8", "replace")


@pytest.fixture
def picas(request: pytest.FixtureRequest, pool_kind: str, tmp_path: Path) -> Shell:
    """`picas` in an empty directory, with an empty pool."""
    return Shell(tmp_path, request.getfixturevalue("database") if pool_kind == "couchdb" else None)


@pytest.fixture(scope="session")
def shell_in() -> Callable[[Path], Shell]:
    """Makes a `Shell` in a directory, for fixtures of other modules."""
    return Shell


@pytest.fixture(scope="module")
def mixed(
    request: pytest.FixtureRequest, pool_kind: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shell]:
    """A pool that is only looked at: two done, two in error, one locked, one todo."""
    directory = tmp_path_factory.mktemp("mixed")
    if pool_kind == "sqlite":
        yield _mixed(Shell(directory))
        return
    databases = request.getfixturevalue("databases")
    url = databases.make()
    yield _mixed(Shell(directory, url))
    databases.drop(url)


def _mixed(shell: Shell) -> Shell:
    shell.write("tokens.jsonl", MIXED)
    assert shell("push", "tokens.jsonl").code == 0
    assert shell("run", "--collect", "*.txt").code == 0
    shell.write(
        "more.jsonl",
        '{"_id": "held5", "input": "sleep 1"}\n{"_id": "free6", "input": "echo free6", "cores": 4}\n',
    )
    assert shell("push", "more.jsonl").code == 0
    subprocess.run([sys.executable, "-c", CLAIM], cwd=shell.directory, env=shell.environment, check=True)
    return shell


CLAIM = """
import picas
from picas.selection import Selection
assert picas.open_pool().claim(where=Selection.parse("id == 'held5'")).id == "held5"
"""


MIXED = "\n".join(
    json.dumps(fields)
    for fields in (
        {"_id": "good1", "input": "echo hello; echo warning >&2; mkdir sub; echo data > result.txt"},
        {"_id": "trick2", "input": "printf 'a\\033[31mred\\tb\\rc\\n\\302\\233x'; touch none"},
        {"_id": "bad3", "input": "echo cannot open /data/a/1.fits line 12 >&2; exit 3"},
        {"_id": "bad4", "input": "echo cannot open /data/b/2.fits line 99 >&2; exit 3"},
    )
)
