"""A bundle, and a machine to run it on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.bundle.node import (
    ACTOR,
    FIT,
    MEASURE,
    STATE,
    Node,
)
from tests.cli.conftest import picas, shell_in

from picas.bundling import archive, compiling, contents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cli.conftest import Shell

__all__ = ["picas", "shell_in"]  # fixtures


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, shell_in: Callable[[Path], Shell]) -> Path:
    """A bundle with files of the user's."""
    shell = shell_in(tmp_path_factory.mktemp("bundle"))
    shell.write("fit.py", FIT)
    shell.write("actor.py", ACTOR)
    shell.write("state.py", STATE)
    Path(shell.path(shell.write("measure.sh", MEASURE))).chmod(0o750)
    shell.path("tables").mkdir()
    shell.write("tables/numbers.txt", "40 2\n")
    made = shell("bundle", "fit.py", "actor.py", "state.py", "measure.sh", "tables", PATH="/usr/bin:/bin")
    assert (made.code, made.err) == (0, "")
    assert made.out.endswith("python3 pilot.pyz run\n")
    return Path(shell.path("pilot.pyz"))


@pytest.fixture(scope="session")
def plain(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One without files, and without code that is compiled for this Python."""
    target = tmp_path_factory.mktemp("plain") / "pilot.pyz"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiling, "pythons", lambda oldest: [])
        made = archive.write(target, contents.assemble((), None))
    assert (made.pythons, made.files) == ([], [])
    return target


@pytest.fixture
def node(bundle: Path, tmp_path: Path) -> Node:
    for name in ("home", "tmp", "work"):
        (tmp_path / name).mkdir()
    environment = {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp"), "PATH": "/usr/bin:/bin"}
    return Node(bundle, tmp_path / "work", environment)


@pytest.fixture
def tiny() -> Iterator[Callable[[Path], None]]:
    """Makes a directory a file system that is full."""
    mounted = []

    def cover(place: Path) -> None:
        if sys.platform != "linux" or os.geteuid() != 0:
            pytest.skip("only root on Linux may mount a file system")
        command = ["mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=6,mode=700", "tmpfs", str(place)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("no file system can be mounted here")
        mounted.append(place)

    yield cover
    for place in mounted:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
