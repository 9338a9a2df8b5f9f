"""`picas push`: what it says, and what it refuses. The formats themselves are tested with `picas.tokenfile`."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Shell


def _tokens(shell: Shell) -> list[dict[str, Any]]:
    return shell.here(
        "show", "--json", *[token["id"] for token in shell.here("list", "--json").json_lines]
    ).json_lines


def test_lines_become_tokens(picas: Shell) -> None:
    answer = picas("push", picas.write("t.txt", "echo 1\necho 2\n"))
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == f"pushed 2 tokens (token_0 … token_1) to {picas.pool}\n"
    assert [token["input"] for token in _tokens(picas)] == ["echo 1", "echo 2"]


@pytest.mark.any_pool
def test_the_same_again_adds_what_is_new(picas: Shell) -> None:
    picas.here("push", picas.write("t.txt", "a\nb\n"))
    picas.write("t.txt", "a\nnew\nb\n")
    out = picas.here("push", "t.txt").out
    assert out.startswith("pushed 1 token (token_2) to ")
    assert out.endswith("; 2 were there already (--again adds them once more)\n")
    out = picas.here("push", picas.write("u.txt", "a\n")).out
    assert out.startswith("pushed 0 tokens to ")
    assert out.endswith("; 1 was there already (--again adds it once more)\n")
    assert picas.here("push", "--again", "u.txt").out.startswith("pushed 1 token (token_3) to ")


def test_json_tells_the_same(picas: Shell) -> None:
    picas.write("t.txt", "a\nb\n")
    assert picas.here("push", "t.txt", "--json").json == {
        "pool": picas.pool, "pushed": 2, "skipped": 0, "first": "token_0", "last": "token_1",
    }  # fmt: skip
    assert picas.here("push", "t.txt", "--json").json == {
        "pool": picas.pool, "pushed": 0, "skipped": 2, "first": None, "last": None,
    }  # fmt: skip


def test_standard_input(picas: Shell) -> None:
    assert picas("push", "-", stdin="a\nb\n").out.startswith("pushed 2 tokens")
    assert picas("push", "-", "--format", "jsonl", stdin='{"input": "c"}\n').out.startswith("pushed 1 token ")


def test_fields_priority_and_prefix_for_all(picas: Shell) -> None:
    options = ("--set", "cores=4", "--set", "site=spider", "--priority", "10", "--id-prefix", "run7_")
    picas.here("push", picas.write("t.txt", "a\n"), *options)
    (token,) = _tokens(picas)
    assert (token["_id"], token["cores"], token["site"]) == ("run7_0", 4, "spider")
    assert token["priority"] == 10
    assert isinstance(token["priority"], int)


def test_a_table_with_a_template(picas: Shell) -> None:
    picas.write("t.csv", "file,cut\na.fits,0.50\n")
    picas.here("push", "t.csv", "--input", "process --cut {cut} {file}")
    (token,) = _tokens(picas)
    assert token["input"] == "process --cut 0.50 a.fits"
    assert token["cut"] == 0.5


def test_a_sweep(picas: Shell) -> None:
    answer = picas.here(
        "push", "--sweep", "q=0.1:0.9:0.1", "--sweep", "d=256,512", "--input", "draw {q} {d}", "--json"
    )
    assert answer.json["pushed"] == 18
    last = _tokens(picas)[-1]
    assert (last["input"], last["q"], last["d"]) == ("draw 0.9 512", 0.9, 512)


def test_a_dry_run_pushes_nothing(picas: Shell) -> None:
    picas.write("t.txt", "".join(f"echo {n}\n" for n in range(1000)))
    answer = picas.here("push", "--dry-run", "t.txt")
    assert answer.out.startswith('1,000 tokens, and nothing wrong with them\n  {"input": "echo 0"}\n')
    assert answer.out.endswith("  …\n")
    assert picas.here("push", "--dry-run", "t.txt", "--json").json == {
        "tokens": 1000,
        "first": [{"input": f"echo {n}"} for n in range(5)],
    }
    assert picas.is_empty()


MISTAKES = [
    ((), "there is nothing to push", "Give a file, - for standard input, or --sweep NAME=VALUES."),
    (
        ("t.txt", "--sweep", "q=1,2"),
        "a file and --sweep are two ways to say what to push",
        "Give one of them.",
    ),
    (("none.txt",), "none.txt: there is no such file", ""),
    (("t.txt", "--set", "cores"), "--set: 'cores' sets no field", ""),
    (("t.txt", "--set", "lock=1"), "--set: 'lock' is kept by PiCaS itself", ""),
    (("t.txt", "--format", "xml"), "invalid value for '--format': 'xml' is not one of", ""),
    (("t.txt", "--priority", "high"), "invalid value for '--priority': 'high' is not a valid float", ""),
    (("t.txt", "--id-prefix", "_x"), "--id-prefix: no id can begin with '_x'", "Give letters and digits"),
    (("t.txt", "--id-prefix", ""), "--id-prefix: no id can begin with ''", ""),
    (("t.txt", "--id-prefix", "a\nb"), "--id-prefix: no id can begin with 'a\\nb'", ""),
    (("--sweep", "q"), "", "Write it as NAME=FROM:TO:STEP or NAME=VALUE"),
    (("t.txt", "--input", "run {nothing}"), "t.txt, line 1: '{nothing}' in 'run {nothing}' is no field", ""),
    (("empty.txt",), "empty.txt: there are no tokens in it", ""),
    (("latin1.txt",), "latin1.txt, line 2: ", ""),
    (("nul.txt",), "nul.txt, line 1: ", ""),
    (("bad.jsonl",), "bad.jsonl, line 2: this is not JSON", ""),
    (("twice.jsonl",), "twice.jsonl, line 2: the id 'a' is on line 1 already", ""),
]


@pytest.mark.parametrize(("args", "message", "advice"), MISTAKES, ids=lambda value: str(value)[:40])
def test_mistakes_are_told_and_nothing_is_made(
    picas: Shell, args: tuple[str, ...], message: str, advice: str
) -> None:
    picas.write("t.txt", "good\n")
    picas.write("empty.txt", "\n")
    picas.path("latin1.txt").write_bytes(b"good\ngr\xf6\xdfe\n")
    picas.path("nul.txt").write_bytes(b"a\0b\n")
    picas.write("bad.jsonl", '{"input": "a"}\n{"input": \n')
    picas.write("twice.jsonl", '{"_id": "a", "input": "1"}\n{"_id": "a", "input": "2"}\n')
    answer = picas.here("push", *args)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err
    assert advice in answer.err
    assert answer.err.startswith("picas: ")
    assert picas.is_empty()


def test_a_line_of_fifty_megabytes_is_refused_with_its_number(picas: Shell) -> None:
    with picas.path("long.txt").open("wb") as file:
        file.write(b"good\n")
        file.writelines([b"x" * 1_000_000] * 50)
    answer = picas("push", "long.txt")
    assert answer.code == 2
    assert "long.txt, line 2" in answer.err
    assert picas.is_empty()


@pytest.mark.any_pool
def test_an_id_with_other_content_is_refused_before_anything_is_pushed(picas: Shell) -> None:
    picas("push", picas.write("a.jsonl", '{"_id": "mine", "input": "1"}\n'))
    answer = picas("push", picas.write("b.jsonl", '{"input": "new"}\n{"_id": "mine", "input": "2"}\n'))
    assert (answer.code, answer.out) == (1, "")
    assert "there is a token mine " in answer.err
    assert picas("status", "--json").json["total"] == 1


def test_escapes_in_a_file_do_not_reach_the_terminal(picas: Shell) -> None:
    picas.write("t.jsonl", '{"_id": "\\u001b[31mred", "input": "x"}\n')
    assert "(\\x1b[31mred)" in picas.here("push", "t.jsonl").out
    assert "\x1b" not in picas.here("push", picas.write("bad\x1b[31m.txt", "\0")).err


def test_progress_is_shown_on_a_terminal_only(picas: Shell) -> None:
    picas.write("many.txt", "".join(f"echo {n}\n" for n in range(8_000)))
    terminal = picas.terminal("push", "many.txt")
    assert terminal.end() == 0
    assert "\r\x1b[Kpushing [" in terminal.text
    assert " tokens, " in terminal.text
    assert (
        terminal.text.replace("\r\n", "\n")
        .rsplit("\r\x1b[K", 1)[1]
        .startswith("pushed 8,000 tokens (token_0 … ")
    )
    answer = picas("push", "many.txt", "--again")
    assert answer.err == ""
    assert "\r" not in answer.out


@pytest.mark.embedded  # looking when it has begun would wait for CouchDB's index until it is over
def test_ctrl_c_says_how_to_go_on(picas: Shell) -> None:
    picas.write("many.txt", "".join(f"echo {n}\n" for n in range(30_000)))
    with picas.start("push", "many.txt") as process:
        assert process.stderr is not None
        until = time.monotonic() + 120
        while time.monotonic() < until and not _count(picas):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        told = process.stderr.read().decode()
    assert process.returncode == 130
    assert "; the same push again adds the rest\n" in told
    pushed = _count(picas)
    assert 0 < pushed < 30_000
    answer = picas("push", "many.txt", "--json").json
    assert (answer["pushed"], answer["skipped"]) == (30_000 - pushed, pushed)


def _count(shell: Shell) -> int:
    answer = shell.here("status", "--json")
    return int(answer.json["total"]) if answer.code == 0 else 0
