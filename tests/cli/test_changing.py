"""`picas reset` and `picas delete`: what they touch, and when they ask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Shell, Terminal


@pytest.fixture(scope="module")
def template(shell_in: Callable[[Path], Shell], tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A pool with twelve tokens in error and one done."""
    shell = shell_in(tmp_path_factory.mktemp("template"))
    shell.write("t.txt", "".join(f"exit {n}\n" for n in range(1, 13)) + "true\n")
    assert shell("push", "t.txt").code == 0
    assert shell("run").code == 0
    return shell


@pytest.fixture
def failed(template: Shell, picas: Shell) -> Shell:
    """A copy of it."""
    assert picas.here("copy", template.pool, picas.pool).code == 0
    assert _counts(picas) == {"todo": 0, "locked": 0, "done": 1, "error": 12}
    return picas


def _counts(shell: Shell) -> dict[str, int]:
    status = shell.here("status", "--json").json
    return {name: status[name] for name in ("todo", "locked", "done", "error")}


@pytest.mark.any_pool
def test_reset_of_some(failed: Shell) -> None:
    assert failed.here("reset", "token_0", "token_3").out == "reset 2 tokens\n"
    assert failed.here("reset", "--where", "exit_code == 5", "--json").json == {"reset": 1}
    assert failed.here("reset", "error", "--where", "exit_code > 10").out == "reset 2 tokens\n"
    assert _counts(failed) == {"todo": 5, "locked": 0, "done": 1, "error": 7}
    assert failed.here("reset", "token_0").out == "reset 0 tokens\n"


@pytest.mark.any_pool
def test_states_and_ids_add_up(failed: Shell) -> None:
    assert failed.here("reset", "done", "token_0", "token_12", "--json").json == {"reset": 2}
    assert _counts(failed) == {"todo": 2, "locked": 0, "done": 0, "error": 11}


def test_failed_is_another_word_for_error(failed: Shell) -> None:
    assert failed.here("reset", "failed", "--yes").out == "reset 12 tokens\n"


@pytest.mark.any_pool
def test_reset_keeps_logs_and_history(failed: Shell) -> None:
    failed.here("reset", "token_0")
    (token,) = failed.here("show", "--json", "token_0").json_lines
    assert (token["lock"], token["done"], token["scrub_count"]) == (0, 0, 1)
    assert [attempt["exit_code"] for attempt in token["picas"]["history"]] == [1]
    assert set(token["_attachments"]) == {"logs_token_0.out", "logs_token_0.err"}


@pytest.mark.any_pool
def test_delete_of_some(failed: Shell) -> None:
    assert failed.here("delete", "token_0", "done", "--json").json == {"deleted": 2}
    assert failed.here("delete", "error", "--where", "exit_code == 2").out == "deleted 1 token\n"
    assert _counts(failed) == {"todo": 0, "locked": 0, "done": 0, "error": 10}


@pytest.mark.any_pool
def test_older_than_chooses_by_age(failed: Shell) -> None:
    assert failed.here("delete", "--older-than", "1h").out == "deleted 0 tokens\n"
    assert failed.here("reset", "error", "--older-than", "0", "--yes").out == "reset 12 tokens\n"


def test_all_has_to_be_said(failed: Shell) -> None:
    assert failed.here("delete", "--all", "--yes").out == "deleted 13 tokens\n"
    assert failed.here("status", "--json").json["total"] == 0


MISTAKES = [
    ((), 2, "which tokens?\nName states or ids, or give --where or --older-than; --all means every token."),
    (("--all", "error"), 2, "--all and a choice do not go together\nLeave one of them out."),
    (("--all", "--where", "cores == 1"), 2, "--all and a choice do not go together"),
    (("token_0", "nope"), 1, "there is no token nope in POOL"),
    (("error", "--older-than", "yesterday"), 2, "--older-than: 'yesterday' is not a time"),
    (("error", "--where", "("), 2, "--where: "),
]


@pytest.mark.parametrize("verb", ["reset", "delete"])
@pytest.mark.parametrize(("args", "code", "message"), MISTAKES, ids=lambda value: str(value)[:30])
def test_mistakes_change_nothing(
    mixed: Shell, verb: str, args: tuple[str, ...], code: int, message: str
) -> None:
    before = mixed.here("list", "--json").out
    if "token_0" in args:
        args = ("good1", "nope")
    answer = mixed.here(verb, *args)
    assert (answer.code, answer.out) == (code, "")
    assert answer.err.startswith("picas: " + message.replace("POOL", mixed.pool))
    assert mixed.here("list", "--json").out == before


def test_without_a_terminal_many_are_refused(failed: Shell) -> None:
    answer = failed("reset", "error", stdin="y\n")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == "picas: not done without a yes: reset 12 tokens (12 error)?\n--yes says it.\n"
    assert failed("delete", "--all", "--json").error["kind"] == "InvalidInput"
    assert _counts(failed)["error"] == 12


@pytest.mark.any_pool
def test_a_locked_token_is_not_deleted_without_a_question(mixed: Shell) -> None:
    answer = mixed("delete", "held5")
    assert answer.code == 2
    assert "delete 1 token (1 locked)?" in answer.err
    assert mixed("show", "held5").code == 0


def _ask(terminal: Terminal, question: str, answer: str) -> int:
    terminal.wait_for(f"{question} [y/N] ")
    terminal.type(answer)
    return terminal.end()


def test_on_a_terminal_a_yes_does_it(failed: Shell) -> None:
    terminal = failed.terminal("delete", "--all")
    assert _ask(terminal, "delete 13 tokens (1 done, 12 error)?", "y\n") == 0
    assert terminal.text.endswith("deleted 13 tokens\r\n")


@pytest.mark.parametrize(("keys", "code"), [("\n", 1), ("n\n", 1), ("yy\n", 1), ("\x04", 1), ("\x03", 130)])
def test_on_a_terminal_anything_else_does_not(failed: Shell, keys: str, code: int) -> None:
    terminal = failed.terminal("reset", "error")
    assert _ask(terminal, "reset 12 tokens (12 error)?", keys) == code
    assert "Traceback" not in terminal.text
    assert ("nothing was changed" in terminal.text) == (code == 1)
    assert _counts(failed)["error"] == 12
