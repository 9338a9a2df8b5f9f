"""`picas` in a directory of its own, on the pool that is asked for, beside a Slurm without jobs."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, Callable

import pytest
from tests.cli.conftest import Shell

from picas.pool import open_pool

if TYPE_CHECKING:
    from pathlib import Path

    from tests.slurm.cluster import SlurmCluster

    from picas.tokens import Token

PATIENCE_SECONDS = 120.0
"""Seconds after which what should happen soon counts as not happening, on a slow and busy machine too."""


class Site:
    """A Slurm, and PiCaS beside it."""

    def __init__(self, slurm: SlurmCluster, directory: Path, database: str | None = None) -> None:
        self.slurm = slurm
        self.picas = Shell(directory, database)
        self.url = database or self.picas.pool

    def submit(self, *args: str) -> list[str]:
        """Submit pilots; the ids of their jobs."""
        answer = self.picas("submit", "slurm", "--json", *args)
        assert answer.code == 0, answer.err
        return [each for job in answer.json["jobs"] for each in job["ids"]]

    def push(self, *lines: str) -> None:
        """Tokens: one for each line."""
        assert self.picas("push", "-", stdin="".join(f"{line}\n" for line in lines)).code == 0

    def tokens(self) -> list[Token]:
        """All of them."""
        with contextlib.closing(open_pool(self.url)) as pool:
            return list(pool.tokens())

    def token(self) -> Token:
        """The only one."""
        (token,) = self.tokens()
        return token

    def states(self) -> list[str]:
        """The states of all tokens."""
        return [str(token.state.value if token.state else None) for token in self.tokens()]

    def printed(self) -> str:
        """What all pilots printed."""
        return "".join(path.read_text() for path in sorted(self.picas.directory.glob("*.out")))

    def until(self, condition: Callable[[], Any]) -> Any:
        """What the condition says as soon as it is true; the test fails if it never is."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (found := condition()):
            assert time.monotonic() < deadline, (
                f"it did not happen in time; the pilots printed: {self.printed()}"
            )
            time.sleep(0.1)
        return found

    def alive(self) -> int:
        """How many pilots wait or work, by `picas submit status`."""
        answer = self.picas("submit", "status", "--json")
        assert answer.code == 0, answer.err
        return sum(job["alive"] for job in answer.json["jobs"])

    def until_over(self) -> None:
        """Wait until no job is left."""
        self.until(lambda: not self.slurm.waiting())


@pytest.fixture
def site(request: pytest.FixtureRequest, pool_kind: str, tmp_path: Path, slurm: SlurmCluster) -> Site:
    """PiCaS in an empty directory, with an empty pool, beside a Slurm without jobs."""
    return Site(slurm, tmp_path, request.getfixturevalue("database") if pool_kind == "couchdb" else None)
