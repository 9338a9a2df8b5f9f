"""Batch systems that are not there, for tests of what is said to them and what is made of their answers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Callable

import pytest
from tests.cli.conftest import Shell
from tests.launchers import fakes

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def picas(tmp_path: Path) -> Shell:
    """`picas` in an empty directory, with a state of its own."""
    shell = Shell(tmp_path)
    ours = {"XDG_STATE_HOME": str(tmp_path / "state"), "FAKE_STATE": str(tmp_path / "fake.json")}
    shell.own.update(ours)
    shell.environment.update(ours)
    return shell


@pytest.fixture
def site(picas: Shell) -> Callable[..., Shell]:
    """Makes the programs of a batch system, each with its text, the first ones on the PATH."""

    def make(**programs: str) -> Shell:
        folder = picas.directory / "bin"
        fakes.write(folder, {name.replace("__", "-"): text for name, text in programs.items()})
        path = f"{folder}:{os.environ['PATH']}"
        picas.own["PATH"] = picas.environment["PATH"] = path
        return picas

    return make
