"""Processes that get ready one by one and start together, so that no interpreter's start is measured."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks._harness import BenchmarkError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DRIVERS = Path(__file__).parent / "_drivers"

FLEET_SECONDS = 1800.0
"""A fleet that takes longer is killed."""


class Member:
    """One process of a fleet; its errors go to a file."""

    def __init__(self, command: Sequence[object], errors: Path) -> None:
        self._errors = errors
        with errors.open("wb") as file:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                cwd=errors.parent,
            )

    def wait_ready(self) -> None:
        assert self.process.stdout is not None
        if self.process.stdout.readline() != b"ready\n":
            raise self._failure()

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def answer(self, until: float) -> dict[str, Any]:
        """The JSON object that it prints last."""
        assert self.process.stdout is not None
        try:
            code = self.process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired as error:
            raise BenchmarkError(f"a process of the fleet does not end; {self._said()}") from error
        if code:
            raise self._failure()
        answer: dict[str, Any] = json.loads(self.process.stdout.read().splitlines()[-1])
        return answer

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _failure(self) -> BenchmarkError:
        return BenchmarkError(f"a process of the fleet ended with {self.process.wait()}; {self._said()}")

    def _said(self) -> str:
        return "it said:\n" + self._errors.read_text(errors="replace")[-2000:]


@contextlib.contextmanager
def manned(commands: Sequence[Sequence[object]], cwd: Path) -> Iterator[list[Member]]:
    """A process for each command, all of which have said ``ready``; none outlives the block.

    Raises:
        BenchmarkError: one of them failed before.
    """
    fleet: list[Member] = []
    try:
        fleet += (Member(command, cwd / f".errors-{i}") for i, command in enumerate(commands))
        for member in fleet:
            member.wait_ready()
        yield fleet
    finally:
        for member in fleet:
            member.kill()


def fly(
    commands: Sequence[Sequence[object]], cwd: Path, seconds: float = FLEET_SECONDS
) -> tuple[float, list[dict[str, Any]]]:
    """Start each command, wait until all have said ``ready``, let them go together, wait for all.

    Returns:
        The time by the monotonic clock when they were let go, and the JSON object that each printed last.

    Raises:
        BenchmarkError: one of them failed, or they take too long.
    """
    with manned(commands, cwd) as fleet:
        start = time.monotonic()
        for member in fleet:
            member.go()
        return start, [member.answer(start + seconds) for member in fleet]
