"""`picas logs`: of finished tokens and of running ones."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Shell

ESC = "\x1b"


def test_output_then_error_output(mixed: Shell) -> None:
    answer = mixed("logs", "good1")
    assert (answer.code, answer.out, answer.err) == (0, "hello\nwarning\n", "")


def test_only_one_of_them(mixed: Shell) -> None:
    assert mixed.here("logs", "--out", "good1").out == "hello\n"
    assert mixed.here("logs", "good1", "--err").out == "warning\n"


@pytest.mark.any_pool
def test_as_json(mixed: Shell) -> None:
    assert mixed.here("logs", "good1", "--json").json == {
        "id": "good1", "state": "done", "attempt": 1, "out": "hello\n", "err": "warning\n",
    }  # fmt: skip
    assert mixed.here("logs", "good1", "--json", "--err").json["out"] is None


def test_a_pipe_gets_the_bytes_a_terminal_what_it_cannot_act_on(mixed: Shell) -> None:
    with mixed.start("logs", "trick2") as process:
        assert process.stdout is not None
        assert process.stdout.read() == b"a\x1b[31mred\tb\rc\n\xc2\x9bx"
        assert process.stderr is not None
        assert process.stderr.read() == b""
    terminal = mixed.terminal("logs", "trick2")
    assert terminal.end() == 0
    assert terminal.text == "a\\x1b[31mred\tb\r\nc\r\n\\x9bx"


@pytest.mark.any_pool
def test_letters_that_are_cut_between_two_pieces_come_whole(picas: Shell) -> None:
    picas.here("push", picas.write("t.txt", "head -c 1048575 /dev/zero | tr '\\0' x; echo é\n"))
    picas("run")
    terminal = picas.terminal("logs", "token_0")
    terminal.end()
    assert terminal.text.endswith("xé\r\n")


@pytest.mark.any_pool
def test_each_attempt_has_its_own(picas: Shell) -> None:
    picas.here("push", picas.write("t.txt", "echo attempt $PICAS_ATTEMPT; exit 1\n"))
    for _ in range(3):
        picas("run")
        picas.here("reset", "error")
    assert picas("logs", "token_0").out == "attempt 3\n"
    for attempt in (1, 2, 3):
        assert picas.here("logs", "token_0", "--attempt", str(attempt)).out == f"attempt {attempt}\n"
    answer = picas("logs", "token_0", "--attempt", "4")
    assert answer.code == 1
    assert answer.err == "picas: token token_0 has no attempt 4\nIts attempts are: 1, 2, 3.\n"


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("free6",), 1, "picas: token free6 (todo) has no logs\nIt has not run yet.\n"),
        (("nope",), 1, "picas: there is no token nope in POOL\n"),
        (("good1", "--attempt", "0"), 2, "picas: invalid value for '--attempt'"),
        (
            ("held5", "-f"),
            1,
            "picas: token held5 was claimed by a program that does not say where it works\n",
        ),
    ],
)
def test_what_cannot_be_shown(mixed: Shell, args: tuple[str, ...], code: int, message: str) -> None:
    answer = mixed.here("logs", *args)
    assert (answer.code, answer.out) == (code, "")
    assert answer.err.startswith(message.replace("POOL", mixed.pool))


def test_following_has_no_json(mixed: Shell) -> None:
    answer = mixed.here("logs", "good1", "-f", "--json")
    assert (answer.code, answer.error["message"]) == (2, "--follow and --json do not go together")


def test_a_token_that_runs_elsewhere_is_told(picas: Shell) -> None:
    picas.here("push", picas.write("t.txt", "x\n"))
    program = (
        "import picas; from picas.tokens import Claimer;"
        "picas.open_pool().claim(Claimer('p', 'node17', scratch='/scratch/x'))"
    )
    subprocess.run([sys.executable, "-c", program], cwd=picas.directory, env=picas.environment, check=True)
    answer = picas("logs", "token_0")
    assert answer.code == 1
    assert answer.err == (
        "picas: token token_0 is running on node17\n"
        "Its logs are there until it is finished; then they are in the pool.\n"
    )


@contextlib.contextmanager
def _pilot(shell: Shell) -> Iterator[None]:
    """A pilot at work on the one token of the pool, and not finished when this ends."""
    with shell.start("run") as process:
        try:
            until = time.monotonic() + 120
            while shell.here("status", "--json").json["locked"] == 0:
                assert time.monotonic() < until
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate()


def test_a_running_token_can_be_looked_at_and_followed(picas: Shell) -> None:
    wait = "until [ -e go ]; do sleep 0.05; done"
    at = str(picas.directory)
    picas.here("push", picas.write("t.txt", f"cd '{at}'; echo one; echo oops >&2; {wait}; echo two\n"))
    with _pilot(picas):
        until = time.monotonic() + 120
        while picas("logs", "token_0").out != "one\noops\n":
            assert time.monotonic() < until
        assert picas("logs", "token_0", "--err").out == "oops\n"
        live = picas("logs", "token_0", "--json").json
        assert (live["state"], live["out"]) == ("locked", "one\n")
        with picas.start("logs", "-f", "token_0") as follower:
            assert follower.stdout is not None
            assert follower.stdout.readline() == b"one\n"
            assert follower.stdout.readline() == b"oops\n"
            picas.write("go", "")
            assert follower.stdout.readline() == b"two\n"
            assert follower.stdout.read() == b""
        assert follower.returncode == 0
    assert picas("logs", "token_0").out == "one\ntwo\noops\n"


def test_following_ends_with_ctrl_c(picas: Shell) -> None:
    picas.here("push", picas.write("t.txt", "echo \x1b one; sleep 60\n"))
    with _pilot(picas):
        terminal = picas.terminal("logs", "-f", "token_0")
        terminal.wait_for("\\x1b one\r\n")
        terminal.type("\x03")
        assert terminal.end() == 130
        assert "Traceback" not in terminal.text


def test_following_a_finished_token_shows_what_there_is(mixed: Shell) -> None:
    assert mixed("logs", "-f", "good1").out == "hello\nwarning\n"
