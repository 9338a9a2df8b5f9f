"""`picas completion`, and completing itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Shell

ASK_BASH = """
source <(picas completion bash)
COMP_WORDS=({words})
COMP_CWORD={place}
_picas_completion picas
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def on_path(tmp_path: Path) -> dict[str, str]:
    """An environment in which `picas` is this one."""
    program = tmp_path / "bin" / "picas"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m picas "$@"\n')
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}


def _bash(environment: dict[str, str], *words: str) -> list[str]:
    quoted = " ".join(f"'{word}'" for word in words)
    script = ASK_BASH.format(words=quoted, place=len(words) - 1)
    ended = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    return ended.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("picas", "sta"), ["status"]),
        (("picas", "res"), ["resume", "reset"]),
        (("picas", "list", "--sta"), ["--state"]),
        (("picas", "list", "--state", ""), ["todo", "locked", "done", "error", "other"]),
        (("picas", "reset", "l"), ["locked"]),
        (("picas", "run", "--order", "o"), ["oldest"]),
        (("picas", "push", "--format", "js"), ["jsonl", "json"]),
        (("picas", "completion", ""), ["bash", "zsh", "fish"]),
        (("picas", "--po"), ["--pool"]),
    ],
    ids=" ".join,
)
def test_bash_offers(on_path: dict[str, str], words: tuple[str, ...], offered: list[str]) -> None:
    assert _bash(on_path, *words) == offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell_that_the_shell_can_read(picas: Shell, shell: str) -> None:
    answer = picas("completion", shell)
    assert (answer.code, answer.err) == (0, "")
    assert "_PICAS_COMPLETE" in answer.out
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=answer.out, text=True, check=True)
    assert picas("completion", shell, "--json").json == {"shell": shell, "script": answer.out[:-1]}


def test_another_shell_is_refused(picas: Shell) -> None:
    answer = picas("completion", "tcsh")
    assert (answer.code, answer.out) == (2, "")
    assert "'tcsh' is not one of 'bash', 'zsh', 'fish'" in answer.err


def test_a_broken_configuration_does_not_stop_completing(on_path: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "picas").mkdir()
    (tmp_path / "picas" / "config.toml").write_text("nonsense")
    assert _bash({**on_path, "XDG_CONFIG_HOME": str(tmp_path)}, "picas", "list", "--state", "t") == ["todo"]
