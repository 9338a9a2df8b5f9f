"""The Pythons that run a bundle: known to it, unknown to it, too old for it."""

from __future__ import annotations

import ast
import os
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.bundle.node import (
    FIT,
    STATE,
    VERSION,
    Node,
    ancient,
    oldest_of,
    told,
    unpacked,
)

from picas import bundle_main
from picas.bundling import archive, contents

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Shell


def test_a_python_that_the_bundle_has_no_code_for_keeps_what_it_compiled(
    node: Node, plain: Path, picas: Shell
) -> None:
    picas.write("tokens.txt", "true\ntrue\n")
    picas("push", "tokens.txt")
    shutil.copy(plain, node.directory / "pilot.pyz")
    (node.directory / "state.py").write_text(STATE, "utf-8")
    other = replace(node, bundle=node.directory / "pilot.pyz")
    run = ("state.py", "run", "--max-tasks", "1", "--pool", picas.pool)
    first = told(other(*run).stderr)
    assert first["code"] == 0
    assert len(first["compiled"]) > 50
    assert not first["prepared"]
    second = told(other(*run).stderr)
    assert (second["code"], second["compiled"]) == (0, [])
    (kept,) = unpacked(node)
    assert kept.stat().st_mode & 0o777 == 0o600
    kept.write_bytes(kept.read_bytes()[:1000])
    again = told(other(*run).stderr)
    assert (again["code"], sorted(again["compiled"])) == (0, sorted(first["compiled"]))
    assert os.listdir(node.environment["TMPDIR"]) == []
    assert sorted(os.listdir(node.directory)) == ["pilot.pyz", "state.py"]


def test_an_older_python_is_told_which_one_is_needed(tmp_path: Path, node: Node) -> None:
    bundle = future_bundle(tmp_path)
    ended = replace(node, bundle=bundle)("run", PATH=str(tmp_path))
    assert (ended.returncode, ended.stdout) == (4, "")
    assert ended.stderr == (
        f"picas: this bundle needs Python 3.99 or newer; {sys.executable} is Python {VERSION[0]}.{VERSION[1]}\n"
        f"Run it with a newer one, or make a bundle for this one: picas bundle --python {VERSION[0]}.{VERSION[1]}\n"
    )


def test_an_older_python_goes_on_with_a_newer_one_that_works(tmp_path: Path, node: Node) -> None:
    bundle = future_bundle(tmp_path)
    for name, check in (("one", 1), ("two", 0)):
        program = tmp_path / name / "python3.99"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exit {check}\necho {name} "$@"\n', "utf-8")
        program.chmod(0o755)
    ended = replace(node, bundle=bundle)("run", "a b", PATH=f"{tmp_path}/one:{tmp_path}/two:/usr/bin:/bin")
    assert ended.stdout == f"two -I -S {bundle} run a b\n"


def future_bundle(folder: Path) -> Path:
    """A bundle that no Python of today can run."""
    package = contents.Package("future", "1.0", (3, 99), {"future_package.py": b""})
    target = folder / "future.pyz"
    assert archive.write(target, [package]).oldest == (3, 99)
    return target


def test_the_first_lines_are_understood_by_pythons_of_long_ago() -> None:
    text = Path(bundle_main.__file__).read_text("utf-8")
    ast.parse(text, feature_version=(3, 4))
    assert not re.search(r"""\bf["']|:=|->(?! \w+( \| None)?$)""", text, re.MULTILINE)


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.8"])
def test_an_ancient_python_says_what_it_is(version: str, tmp_path: Path, node: Node) -> None:
    found = ancient(version)
    if found is None:
        pytest.skip(f"there is no Python {version}")
    ended = replace(node, python=(found,))("run", PATH=str(tmp_path))
    assert (ended.returncode, ended.stdout) == (4, "")
    assert f"{found} is Python {version}\n" in ended.stderr
    assert f"needs Python 3.{max(9, oldest_of(node.bundle))} or newer" in ended.stderr


@pytest.mark.parametrize(
    "version",
    [
        "3.9",
        "3.13",
        *(pytest.param(each, marks=pytest.mark.slow) for each in ("3.10", "3.11", "3.12", "3.14")),
    ],
)
def test_other_pythons_run_it_or_say_that_they_are_too_old(version: str, node: Node, picas: Shell) -> None:
    found = ancient(version)
    if found is None:
        pytest.skip(f"there is no Python {version}")
    picas.write("tokens.txt", "7\n")
    picas("push", "tokens.txt")
    ended = replace(node, python=(found, "-I", "-S"))(
        "run", "--pool", picas.pool, "--call", "fit:main", PATH="/bin"
    )
    if int(version.partition(".")[2]) < oldest_of(node.bundle) and ended.returncode == 4:
        assert f"is Python {version}\n" in ended.stderr
    else:
        assert (ended.returncode, ended.stderr) == (0, "")
        assert picas("show", "token_0", "--json").json["output"] == {"sum": 294}


@pytest.fixture(scope="module")
def everywhere(tmp_path_factory: pytest.TempPathFactory, shell_in: Callable[[Path], Shell]) -> Path:
    """A bundle for the oldest Python, with code for all that are here; packages come from an index."""
    shell = shell_in(tmp_path_factory.mktemp("everywhere"))
    for name, text in (("fit.py", FIT), ("state.py", STATE)):
        shell.write(name, text)
    shell.path("tables").mkdir()
    shell.write("tables/numbers.txt", "40 2\n")
    found = [
        str(Path(each).parent)
        for each in map(ancient, ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14"))
        if each
    ]
    made = shell(
        *("bundle", "--python", "3.9", "fit.py", "state.py", "tables"),
        PATH=os.pathsep.join([*found, "/usr/bin:/bin"]),
        PYTHONWARNINGS="default",  # pip is not ours
    )
    if made.code != 0 and "cannot be got" in made.err:
        if os.environ.get("CI"):
            pytest.fail(made.err)
        pytest.skip("no package index is reached")
    assert made.code == 0, made.err
    return shell.path("pilot.pyz")


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.9", "3.10", "3.11", "3.12", "3.13", "3.14"])
def test_a_bundle_for_the_oldest_python_runs_under_all(
    version: str, everywhere: Path, node: Node, picas: Shell
) -> None:
    found = ancient(version)
    if found is None:
        pytest.skip(f"there is no Python {version}")
    picas.write("tokens.txt", "7\n")
    picas("push", "tokens.txt")
    (node.directory / "config.toml").write_text(
        f'pool = "{picas.pool}"\n', "utf-8"
    )  # read by tomli, in old ones
    other = replace(node, bundle=everywhere, python=(found, "-I", "-S"))
    ended = other("state.py", "run", "--call", "fit:main", PICAS_CONFIG="config.toml")
    assert told(ended.stderr) == {"code": 0, "prepared": True, "compiled": []}
    assert picas("show", "token_0", "--json").json["output"] == {"sum": 294}
