"""`picas bundle`: a pilot in one file, on machines that have nothing but Python."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from picas._version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Shell

pytestmark = pytest.mark.embedded

PATIENCE_SECONDS = 120


@dataclass
class Node:
    """A machine on which there is nothing but Python: no environment, no site-packages, an empty home.

    Attributes:
        bundle: the pilot's file.
        directory: where it is started.
        python: the Python, with its options.
        environment: all the variables that there are.
    """

    bundle: Path
    directory: Path
    python: tuple[str, ...] = (sys.executable, "-I", "-S")
    environment: dict[str, str] = field(default_factory=dict)

    def __call__(self, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.python, str(self.bundle), *args],
            cwd=self.directory,
            env={"PATH": "/usr/bin:/bin", **self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, shell_in: Callable[[Path], Shell]) -> Path:
    """A bundle of picas alone."""
    shell = shell_in(tmp_path_factory.mktemp("plain"))
    made = shell("bundle")
    assert (made.code, made.err) == (0, "")
    return Path(shell.path("pilot.pyz"))


@pytest.fixture
def node(plain: Path, tmp_path: Path) -> Node:
    home = tmp_path / "home"
    home.mkdir()
    return Node(plain, tmp_path, environment={"HOME": str(home), "TMPDIR": str(tmp_path)})


def test_a_bundle_is_picas(node: Node) -> None:
    assert node("--version").stdout == f"picas {__version__}\n"


def test_a_bundled_pilot_runs_tokens(node: Node, picas: Shell) -> None:
    picas.write("tokens.txt", "echo one\necho two\n")
    picas("push", "tokens.txt")
    ended = node("run", "--pool", picas.pool)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert picas("status", "--json").json["done"] == 2
    assert picas("logs", "token_1").out == "two\n"


def test_nothing_is_written_but_to_the_pool(node: Node, picas: Shell) -> None:
    picas.write("tokens.txt", "true\n")
    picas("push", "tokens.txt")
    before = sorted(os.listdir(node.directory))
    node("run", "--pool", picas.pool)
    assert sorted(os.listdir(node.directory)) == before
    assert os.listdir(node.environment["HOME"]) == []
