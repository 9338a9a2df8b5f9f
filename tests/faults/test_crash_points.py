"""A power cut, or a full disk, at every write point of a pool's file, of a spool, and of a pilot that has both.

The process is killed at the point, or in the middle of the write, or finds no space there and for a while. What had
been answered must be there then, and of the rest all or nothing; the next process goes on as if nothing had been.
Writes are found below Python (see faults.c), so that SQLite's count as well.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent

LONG_SECONDS = 3600.0
"""Seconds after which a run of all rounds counts as stuck."""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that counts writes, made of faults.c."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None or sys.platform != "linux":
        if "CI" in os.environ and sys.platform == "linux":
            pytest.fail("there is no C compiler: run scripts/system-deps.sh")
        pytest.skip("needs Linux and a C compiler")
    made = tmp_path_factory.mktemp("faults") / "faults.so"
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(made), str(HERE / "faults.c"), "-ldl"]
    subprocess.run(command, check=True)
    return made


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Where the rounds are: in memory if it can be, since a killed process, other than a cut power, loses nothing there."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="picas-test-", dir=memory) as made:
        yield Path(made)


def rounds(library: Path, place: Path, *args: str) -> dict[str, int]:
    """How many rounds of each kind there were, if nothing was wrong after any of them."""
    environment = {**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": str(HERE.parent.parent)}
    command = [sys.executable, str(HERE / "cut.py"), args[0], str(place / "rounds"), *args[1:]]
    ended = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=LONG_SECONDS, check=False
    )
    assert ended.returncode == 0, ended.stderr
    answer = json.loads(ended.stdout)
    assert answer["number"] == 0, "\n\n".join(answer["wrong"])
    found: dict[str, int] = answer["rounds"]
    print(f"{args[0]}: {found}")
    return found


@pytest.mark.parametrize(
    ("scenario", "stride", "least"),
    [("spool", 3, 10), ("pool", 17, 15), ("sending", 71, 4), ("pilot", 101, 2)],
)
def test_some_points(library: Path, place: Path, scenario: str, stride: int, least: int) -> None:
    found = rounds(library, place, scenario, str(stride), "0")
    assert set(found) == {"kill", "tear", "full"}
    assert min(found.values()) >= least


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["kill", "tear", "full"])
@pytest.mark.parametrize(
    ("scenario", "least"), [("spool", 40), ("pool", 300), ("sending", 300), ("pilot", 250)]
)
def test_all_points(library: Path, place: Path, scenario: str, least: int, kind: str) -> None:
    assert rounds(library, place, scenario, "1", "0", kind)[kind] >= least
