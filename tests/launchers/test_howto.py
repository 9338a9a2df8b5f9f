"""Every command of docs/how-to/batch-systems.md runs as it stands there: on this machine and by a real ssh, the rest with fakes."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.launchers import fakes
from tests.sshd import SshServer, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "batch-systems.md").read_text("utf-8")

ELSEWHERE = {
    "tail -f picas-*.out": "it would not end",
    "picas submit cancel 261123-025428-17995_2": "that job is an example",
}
"""Commands that are not run, and why."""


def commands() -> list[str]:
    """The commands of the page in their order, each on one line."""
    return [
        re.sub(r"\s{2,}#.*", "", command).strip()
        for block in re.findall(r"^```console\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
        for command in re.split(r"^\$ ", block.replace("\\\n", " "), flags=re.MULTILINE)[1:]
    ]


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[SshServer]:
    """The hosts of the page."""
    home = tmp_path / "home"
    home.mkdir()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    yield from serving({"HOME": str(home), "PATH": path, "LC_ALL": "C.UTF-8"})


@pytest.mark.slow
def test_every_command_of_the_page_runs(tmp_path: Path, sshd: SshServer) -> None:
    work = tmp_path / "work"
    work.mkdir()
    fakes.write(tmp_path / "bin", fakes.BATCH)
    for name, text in {
        "fit": "#!/bin/sh\necho $1\n",
        "fit.py": "def main(token):\n    return len(token.input)\n",
        "machines.txt": "node1  # the old one\n\nnode2\n",
        "config.toml": f'pool = "sqlite:///{work}/picas.db"\n',
        "tokens.txt": "true\ntrue\n",
    }.items():
        (work / name).write_text(text)
        (work / name).chmod(0o700)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PICAS_SSH": sshd.client,
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "FAKE_STATE": str(tmp_path / "fake.json"),
    }
    # What the page calls 'work' is in the home directory there, which sshd takes from the system and not from us.
    # Of 200 pilots the fakes would run each, one after the other.
    swaps = {
        "--directory work": f"--directory {shlex.quote(str(tmp_path / 'home' / 'work'))}",
        "--pilots 200": "--pilots 2",
        "--pilots 20": "--pilots 2",
    }

    def run(command: str) -> None:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"

    run("picas push tokens.txt")
    ran = [command for command in commands() if command not in ELSEWHERE]
    assert len(ran) == len(commands()) - len(ELSEWHERE)
    try:
        for command in ran:
            for told, here in swaps.items():
                command = command.replace(told, here)  # noqa: PLW2901 - as it can be run here
            run(command)
    finally:
        run("picas submit cancel || true")
