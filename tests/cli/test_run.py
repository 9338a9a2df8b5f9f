"""`picas run` from the outside: options, what it says, how it ends. The pilot itself has tests of its own."""

from __future__ import annotations

import io
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from picas.cli.output import Screen
from picas.cli.run import RunView
from picas.pilot.summary import Summary

if TYPE_CHECKING:
    from conftest import Shell

ESC = "\x1b"

WORK = """
def size(token):
    print("counting", token.id)
    return {"size": len(token.input)}


def fail(token):
    raise ValueError("no " + token.input)


class Tools:
    @staticmethod
    def inner(token):
        return {"inner": True}


not_a_function = 1
"""


def _push(shell: Shell, *lines: str) -> None:
    assert (
        shell.here("push", "--again", shell.write("pushed.txt", "".join(line + "\n" for line in lines))).code
        == 0
    )


def _inputs_by_state(shell: Shell) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for token in shell.here("list", "--json").json_lines:
        found.setdefault(token["state"], []).append(token["input"])
    return found


def _wait_until_running(shell: Shell, count: int = 1) -> None:
    until = time.monotonic() + 120
    while shell.here("status", "--json").json["locked"] < count:
        assert time.monotonic() < until


def test_the_last_line_sums_up_and_says_what_to_do(picas: Shell) -> None:
    _push(picas, "true", "exit 3", "true")
    answer = picas("run")
    assert (answer.code, answer.err) == (0, "")
    first, second = answer.out.splitlines()
    assert re.fullmatch(r"2 done, 1 failed in \S+; nothing is left to do", first)
    assert second == "1 failed: picas errors"


@pytest.mark.any_pool
def test_the_summary_as_json(picas: Shell) -> None:
    _push(picas, "true", "exit 3")
    answer = picas("run", "--json", "-v").json
    assert answer.pop("seconds") > 0
    assert answer == {
        "pool": picas.pool, "done": 1, "error": 1, "retried": 0, "superseded": 0,
        "released": 0, "reason": "empty", "because": "", "signal": None, "unsent": 0, "spool": "", "unfit": 0,
        "too_long": 0, "next_try": None,
    }  # fmt: skip


def test_a_machine_that_fails_its_probe_takes_nothing(picas: Shell) -> None:
    _push(picas, "true")
    answer = picas("run", "--probe", "echo no disk; false")
    assert answer.code == 4
    assert "exit code 1" in answer.err
    assert "no disk; nothing was claimed" in answer.err
    assert re.fullmatch(r"0 done in \S+; the probe failed\n", answer.out)
    assert _inputs_by_state(picas) == {"todo": ["true"]}


def test_a_machine_on_which_all_fails_at_once_is_left(picas: Shell) -> None:
    _push(picas, *["exit 9"] * 5)
    answer = picas("run", "--max-quick-failures", "3", "--json")
    assert answer.code == 4
    assert "3 tokens in a row failed within 10 s here" in answer.err
    assert answer.json["reason"] == "quick-failures"
    assert "exit code 9" in answer.json["because"]
    assert answer.json["error"] == 0
    assert _inputs_by_state(picas) == {"todo": ["exit 9"] * 5}


def test_a_pilot_tells_when_its_time_ends_and_what_it_left(picas: Shell) -> None:
    picas.write("t.jsonl", '{"input": "true", "walltime": "1m"}\n{"input": "false", "walltime": "3h"}\n')
    picas.here("push", "t.jsonl")
    answer = picas("run", "-v", "--until", "+2h", "--signal", "USR1@120")
    assert answer.code == 0
    assert "the time ends at" in answer.out
    assert answer.out.splitlines()[-1] == "1 token takes more time than this pilot had left"
    assert _inputs_by_state(picas) == {"done": ["true"], "todo": ["false"]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--until", "yesterday"), "'yesterday' is not a moment"),
        (("--until", "2001-01-01"), "'2001-01-01' is over"),
        (("--signal", "KILL@9"), "no program can heed SIGKILL"),
        (("--signal", "BOO@9"), "there is no signal 'BOO'"),
        (("--signal", "USR1@long"), "'long' is not a time"),
    ],
)
def test_times_and_signals_that_cannot_be_meant(picas: Shell, options: tuple[str, ...], message: str) -> None:
    _push(picas, "true")
    answer = picas("run", *options)
    assert answer.code == 2
    assert message in answer.err
    assert _inputs_by_state(picas) == {"todo": ["true"]}


def test_verbose_tells_each_token(picas: Shell) -> None:
    _push(picas, "echo fine", "echo wrong >&2; exit 3")
    lines = picas("run", "-v").out.splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d  token_0  done  \S+", lines[0])
    assert re.fullmatch(r"\d\d:\d\d:\d\d  token_1  error  \S+  exit 3  wrong", lines[1])


def test_fail_makes_an_exit_code_of_failed_tokens(picas: Shell) -> None:
    _push(picas, "exit 1")
    assert picas("run", "--fail").code == 3
    assert picas("run", "--fail").code == 0


def test_a_command_with_fields_is_never_read_by_a_shell(picas: Shell) -> None:
    picas.write("t.jsonl", '{"input": "a b; $(touch evil)", "q": 0.5}\n')
    picas.here("push", "t.jsonl")
    assert picas("run", "--", "printf", "%s|", "{input}", "-q", "{q}", "{id}", "{}").code == 0
    assert picas.here("logs", "token_0").out == "a b; $(touch evil)|-q|0.5|token_0|{}|"


def test_options_of_the_command_are_not_ours(picas: Shell) -> None:
    _push(picas, "x")
    assert picas("run", "--workers", "2", "echo", "--workers", "{input}", "--help").code == 0
    assert picas.here("logs", "token_0").out == "--workers x --help\n"


def test_a_function_by_its_name(picas: Shell) -> None:
    picas.write("work.py", WORK)
    _push(picas, "four")
    assert picas("run", "--call", "work:size").code == 0
    (token,) = picas.here("show", "--json", "token_0").json_lines
    assert token["output"] == {"size": 4}
    assert picas.here("logs", "token_0").out == "counting token_0\n"
    _push(picas, "x")
    picas("run", "--call", "work:Tools.inner")
    assert picas.here("show", "--json", "token_1").json["output"] == {"inner": True}


def test_what_a_function_prints_does_not_mix_with_what_we_print(picas: Shell) -> None:
    picas.write("work.py", WORK)
    _push(picas, "four", "five")
    out = picas("run", "-v", "--call", "work:size").out
    assert "counting" not in out
    assert picas.here("logs", "token_1").out == "counting token_1\n"


def test_an_exception_is_a_failure(picas: Shell) -> None:
    picas.write("work.py", WORK)
    _push(picas, "x")
    assert picas("run", "--fail", "--call", "work:fail").code == 3
    assert "ValueError: no x" in picas.here("errors").out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--workers", "0"), "invalid value for '-w' / '--workers': 0 is not in the range x>=1"),
        (("--max-tasks", "0"), "invalid value for '--max-tasks'"),
        (("--max-scrub", "-1"), "invalid value for '--max-scrub'"),
        (("--max-time", "soon"), "--max-time: 'soon' is not a time"),
        (("--max-time", "0"), "max_time is 0.0; it must be more than 0 seconds"),
        (("--task-timeout", "-3"), "--task-timeout: '-3' is not a time"),
        (("--log-cap", "much"), "--log-cap: 'much' is not a size"),
        (("--order", "random"), "invalid value for '--order': 'random' is not one of"),
        (("--where", "cores = 4"), "--where: "),
        (("--collect", "../x"), "'../x' cannot be collected"),
        (("--", "no-such-command-here"), "there is no command 'no-such-command-here' on this machine"),
        (("--call", "work:size", "--", "echo"), "--call and a command are two ways to say what to run"),
        (("--call", "work"), "--call: 'work' names no function\nWrite MODULE:FUNCTION"),
        (("--call", "work.py:size"), "--call: 'work.py:size' names no function\nWrite MODULE:FUNCTION"),
        (("--call", "nowork:size"), "--call: there is no module 'nowork'"),
        (("--call", "work:lost"), "--call: there is no function 'lost' in work"),
        (("--call", "work:not_a_function"), "--call: there is no function 'not_a_function' in work"),
        (("--call", "needs:x"), "--call: needs needs a module that is not there: no_such_module_here"),
        (("--call", "broken:x"), "--call: importing broken failed: SyntaxError: "),
        (("--call", "raises:x"), "--call: importing raises failed: RuntimeError: on import"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, tuple) else "",
)
def test_mistakes_touch_no_token(picas: Shell, args: tuple[str, ...], message: str) -> None:
    picas.write("work.py", WORK)
    picas.write("needs.py", "import no_such_module_here\n")
    picas.write("broken.py", "def x(:\n")
    picas.write("raises.py", "raise RuntimeError('on import')\n")
    picas.here("push", picas.write("t.txt", "true\n"))
    answer = picas.here("run", *args)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"picas: {message}")
    assert picas.here("status", "--json").json["todo"] == 1


def test_defaults_come_from_the_configuration_and_options_go_before(picas: Shell) -> None:
    picas.path("config/picas").mkdir(parents=True)
    picas.write(
        "config/picas/config.toml",
        '[run]\nmax-scrub = 2\nlog-cap = "1kB"\nkeep = true\ntask-timeout = "1m"\n',
    )
    _push(picas, "head -c 5000 /dev/zero | tr '\\0' x; exit 1")
    assert picas("run", "--json").json["retried"] == 2
    assert 1000 < len(picas.here("logs", "token_0").out) < 1200
    picas.here("reset", "error")
    answer = picas("run", "--max-scrub", "0", "--no-keep", "--log-cap", "10MB", "--json").json
    assert (answer["retried"], answer["error"]) == (0, 1)
    assert len(picas.here("logs", "token_0").out) == 5000


def test_a_mistake_in_the_configuration_is_told(picas: Shell) -> None:
    _push(picas, "true")
    picas.path("config/picas").mkdir(parents=True)
    picas.write("config/picas/config.toml", "[run]\nwrkers = 2\n")
    answer = picas("run")
    assert answer.code == 2
    assert f"{picas.path('config/picas/config.toml')}: there is no setting 'run.wrkers'\n" in answer.err


def test_the_kept_directory_is_told(picas: Shell) -> None:
    _push(picas, "echo x > made; exit 1")
    picas.path("scratch").mkdir()
    out = picas("run", "--keep", "--scratch", "scratch").out
    found = re.search(r"^token_0: its directory is kept: (\S+)$", out, re.MULTILINE)
    assert found
    assert found[1].startswith(str(picas.path("scratch")))
    assert len(list(picas.path("scratch").rglob("made"))) == 1


def test_collected_files_can_be_fetched(picas: Shell) -> None:
    _push(picas, "mkdir plots; echo 1 > plots/a.png; echo 2 > b.txt; echo 3 > c.dat")
    picas("run", "--collect", "**/*.png", "--collect", "*.txt")
    picas.here("get", "token_0", "-o", "out")
    assert sorted(str(path.relative_to(picas.path("out"))) for path in picas.path("out").rglob("*.*")) == [
        "b.txt",
        "plots/a.png",
    ]


def test_limits(picas: Shell) -> None:
    _push(picas, "sleep 0.01", "sleep 0.02", "sleep 30")
    answer = picas("run", "--max-tasks", "2").out
    assert answer.startswith("2 done in ")
    assert answer.endswith("; that was --max-tasks\n")
    answer = picas("run", "--task-timeout", "0.2s", "--fail")
    assert answer.code == 3
    assert picas.here("list", "--json", "--state", "error").json["exit_code"] == 124


def test_tokens_that_are_too_big_are_told(picas: Shell) -> None:
    picas("push", "--set", "cores=4", "-", stdin="true\n")
    out = picas("run", "--workers", "2").out
    assert "1 token needs more cores than this pilot has: give more --workers\n" in out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_puts_the_token_back(picas: Shell, number: int, code: int) -> None:
    _push(picas, "sleep 60", "true")
    with picas.start("run") as process:
        _wait_until_running(picas)
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    assert process.returncode == code
    assert err == b""
    assert re.search(rb"1 put back in \S+; stopped by " + signal.Signals(number).name.encode(), out)
    assert _inputs_by_state(picas) == {"todo": ["sleep 60", "true"]}


def test_waiting_for_new_tokens(picas: Shell) -> None:
    with picas.start("run", "--wait", "-v") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"the pool is empty; waiting for new tokens (")
        _push(picas, "echo late")
        while b"token_0  done" not in (line := process.stdout.readline()):
            assert line.startswith(b"the pool is empty; waiting for new tokens (")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)
    assert process.returncode == 143


def test_a_terminal_has_one_line_that_tells_how_far_it_is(picas: Shell) -> None:
    _push(picas, "true", "exit 1", "sleep 60")
    terminal = picas.terminal("run")
    terminal.wait_for("\r\x1b[K1 done, 1 failed, 1 running, ")
    terminal.type("\x03")
    assert terminal.end() == 130
    last = terminal.text.rsplit("\r\x1b[K", 1)[1]
    assert last.startswith(f"1 done, {ESC}[31m1 failed{ESC}[0m, 1 put back in ")
    assert "Traceback" not in terminal.text


def test_verbose_lines_on_a_terminal_are_coloured_and_harmless(picas: Shell) -> None:
    picas("push", "-", "--format", "jsonl", stdin='{"_id": "a\\u001b]0;x", "input": "exit 1"}\n')
    terminal = picas.terminal("run", "-v", columns=200)
    terminal.end()
    assert f"  a\\x1b]0;x  {ESC}[31merror{ESC}[0m  " in terminal.text
    assert terminal.text.count(ESC) == 4
    assert not picas.is_empty()


def test_nobody_reading_does_not_stop_the_work(picas: Shell) -> None:
    _push(picas, *["true"] * 20)
    with picas.start("run", "-v") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert picas.here("status", "--json").json["done"] == 20


KEEP = """
import picas, time
from picas.budgets import Budgets
from picas.payload import Payload
from picas.finishing import Result
from picas.spool.spool import Spool, default_spool
from picas.tokens import Outcome
pool = picas.open_pool()
token = pool.claim()
log = Payload("logs_" + token.id + ".out", "text/plain", (b"result\\n",))
Spool(default_spool(), pool.url).journal().keep([Result(token, Outcome(0, 1e9, 1e9), (log,))], Budgets())
"""


@pytest.mark.any_pool
def test_flush_sends_what_the_pool_could_not_take(picas: Shell) -> None:
    _push(picas, "x")
    subprocess.run([sys.executable, "-c", KEEP], cwd=picas.directory, env=picas.environment, check=True)
    found = picas("flush", "--json").json
    assert (found["sent"], found["left"]) == (1, 0)
    assert found["spool"].startswith(str(picas.path("spool")))
    assert picas.here("logs", "token_0").out == "result\n"
    assert picas("flush").out == "sent 0 results\n"


def test_flush_that_cannot_send_fails(picas: Shell) -> None:
    _push(picas, "x")
    subprocess.run([sys.executable, "-c", KEEP], cwd=picas.directory, env=picas.environment, check=True)
    (journal,) = picas.path("spool").rglob("*.journal")
    journal.write_bytes(journal.read_bytes().replace(b"result", b"tluser"))
    answer = picas("flush")
    assert (answer.code, answer.out) == (
        1,
        f"sent 0 results\n1 result could not be sent, and stays in {journal.parent}\n",
    )


@pytest.mark.parametrize(
    ("summary", "code"),
    [
        (Summary(done=1), 0),
        (Summary(error=1), 3),
        (Summary(error=1, unsent=2, spool="/there"), 1),
        (Summary(unsent=2, spool="/there", signal=15, reason="signal"), 143),
    ],
)
def test_exit_codes(summary: Summary, code: int) -> None:
    view = RunView("sqlite:///x.db", summary, fail=True)
    assert view.exit_code == code
    told = "\n".join(view.lines(Screen(io.StringIO())))
    assert ("2 results could not be sent to the pool yet, and wait in /there: picas flush" in told) == bool(
        summary.unsent
    )
