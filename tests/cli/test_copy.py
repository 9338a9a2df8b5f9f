"""`picas copy`: what it says, and how it ends. What it does to pools is tested beside CouchDB."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Shell

pytestmark = pytest.mark.embedded


def _copy(shell: Shell, *args: str) -> tuple[str, ...]:
    source = f"sqlite:///{shell.path('picas.db')}"
    return ("copy", source, f"sqlite:///{shell.path('new.db')}", *args)


def test_it_tells_what_was_copied_and_how_both_pools_are(mixed: Shell, picas: Shell) -> None:
    command = ("copy", mixed_url := f"sqlite:///{mixed.path('picas.db')}", "sqlite:///new.db")
    answer = picas.here(*command, "--locked", "as-is")
    assert (answer.code, answer.err) == (0, "")
    first, *table = answer.out.splitlines()
    new = picas.path("new.db")
    assert first == f"copied 6 tokens to sqlite:///{new}, with 9 files (106 B)"
    assert [line.split() for line in table] == [
        ["SOURCE", "TARGET"], ["todo", "1", "1"], ["locked", "1", "1"], ["done", "2", "2"], ["error", "2", "2"],
    ]  # fmt: skip
    assert picas.here(*command, "--locked", "as-is").out.startswith(
        f"copied 0 tokens to sqlite:///{new}; 6 were there already\n"
    )
    counts = {"todo": 1, "locked": 1, "done": 2, "error": 2, "other": 0}
    found = picas.here(*command, "--locked", "as-is", "--verify", "--json").json
    assert found == {
        "source": {"pool": mixed_url, **counts},
        "target": {"pool": f"sqlite:///{new}", **counts},
        "copied": 0,
        "there": 6,
        "files": 0,
        "bytes": 0,
        "left": dict.fromkeys(("differs", "pushed", "refused", "changed", "damaged"), 0),
        "examples": {},
        "refusals": [],
        "other_documents": 0,
    }


def test_some_by_state_and_condition(mixed: Shell, picas: Shell) -> None:
    url = f"sqlite:///{mixed.path('picas.db')}"
    where = ("--state", "done", "--state", "failed", "--where", "startswith(id, 'bad') or id == 'good1'")
    assert picas.here("copy", url, "sqlite:///picas.db", *where, "--json").json["copied"] == 3
    assert [each["id"] for each in picas.here("list", "--json").json_lines] == ["good1", "bad3", "bad4"]
    assert picas.here("logs", "good1").out == "hello\nwarning\n"


def test_locked_tokens_stop_it(mixed: Shell, picas: Shell) -> None:
    answer = picas.here("copy", f"sqlite:///{mixed.path('picas.db')}", "sqlite:///new.db")
    assert (answer.code, answer.out) == (1, "")
    assert "are locked, such as held5" in answer.err
    assert "--locked free" in answer.err


def test_what_is_left_out_is_told_and_makes_the_exit_code(picas: Shell) -> None:
    picas.write("tokens.txt", "exit 0\nexit 1\n")
    picas.here("push", "tokens.txt")
    assert picas.here(*_copy(picas)).code == 0
    assert picas("run", "--json").code == 0
    answer = picas.here(*_copy(picas))
    assert answer.code == 1
    assert answer.out.splitlines()[-1] == (
        "not copied: 2 that differ from those of the same id in the target, which were left as they are "
        "(token_0, token_1)"
    )


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("copy",), 2, "picas: missing argument 'SRC'"),
        (("copy", "a.db", "sqlite:///b.db"), 2, "SRC: 'a.db' is not the address of a pool"),
        (("copy", "sqlite:///a.db", "b.db"), 1, "there is no pool at sqlite:///a.db"),
        (("copy", "sqlite:///a.db", "sqlite:///b.db", "--locked", "x"), 2, "'x' is not one of 'refuse'"),
    ],
)
def test_mistakes_make_no_pool(picas: Shell, args: tuple[str, ...], code: int, message: str) -> None:
    answer = picas.here(*args)
    assert (answer.code, answer.out) == (code, "")
    assert message in answer.err
    assert not list(picas.directory.glob("*.db"))


def test_ctrl_c_says_how_to_go_on_and_a_terminal_shows_how_far_it_is(picas: Shell) -> None:
    assert picas("push", "--sweep", "n=1:8000:1", "--input", "work {n}").code == 0
    terminal = picas.terminal(*_copy(picas), columns=120)
    terminal.wait_for("of 8,000 tokens, ")
    time.sleep(0.05)
    terminal.process.send_signal(signal.SIGINT)
    code = terminal.end()
    if code == 130:  # it was not faster than we were
        assert "the same copy again goes on from there" in terminal.text
    answer = picas.here(*_copy(picas), "--json")
    assert answer.json["target"]["todo"] == 8_000
    assert answer.json["there"] > 0
