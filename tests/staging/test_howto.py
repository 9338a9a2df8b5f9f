"""Every command of docs/how-to/data.md and containers.md runs as it stands there.

Places are replaced by ones of the test's own. Apptainer, Docker and rclone are stand-ins.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.pilot import runtimes

from picas.pool import open_pool
from picas.staging import IN, OUT
from picas.staging.plan import Staging
from picas.tokens import Token

PAGES = Path(__file__).parents[2] / "docs" / "how-to"
DATA = (PAGES / "data.md").read_text("utf-8")
CONTAINERS = (PAGES / "containers.md").read_text("utf-8")


def console(page: str) -> list[list[str]]:
    """The commands of each block, in their order."""
    blocks = re.findall(r"^```console\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    return [[line[2:] for line in block.splitlines() if line.startswith("$ ")] for block in blocks]


class Desk:
    """A folder with a pool of its own, and programs on PATH."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bin = path / "bin"
        self.bin.mkdir()
        self.replaced: dict[str, str] = {"/project": str(path / "project")}

    @property
    def pool(self):
        return open_pool(f"sqlite:///{self.path}/picas.db")

    def program(self, name: str, text: str) -> Path:
        path = self.path / name
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)
        return path

    def run(self, commands: list[str]) -> str:
        script = "\n".join(commands)
        for written, here in self.replaced.items():
            script = script.replace(written, here)
        done = subprocess.run(
            ["bash", "-ec", script],
            cwd=self.path,
            env={
                **os.environ,
                "PATH": f"{self.bin}:{Path(sys.executable).parent}:{os.environ['PATH']}",
                "HOME": str(self.path),
                "XDG_STATE_HOME": str(self.path / "state"),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def test_no_block_of_the_pages_is_left_out():
    assert (len(console(DATA)), len(console(CONTAINERS))) == (4, 2)


def test_the_example_of_a_token_is_one():
    (text,) = re.findall(r"^```json\n(.*?)^```$", DATA, re.DOTALL | re.MULTILINE)
    token = Token("7", json.loads(text))
    (fetched,) = Staging().items(token, IN, trusted=True)
    (brought,) = Staging().items(token, OUT, trusted=True)
    assert (fetched.path, brought.path, brought.checksum) == ("raw.fits.gz", "*.txt", "adler32")


@pytest.mark.slow
def test_files_for_all_tokens(desk):
    raw = desk.path / "project" / "raw"
    raw.mkdir(parents=True)
    (raw / "a.txt").write_text("b\na\n")
    (raw / "b.txt").write_text("d\nc\n")
    every, _, _, shown = console(DATA)
    desk.run(every)
    assert (desk.path / "project/results/token_0.txt").read_text() == "a\nb\n"
    assert (desk.path / "project/results/token_1.txt").read_text() == "c\nd\n"
    uploads = json.loads(desk.run(shown))["uploads"]
    assert uploads["out.txt"]["url"] == f"{desk.path}/project/results/token_0.txt"
    assert uploads["out.txt"]["size"] == 4


@pytest.mark.slow
def test_a_command_of_the_users(desk):
    shutil.move(desk.program("rclone", 'echo "$@" > "$3"'), desk.bin / "rclone")
    desk.pool.push([{"input": "cat 7.fits", "stage_in": "surf:bucket/7.fits"}])
    desk.run(console(DATA)[1])
    token = desk.pool.get("token_0")
    said = b"".join(desk.pool.read_attachment("token_0", f"logs_{token.id}.out")).decode()
    assert said.startswith("copyto surf:bucket/7.fits /")


@pytest.mark.slow
def test_a_site_with_credentials(desk, site):
    site.login = "Bearer s3cret"
    site.folders.add("/results/")
    (desk.path / ".dcache-token").write_text("s3cret\n")
    desk.program("fit.sh", "echo $1 > fit.txt")
    desk.replaced["davs://dcache.example.org:2880"] = site.url.replace("http", "dav")
    place = site.url.replace("http", "dav") + "/results/"
    desk.pool.push([{"input": "x", "stage_out": {"url": place, "path": "fit.txt"}}])
    desk.run(console(DATA)[2])
    assert site.files["/results/fit.txt"] == b"x\n"


@pytest.mark.slow
@pytest.mark.parametrize("command", [line for block in console(CONTAINERS) for line in block])
def test_commands_in_containers(desk, command):
    runtimes.put(desk.bin, "apptainer", "docker")
    (desk.path / "fits.sif").touch()
    shutil.move(desk.program("fit", "echo fitted $1"), desk.bin / "fit")
    desk.program("fit.py", "echo fitted $1")
    desk.pool.push(["a"])
    desk.run([command])
    assert b"".join(desk.pool.read_attachment("token_0", "logs_token_0.out")) == b"fitted a\n"
