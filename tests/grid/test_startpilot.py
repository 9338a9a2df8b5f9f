"""startpilot.sh on machines that have next to nothing: see `tests.grid.node`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.grid import node
from tests.grid.conftest import EXAMPLE, User

TOOLS = ("sh", "chmod", "mkdir", "uname", "seq", "tail")
"""All that the script calls, and the work of the example."""


def pythons() -> dict[str, Path]:
    """Pythons of this machine that are no virtual environment's, by their versions."""
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    found = {own: Path(sys.base_prefix, "bin", f"python{own}")}
    for path in Path("~/.pyenv/versions").expanduser().glob("3.*/bin/python3"):
        version = re.match(r"3\.\d+", path.parts[-3])
        if version:
            found.setdefault(version[0], path)
    return found


class Place:
    """A job's folder as it is on its machine, and what that machine has on its PATH.

    Args:
        user: who has submitted it.
        bundle: its pilot.
    """

    def __init__(self, user: User, bundle: Path) -> None:
        self.user = user
        self.folder = user.folder.with_name("place")
        shutil.copytree(EXAMPLE, self.folder)
        (self.folder / "process_task.sh").chmod(0o644)  # as some ways of submitting leave it
        shutil.copy(bundle, self.folder)
        shutil.copy(user.configuration, self.folder)
        (self.folder / "config.toml").chmod(0o644)
        self.bin = self.folder / "bin"  # nothing below /tmp is seen there
        self.bin.mkdir()
        for name in TOOLS:
            (self.bin / name).symlink_to(str(shutil.which(name)))

    def give_python(self) -> None:
        """Put a ``python3`` on the PATH."""
        (self.bin / "python3").symlink_to(next(iter(pythons().values())))

    def run(self, **environ: str) -> tuple[int, str]:
        """What a job does here, without any network but the way to the pool: its exit code and what it printed."""
        port = urlsplit(self.user.pool.url).port
        ended = subprocess.run(
            [sys.executable, node.__file__, str(port), str(self.folder), "/bin/sh", "startpilot.sh"],
            env={"PATH": f"{node.PLACE}/bin", "JOBID": "77", "DIRACSITE": "LCG.Example.org", **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
        )
        if ended.returncode == node.NOT_ALLOWED:
            if "CI" in os.environ:
                pytest.fail(ended.stdout)
            pytest.skip(ended.stdout)
        return ended.returncode, ended.stdout


@pytest.fixture
def place(user: User, bundle: Path) -> Place:
    """A job of a pool with five tokens."""
    if not sys.platform.startswith("linux"):
        pytest.skip("such machines are made with namespaces of Linux")
    user.pool.push((EXAMPLE / "tokens.txt").read_text().splitlines())
    return Place(user, bundle)


def test_a_machine_without_home_and_network_and_with_no_room_in_tmp(place: Place) -> None:
    place.give_python()
    code, printed = place.run()
    assert (code, place.user.counts()) == (0, {"done": 5}), printed
    assert {token["dirac_job_id"] for token in place.user.tokens().values()} == {"77"}
    assert (place.folder / "config.toml").stat().st_mode & 0o777 == 0o600
    assert list(place.folder.glob("unsent/**/*.json*")) == []


@pytest.mark.parametrize("where", ["bin/python3.11", "diracos/bin/python3"])
def test_another_python_where_python3_is_too_old(place: Place, where: str) -> None:
    (place.bin / "python3").write_text("#!/bin/sh\necho Python 2.7.18\nexit 1\n")
    (place.bin / "python3").chmod(0o755)
    (place.folder / where).parent.mkdir(parents=True, exist_ok=True)
    (place.folder / where).symlink_to(next(iter(pythons().values())))
    code, printed = place.run(DIRACOS=f"{node.PLACE}/diracos")
    assert (code, place.user.counts()) == (0, {"done": 5}), printed


def test_no_python_that_is_new_enough(place: Place) -> None:
    (place.bin / "python3").write_text("#!/bin/sh\necho Python 2.7.18\nexit 1\n")
    (place.bin / "python3").chmod(0o755)
    code, printed = place.run()
    assert code == 127
    assert re.search(r"no Python of 3\.9 or newer on \S+; python3 there is: Python 2\.7\.18", printed)
    assert place.user.counts() == {"todo": 5}


@pytest.mark.slow  # they compile what is not compiled for them
@pytest.mark.parametrize("version", ["3.8", "3.9", "3.13"])
def test_a_bundle_runs_on_the_pythons_that_it_was_made_for(place: Place, version: str) -> None:
    python = pythons().get(version)
    if python is None:
        pytest.skip(f"no Python {version} here")
    (place.bin / "python3").symlink_to(python)
    code, printed = place.run()
    if tuple(map(int, version.split("."))) >= sys.version_info[:2]:
        assert (code, place.user.counts()) == (0, {"done": 5}), printed
    else:
        assert code in (4, 127)
        assert f"Python {version}" in printed
        assert place.user.counts() == {"todo": 5}


def test_a_sandbox_without_the_configuration(place: Place) -> None:
    place.give_python()
    (place.folder / "config.toml").unlink()
    code, printed = place.run()
    assert code == 1
    assert "config.toml" in printed
    assert place.user.counts() == {"todo": 5}


def test_a_home_that_cannot_be_written(place: Place) -> None:
    place.give_python()
    code, printed = place.run(HOME="/nonexistent")
    assert (code, place.user.counts()) == (0, {"done": 5}), printed
