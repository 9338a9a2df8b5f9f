"""The fractals example as its README runs it: push, pilots, pictures back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "fractals"


def picas(folder, *arguments):
    """Run the console script of the environment that the tests run in."""
    command = [str(Path(sys.executable).with_name("picas")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, cwd=folder).stdout


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A folder with a copy of the example, and a pool in which the small sweep has run."""
    if shutil.which("cc") is None and "CI" not in os.environ:
        pytest.skip("needs a C compiler, named cc")
    folder = tmp_path_factory.mktemp("sweep run")
    shutil.copytree(FOLDER, folder / "examples" / "fractals", ignore=shutil.ignore_patterns("fractals"))
    picas(folder, "push", "examples/fractals/sweep-small.txt")
    script = ["examples/fractals/process_task.sh", "{input}", "{id}"]
    picas(folder, "run", "--workers", "2", "--collect", "*.png", "--", *script)
    return folder


def test_every_token_of_the_sweep_is_done(swept):
    status = json.loads(picas(swept, "status", "--json"))
    assert {state: status[state] for state in ("todo", "locked", "done", "error")} == {
        "todo": 0,
        "locked": 0,
        "done": 6,
        "error": 0,
    }


def test_the_picture_of_a_token_comes_back_byte_for_byte(swept, tmp_path):
    picas(swept, "get", "token_3", "-o", str(tmp_path))
    (picture,) = tmp_path.rglob("*.png")
    assert picture.name == "fractal_token_3.png"

    parameters = (FOLDER / "sweep-small.txt").read_text().splitlines()[3].split()
    program = swept / "examples" / "fractals" / "fractals"
    subprocess.run(
        [program, "-o", tmp_path / "again.png", *parameters], check=True, stdout=subprocess.DEVNULL
    )
    assert picture.read_bytes() == (tmp_path / "again.png").read_bytes()


def test_the_facts_of_a_picture_are_the_tokens_output(swept, tmp_path):
    picas(swept, "get", "token_0", "-o", str(tmp_path))
    (picture,) = tmp_path.rglob("*.png")
    output = json.loads(picas(swept, "show", "token_0", "--json"))["output"]
    assert output.pop("seconds") >= 0
    assert output == {"file": "fractal_token_0.png", "size": picture.stat().st_size}


def test_what_the_program_said_is_the_tokens_log(swept):
    assert "fractal_token_5.png: 96 x 96 pixels, 4686 branches" in picas(swept, "logs", "token_5")
