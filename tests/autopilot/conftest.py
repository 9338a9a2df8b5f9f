"""A directory with a plan, an empty pool of the kind that is asked for, and Slurm's commands on the PATH."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any, Callable

import pytest
from tests.autopilot.fake_slurm import install
from tests.cli.conftest import Shell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PLAN = """
max-pilots = 4

[profiles.SingleCore]
launcher = "slurm"
time = "1h"

[profiles.MultiCore]
launcher = "slurm"
cores = 4
time = "1h"
where = "cores > 1"
"""

PATIENCE_SECONDS = 60.0


class Site:
    """A directory with a plan, a pool, and Slurm's commands on the PATH."""

    def __init__(self, directory: Path, database: str | None) -> None:
        self.picas = Shell(directory, database)
        self.url = database or self.picas.pool
        self.slurm = install(directory / "slurm")
        state = directory / "state"
        self.picas.own.update(PATH=f"{self.slurm}:{os.environ['PATH']}", XDG_STATE_HOME=str(state))
        self.picas.environment.update(self.picas.own)
        self.pushed = 0
        self.plan(PLAN)

    def plan(self, text: str) -> None:
        """Have another plan."""
        self.picas.write("autopilot.toml", text)

    def push(self, *tokens: dict[str, Any]) -> None:
        """Push tokens."""
        text = "".join(f"{json.dumps({'n': self.pushed + n, **fields})}\n" for n, fields in enumerate(tokens))
        self.pushed += len(tokens)
        assert self.picas.here("push", self.picas.write("tokens.jsonl", text)).code == 0

    def look(self, *args: str, code: int = 0) -> dict[str, Any]:
        """Look once; what it tells."""
        answer = self.picas.here("autopilot", "--once", "--json", *args)
        assert answer.code == code, answer.err + answer.out
        found: dict[str, Any] = answer.json
        return found

    def profile(self, look: dict[str, Any], name: str = "SingleCore") -> dict[str, Any]:
        """What it tells of one kind."""
        found: dict[str, Any] = next(each for each in look["profiles"] if each["name"] == name)
        return found

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for it."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.1)

    def counts(self) -> dict[str, int]:
        """How many tokens are in which state."""
        status = self.picas.here("status", "--json").json
        return {name: status[name] for name in ("todo", "locked", "done", "error", "other")}


@pytest.fixture
def site(request: pytest.FixtureRequest, pool_kind: str, tmp_path: Path) -> Iterator[Site]:
    """An empty pool beside an idle cluster; nothing of it is left when the test is over."""
    site = Site(tmp_path, request.getfixturevalue("database") if pool_kind == "couchdb" else None)
    yield site
    site.picas.here("submit", "cancel")
    for pid in site.slurm.glob("job-*/*.pid"):
        if not pid.with_suffix(".code").exists():
            with_group = int(pid.read_text())
            try:
                os.killpg(with_group, signal.SIGKILL)
            except ProcessLookupError:
                continue
