"""`picas status`, `list`, `show` and `errors` on a pool that has something of everything."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Shell

ESC = "\x1b"


# --- status ------------------------------------------------------------------------------------------


@pytest.mark.any_pool
def test_status_as_json_holds_the_four_counts_and_the_pace(mixed: Shell) -> None:
    status = mixed.here("status", "--json").json
    assert status.pop("pool") == mixed.pool
    assert status.pop("wall_mean") > 0
    assert (status.pop("taken_back"), status.pop("silent")) == (0, [])
    rate, window, left = status.pop("rate"), status.pop("rate_window"), status.pop("seconds_left")
    assert rate * window == pytest.approx(4)
    assert left == pytest.approx(2 / rate)
    assert status == {"todo": 1, "locked": 1, "done": 2, "error": 2, "other": 0, "total": 6}


def test_status_for_people(mixed: Shell) -> None:
    lines = mixed.here("status").out.splitlines()
    assert lines[1:6] == ["  todo     1", "  locked   1", "  done     2", "  error    2", "  total    6"]
    assert re.fullmatch(r"[\d.,]+ tokens/min in the last \S+, \S+ each, about \S+ left", lines[6])
    assert lines[7] == "picas errors tells what failed"


@pytest.mark.any_pool
def test_status_of_some(mixed: Shell) -> None:
    status = mixed.here("status", "--json", "--where", "cores == 4").json
    assert (status["todo"], status["total"], status["rate"], status["seconds_left"]) == (1, 1, None, None)


def test_status_has_colours_on_a_terminal_unless_they_are_not_wanted(mixed: Shell) -> None:
    assert ESC not in mixed.here("status").out
    terminal = mixed.terminal("status")
    assert terminal.end() == 0
    assert f"{ESC}[31merror  {ESC}[0m" in terminal.text
    plain = mixed.terminal("status", NO_COLOR="1")
    plain.end()
    assert ESC not in plain.text


def test_watch_looks_again_until_ctrl_c(mixed: Shell) -> None:
    terminal = mixed.terminal("status", "--watch", "0.1", NO_COLOR="1")
    terminal.wait_for(f"{ESC}[H{ESC}[2J{mixed.pool}")
    terminal.text = ""
    terminal.wait_for("total")
    terminal.type("\x03")
    assert terminal.end() == 130


@pytest.mark.parametrize("args", [("--watch", "soon"), ("--where", "cores ="), ("extra",)])
def test_status_refuses_what_it_does_not_understand(mixed: Shell, args: tuple[str, ...]) -> None:
    answer = mixed.here("status", *args)
    assert (answer.code, answer.out) == (2, "")


# --- list --------------------------------------------------------------------------------------------


def test_list_in_columns(mixed: Shell) -> None:
    head, *rows = (line.split(maxsplit=5) for line in mixed.here("list").out.splitlines())
    assert head == ["ID", "STATE", "AGE", "HOST", "EXIT", "INPUT"]
    assert [(row[0], row[1], row[4]) for row in rows] == [
        ("good1", "done", "0"), ("trick2", "done", "0"), ("bad3", "error", "3"), ("bad4", "error", "3"),
        ("held5", "locked", "-"), ("free6", "todo", "-"),
    ]  # fmt: skip


@pytest.mark.any_pool
def test_list_as_json_lines(mixed: Shell) -> None:
    rows = mixed.here("list", "--json").json_lines
    assert [row["state"] for row in rows] == ["done", "done", "error", "error", "locked", "todo"]
    assert rows[-1] == {
        "id": "free6", "state": "todo", "time": None, "host": None, "exit_code": None, "attempt": 0, "input": "echo free6",
    }  # fmt: skip
    assert (rows[2]["exit_code"], rows[2]["attempt"]) == (3, 1)
    assert rows[4]["time"] > 1.6e9


@pytest.mark.any_pool
@pytest.mark.parametrize(
    ("args", "ids"),
    [
        (("--state", "done"), ["good1", "trick2"]),
        (("--state", "failed", "--state", "todo"), ["bad3", "bad4", "free6"]),
        (("--state", "other"), []),
        (("--where", "cores == 4"), ["free6"]),
        (("--state", "error", "--where", "endswith(id, '4')"), ["bad4"]),
        (("--limit", "2"), ["good1", "trick2"]),
        (("--limit", "0"), []),
        (("--older-than", "1h"), []),
        (("--older-than", "0"), ["good1", "trick2", "bad3", "bad4", "held5"]),
    ],
    ids=" ".join,
)
def test_list_some(mixed: Shell, args: tuple[str, ...], ids: list[str]) -> None:
    assert [row["id"] for row in mixed.here("list", "--json", *args).json_lines] == ids


def test_list_of_nothing(mixed: Shell) -> None:
    assert mixed.here("list", "--where", "cores == 5").out == "no tokens\n"
    assert mixed.here("list", "--where", "cores == 5", "--json").out == ""


def test_list_is_cut_to_the_terminal_and_coloured(mixed: Shell) -> None:
    terminal = mixed.terminal("list", columns=50)
    terminal.end()
    lines = terminal.text.replace("\r\n", "\n").splitlines()
    assert f"bad3    {ESC}[31merror{ESC}[0m" in lines[3]
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    assert all(len(line) <= 50 for line in plain)
    assert plain[1].endswith("…")


def test_list_shows_no_escapes(picas: Shell) -> None:
    picas.here(
        "push",
        picas.write("t.jsonl", json.dumps({"_id": "a\x1b]0;b\x07", "input": "x\x1b[2J\ny\u202e"}) + "\n"),
    )
    out = picas.here("list").out
    assert "a\\x1b]0;b\\x07" in out
    assert out.endswith("x\\x1b[2J\\ny\\u202e\n")
    terminal = picas.terminal("list", NO_COLOR="1")
    terminal.end()
    assert ESC not in terminal.text


def test_list_works_where_the_terminal_has_no_unicode(picas: Shell) -> None:
    picas("push", picas.write("t.txt", "日本語\n"))
    answer = picas("list", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", PYTHONIOENCODING="ascii")
    assert answer.code == 0
    assert answer.out.endswith("\\u65e5\\u672c\\u8a9e\n")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ("--state", "lost"),
            "--state: there is no state 'lost'\nThe states are: todo, locked, done, error.",
        ),
        (("--where", "cores = 4"), "--where: "),
        (("--older-than", "old"), "--older-than: 'old' is not a time"),
        (("--limit", "-1"), "invalid value for '--limit'"),
        (("--limit", "x"), "invalid value for '--limit'"),
    ],
)
def test_list_refuses_what_it_does_not_understand(mixed: Shell, args: tuple[str, ...], message: str) -> None:
    answer = mixed.here("list", *args)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"picas: {message}")


# --- show --------------------------------------------------------------------------------------------


def test_show_tells_attempts_files_and_document(mixed: Shell) -> None:
    out = mixed.here("show", "good1").out
    head, *lines = out.splitlines()
    assert head == "good1  done"
    attempts, files = lines.index("attempts"), lines.index("files")
    assert lines[attempts + 1].split() == ["STARTED", "WALL", "CPU", "MEMORY", "HOST", "EXIT"]
    assert lines[attempts + 2].split()[0] == "1"
    assert [line.split() for line in lines[files + 1 : files + 4]] == [
        ["logs_good1.err", "8", "B"], ["logs_good1.out", "6", "B"], ["result.txt", "5", "B"],
    ]  # fmt: skip
    document = json.loads(out.split("\ndocument\n")[1])
    assert (document["_id"], document["exit_code"]) == ("good1", 0)
    assert "_attachments" not in document


@pytest.mark.any_pool
def test_show_as_json_is_the_documents_one_a_line(mixed: Shell) -> None:
    good1, free6 = mixed.here("show", "--json", "good1", "free6").json_lines
    assert good1["_id"] == "good1"
    assert good1["_attachments"]["result.txt"]["length"] == 5
    assert good1["picas"]["run"]["exit_code"] == 0
    assert (free6["cores"], free6["lock"]) == (4, 0)


def test_show_tells_what_is_running_and_what_failed(mixed: Shell) -> None:
    assert re.search(r"\n  1 .* running\n", mixed.here("show", "held5").out)
    assert re.search(
        r"\n  1 .* application: cannot open /data/a/1.fits line 12\n", mixed.here("show", "bad3").out
    )
    assert "attempts" not in mixed.here("show", "free6").out


def test_show_shows_no_escapes(picas: Shell) -> None:
    picas.here(
        "push", picas.write("t.jsonl", json.dumps({"_id": "t", "input": "x\u009b\u202e", "k": "\x1b"}) + "\n")
    )
    out = picas.here("show", "t").out
    assert '"input": "x\\x9b\\u202e"' in out
    assert ESC not in out


def test_show_what_is_not_there(mixed: Shell) -> None:
    answer = mixed.here("show", "nope")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith(f"picas: there is no token nope in {mixed.pool}\n")
    assert mixed.here("show", "--json", "nope").error["kind"] == "TokenNotFound"
    assert mixed.here("show").err.startswith("picas: missing argument")


# --- errors ------------------------------------------------------------------------------------------


@pytest.mark.any_pool
def test_errors_are_grouped(mixed: Shell) -> None:
    answer = mixed.here("errors", "--json").json
    assert (answer["failed"], answer["classes"], answer["other"]) == (2, {"application": 2}, 0)
    (group,) = answer["groups"]
    assert group.pop("first") <= group.pop("last")
    assert group == {
        "exit_code": 3, "failure": "application", "message": "cannot open PATH line N", "count": 2,
        "examples": ["bad3", "bad4"],
    }  # fmt: skip


def test_errors_for_people(mixed: Shell) -> None:
    lines = mixed.here("errors").out.splitlines()
    assert lines[0] == "2 × exit 3: cannot open PATH line N"
    assert lines[1].startswith("    bad3, bad4  20")
    assert lines[2] == "2 tokens failed; picas logs bad3 shows one, picas reset error tries all again"


@pytest.mark.any_pool
def test_errors_of_some_show_the_message_itself(mixed: Shell) -> None:
    assert mixed.here("errors", "--where", "id == 'bad4'").out.startswith(
        "1 × exit 3: cannot open /data/b/2.fits line 99\n"
    )
    assert mixed.here("errors", "--where", "id == 'good1'").out == "no token has failed\n"
    assert mixed.here("errors", "--where", "id == 'good1'", "--json").json == {
        "failed": 0,
        "classes": {},
        "groups": [],
        "other": 0,
    }


def test_errors_show_no_escapes(picas: Shell) -> None:
    picas.here("push", picas.write("t.txt", "x\n"))
    program = (
        "import picas; from picas.tokens import Failure, Outcome; pool = picas.open_pool();"
        "pool.finish(pool.claim(), Outcome(1, 1e9, 1e9, Failure.APPLICATION, '\\x1b[2Jgone'))"
    )
    subprocess.run([sys.executable, "-c", program], cwd=picas.directory, env=picas.environment, check=True)
    assert picas.here("errors").out.startswith("1 × exit 1: \\x1b[2Jgone\n")
    assert ESC not in picas.here("errors", "--json").out
