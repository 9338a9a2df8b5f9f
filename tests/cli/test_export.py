"""`picas export`, `picas import`, `picas archive`: what they say and how they end; what they do is tested elsewhere."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Shell

pytestmark = pytest.mark.embedded


def test_there_and_back(mixed: Shell, picas: Shell) -> None:
    file = picas.path("all.jsonl.gz")
    answer = mixed.here("export", str(file))
    assert (answer.code, answer.out, answer.err) == (
        0,
        f"exported 6 tokens with 9 files (106 B) to {file}\n",
        "",
    )
    pool = f"sqlite:///{picas.path('picas.db')}"
    answer = picas.here("import", "all.jsonl.gz")
    assert (answer.code, answer.out) == (0, f"imported 6 tokens into {pool}, with 9 files (106 B)\n")
    counts = picas.here("status", "--json").json
    assert {name: counts[name] for name in ("todo", "locked", "done", "error")} == {
        "todo": 2, "locked": 0, "done": 2, "error": 2,
    }  # fmt: skip
    assert picas.here("logs", "good1").out == "hello\nwarning\n"
    answer = picas.here("import", "all.jsonl.gz", "--verify", "--json").json
    assert (answer["imported"], answer["there"], answer["pool"]) == (0, 6, pool)


def test_a_part_in_json(mixed: Shell, picas: Shell) -> None:
    file = str(picas.path("bad.jsonl"))
    where = ("--state", "failed", "--where", "id != 'bad4'")
    assert mixed.here("export", file, *where, "--json").json == {
        "pool": f"sqlite:///{mixed.path('picas.db')}", "file": file, "tokens": 1, "files": 2, "bytes": 35,
        "restless": [], "other_documents": 0,
    }  # fmt: skip


def test_through_a_pipe(mixed: Shell, picas: Shell) -> None:
    written = mixed("export", "-")
    assert (written.code, written.err) == (0, "")
    assert json.loads(written.out.splitlines()[-1])["picas_end"]["tokens"] == 6
    assert picas("import", "-", stdin=written.out).out.startswith("imported 6 tokens")
    assert picas("import", "-", stdin=written.out[:-9]).code == 2


def test_an_export_is_not_for_a_terminal(mixed: Shell) -> None:
    terminal = mixed.terminal("export", "-")
    assert terminal.end() == 2
    assert "not for a terminal" in terminal.text
    terminal = mixed.terminal("import", "-")
    assert terminal.end() == 2
    assert "not typed in" in terminal.text


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("export", "there.txt"), 2, "there.txt is there already"),
        (("export", "no/such.jsonl"), 1, "no/such.jsonl cannot be written: No such file or directory"),
        (("import", "none.jsonl"), 2, "none.jsonl cannot be read: No such file or directory"),
        (("import", "there.txt"), 2, "there.txt is damaged at line 1: that is no JSON"),
        (("archive", "x.jsonl"), 2, "missing option '--older-than'"),
        (("archive", "x.jsonl", "--older-than", "soon"), 2, "--older-than"),
        (("archive", "x.jsonl", "--older-than", "1d", "--state", "todo"), 2, "only tokens that have ended"),
    ],
)
def test_what_goes_wrong_is_said(picas: Shell, args: tuple[str, ...], code: int, message: str) -> None:
    picas.write("there.txt", "echo 1\n")
    picas.here("push", "there.txt")
    answer = picas.here(*args)
    assert (answer.code, answer.out) == (code, "")
    assert message in answer.err
    assert picas.path("there.txt").read_text() == "echo 1\n"


def test_what_is_left_out_is_told_and_makes_the_exit_code(picas: Shell) -> None:
    picas.write("tokens.txt", "exit 0\nexit 1\n")
    picas.here("push", "tokens.txt")
    assert picas.here("export", "before.jsonl").code == 0
    assert picas("run", "--json").code == 0
    answer = picas.here("import", "before.jsonl")
    assert answer.code == 1
    assert answer.out.splitlines()[-1].startswith("not imported: 2 that differ from those of the same id")


def test_the_archive(picas: Shell) -> None:
    picas.write("tokens.txt", "exit 0\nexit 1\n")
    picas.here("push", "tokens.txt")
    assert picas("run", "--json").code == 0
    pool = f"sqlite:///{picas.path('picas.db')}"
    assert picas.here("archive", "old.jsonl", "--older-than", "1d").out == (
        f"archived 0 tokens in old.jsonl\nremoved 0 tokens from {pool}\n"
    )
    answer = picas.here("archive", "new.jsonl", "--older-than", "0s")
    assert (answer.code, answer.out.splitlines()[1]) == (0, f"removed 1 token from {pool}")
    found = picas.here("archive", "bad.jsonl", "--older-than", "0s", "--state", "error", "--json").json
    assert (found["tokens"], found["removed"], found["stayed"], found["refusal"]) == (1, 1, 0, "")
    assert picas.here("status", "--json").json["total"] == 0
    assert picas.here("import", "bad.jsonl").out.startswith("imported 1 token")
    assert picas.here("errors").out.startswith("1")
