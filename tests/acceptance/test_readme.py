"""What README says is so: its commands run as they stand there, and its links lead somewhere."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

CHECKOUT = Path(__file__).resolve().parents[2]
README = (CHECKOUT / "README.md").read_text("utf-8")

ELSEWHERE = {
    "make demo": "scripts/demo.sh runs in `make wheel`, from the built wheel, and is run below",
    "make test": "that is what runs this test",
    "pip install .": "`make wheel` installs the built package into an empty environment",
}
"""Commands of README that are run by other checks than this one."""


def blocks(language: str) -> list[str]:
    """The fenced blocks in a language, in the order in which a reader meets them."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder with the examples in it, as in a fresh clone."""
    shutil.copytree(CHECKOUT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("fractals.o"))
    return tmp_path


def run(command: list[str], folder: Path, variables: Mapping[str, str] = MappingProxyType({})) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path, "XDG_STATE_HOME": str(folder / "state"), **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.skipif(
    shutil.which("cc") is None and "CI" not in os.environ, reason="the fractals need a C compiler"
)
def test_every_command_runs_as_it_stands(folder: Path) -> None:
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.strip()]
    commands = [line for line in lines if line.split("#")[0].strip() not in ELSEWHERE]
    assert len(commands) > 15, "README has lost its commands"

    said = run(["bash", "-euo", "pipefail", "-c", "\n".join(commands)], folder)

    assert "pushed 10 tokens" in said
    assert "10 done" in said
    assert "Hello from a token" in said
    assert "No such file or directory" in said
    assert "24 done" in said
    assert (folder / "pictures" / "fractal_token_3.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.couchdb
def test_the_commands_for_couchdb_run_as_they_stand(real_couchdb, folder: Path) -> None:
    block = blocks("console")[0]
    name = f"readme-{secrets.token_hex(6)}"
    login = urlsplit(real_couchdb.url)
    mine = {
        "https://couchdb.example.org/fractals": f"{real_couchdb.origin}/{name}",
        "--user ana": f"--user {login.username}",
    }
    for theirs, ours in mine.items():
        assert theirs in block
        block = block.replace(theirs, ours)
    password = {"PICAS_PASSWORD": str(login.password), "XDG_CONFIG_HOME": str(folder / "config")}
    try:
        said = run(["bash", "-euo", "pipefail", "-c", block], folder, password)
    finally:
        real_couchdb.ask("DELETE", f"/{name}")
    assert "all is well" in said
    assert "pushed 10 tokens" in said
    assert "10 done" in said


def test_the_commands_for_clusters_say_what_would_be_submitted(folder: Path) -> None:
    block = blocks("console")[1]
    folder.joinpath("process_task.sh").write_text("#!/bin/sh\ntrue\n")
    lines = [line.split("#")[0].strip() for line in block.splitlines()]
    dry = [line + " --dry-run" if line.startswith("picas submit") else line for line in lines]
    wanted = [line for line in dry if not line.startswith(("picas submit status", "picas autopilot"))]
    assert len(wanted) == len(lines) - 2
    said = run(["bash", "-euo", "pipefail", "-c", "\n".join(["picas push - <<< true", *wanted])], folder)
    assert "#SBATCH --array=0-199" in said
    assert "pilot.pyz: " in said
    assert "Parameters = " in said


def test_what_runs_elsewhere_is_in_the_makefile() -> None:
    targets = re.findall(r"^(\w+):", (CHECKOUT / "Makefile").read_text("utf-8"), re.MULTILINE)
    shown = {line.split("#")[0].strip() for block in blocks("sh") for line in block.splitlines()}
    for command in ELSEWHERE:
        assert command in shown, f"README no longer says {command!r}"
    assert {"demo", "test", "wheel"} <= set(targets)


def test_the_demo_runs(folder: Path) -> None:
    said = run([str(CHECKOUT / "scripts" / "demo.sh")], folder)
    assert "10 done" in said


def test_the_python_example_runs(folder: Path) -> None:
    (example,) = blocks("python")
    said = run([sys.executable, "-W", "error", "-c", example], folder)
    assert said.splitlines()[-1] == "2 [{'length': 6}, {'length': 13}]"


def test_every_link_leads_to_a_file() -> None:
    targets = [target for target in re.findall(r"\]\(([^)#]+)", README) if "://" not in target]
    assert len(targets) > 10
    missing = [target for target in targets if not (CHECKOUT / target).exists()]
    assert missing == []
