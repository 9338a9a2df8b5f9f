"""Running commands."""

from __future__ import annotations

import pytest

from picas.executers import execute, execute_old


def test_a_command_gives_process_code_and_what_it_wrote() -> None:
    process, code, out, err = execute(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (process.returncode, code, out, err) == (3, 3, b"out\n", b"err\n")


def test_a_text_is_for_a_shell() -> None:
    assert execute("echo $((1 + 1))", shell=True)[1:] == (0, b"2\n", b"")
    assert execute_old("exit 3") == 3 << 8


def test_what_cannot_be_started_is_told() -> None:
    with pytest.raises(FileNotFoundError):
        execute(["no-such-command"])
