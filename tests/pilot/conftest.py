"""A pool of the test's own, and pilots on it: in this process, or started as programs that get signals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable
from urllib.parse import urlsplit

import pytest

from picas.budgets import Budgets
from picas.pilot.loop import Pilot
from picas.pool import Pool, open_pool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from picas.pilot.summary import Event, Summary
    from picas.tokens import Token

PATIENCE = 120.0
"""Seconds after which what should happen soon counts as not happening, on a slow and busy machine too."""

AT_ONCE = Budgets(pause=(0.0, 0.0))
"""Tests do not wait for the next try of what failed, but for those that are about it."""

PROGRAM = """
import dataclasses, json, sys
from picas.budgets import Budgets
from picas.pilot.loop import Pilot
from picas.pool import open_pool

url, source, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
options["collect"] = tuple(options.get("collect", ()))
options["budgets"] = Budgets(pause=tuple(options.pop("budgets_pause", (0, 0))))
space = {}
exec(source, space)
summary = Pilot(open_pool(url), space.get("work"), **options).run()
print(json.dumps(dataclasses.asdict(summary)))
"""


def eventually(condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """What the condition says as soon as it is true; the test fails if it never is."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


class Started:
    """A pilot that runs as a program of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def summary(self, seconds: float = PATIENCE) -> dict[str, Any]:
        """What the pilot did, once it has ended by itself."""
        out, err = self.process.communicate(timeout=seconds)
        assert self.process.returncode == 0, err
        answer: dict[str, Any] = json.loads(out)
        return answer

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.communicate()


class Bench:
    """A pool, what runs on it, and what can be seen of it."""

    def __init__(self, path: Path, mark: str, url: str) -> None:
        self.path = path
        self.mark = mark
        self.url = url
        self.pool = open_pool(self.url)
        self.spool = path / "spool"
        self.scratch = path / "scratch"
        self.scratch.mkdir()
        self.events: list[Event] = []
        self.started: list[Started] = []

    # --- Doing ---

    def push(self, *items: Any, **options: Any) -> None:
        self.pool.push(items, **options)

    def pilot(self, work: Any = None, *, pool: Pool | None = None, **options: Any) -> Pilot:
        own = {
            "spool": self.spool,
            "scratch": self.scratch,
            "on_event": self.events.append,
            "budgets": AT_ONCE,
        }
        options = {**own, **options}
        return Pilot(pool or self.pool, work, **options)

    def run(self, work: Any = None, **options: Any) -> Summary:
        return self.pilot(work, **options).run()

    def start(self, source: str = "", **options: Any) -> Started:
        """A pilot as a program; the source may define ``work``."""
        options = {"spool": str(self.spool), "scratch": str(self.scratch), **options}
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, self.url, source, json.dumps(options)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.path,
            start_new_session=True,
        )
        started = Started(process)
        self.started.append(started)
        return started

    # --- Seeing ---

    def token(self, token_id: str = "token_0") -> Token:
        return self.pool.get(token_id)

    def states(self) -> dict[str, str]:
        return {token.id: str(token.state.value if token.state else None) for token in self.pool.tokens()}

    def attached(self, name: str, token_id: str = "token_0") -> bytes:
        return b"".join(self.pool.read_attachment(token_id, name))

    def out(self, token_id: str = "token_0") -> str:
        return self.attached(f"logs_{token_id}.out", token_id).decode()

    def err(self, token_id: str = "token_0") -> str:
        return self.attached(f"logs_{token_id}.err", token_id).decode()

    def message(self, token_id: str = "token_0") -> str:
        """What the newest entry of the token's error list says."""
        return str(self.token(token_id)["error"][-1]["message"])

    def problems(self) -> str:
        return "\n".join(event.message for event in self.events if event.kind == "problem")

    def left_in_scratch(self) -> list[str]:
        return sorted(path.name for path in self.scratch.rglob("*"))

    def alive(self, *, pilots: bool = False) -> list[str]:
        """Command lines of processes that were started under this test's mark and have not ended."""
        own = {os.getpid()} | (set() if pilots else {each.process.pid for each in self.started})
        found = []
        for directory in Path("/proc").iterdir():
            if not directory.name.isdecimal() or int(directory.name) in own:
                continue
            with suppress(OSError):
                if self.mark.encode() in (directory / "environ").read_bytes():
                    found.append((directory / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        return found


@pytest.fixture
def bench(tmp_path: Path, pool_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    mark = f"mark-{uuid.uuid4().hex}"
    monkeypatch.setenv("TEST_MARK", mark)
    monkeypatch.setenv("TEST_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    parts = urlsplit(pool_url)
    if parts.username:  # a file, since the environment's password is the pilot's, and not its work's
        login = f"machine {parts.hostname} login {parts.username} password {parts.password}\n"
        (tmp_path / ".netrc").write_text(login)
        (tmp_path / ".netrc").chmod(0o600)
        pool_url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    bench = Bench(tmp_path, mark, pool_url)
    yield bench
    for started in bench.started:
        if started.process.returncode is None:
            status = started.process.poll()
            started.process.kill()
            print(f"pilot {status}:", *started.process.communicate())  # shown where the test failed
    bench.pool.close()


@pytest.fixture(name="eventually")
def _eventually() -> Callable[..., Any]:
    return eventually
