"""What is common to all verbs: help, version, settings, errors, exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from picas._version import __version__
from picas.cli.group import VERBS

if TYPE_CHECKING:
    from conftest import Shell

pytestmark = pytest.mark.embedded


def test_version_is_told(picas: Shell) -> None:
    assert picas("--version").out == f"picas {__version__}\n"


def test_version_is_told_beside_other_options(picas: Shell) -> None:
    assert picas("--json", "--version").out == f"picas {__version__}\n"


def test_version_needs_neither_click_nor_a_database(picas: Shell) -> None:
    program = "import sys; from picas.cli.main import run; run(['--version']); print([*sys.modules])"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    loaded = out.split("\n", 1)[1]
    assert "'picas.cli.output'" in loaded
    for name in ("click", "sqlite3", "urllib3", "platformdirs", "importlib.metadata", "json"):
        assert f"'{name}'" not in loaded


@pytest.mark.parametrize("args", [(), ("--help",), ("-h",)])
def test_help_lists_every_verb_without_loading_any(picas: Shell, args: tuple[str, ...]) -> None:
    answer = picas(*args)
    assert answer.code == 0
    for name, line in VERBS.items():
        assert f"  {name} " in answer.out
        assert line.rstrip(".") in " ".join(answer.out.split())


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_the_common_options(picas: Shell, verb: str) -> None:
    answer = picas.here(verb, "--help")
    assert answer.code == 0
    assert answer.out.startswith(f"Usage: picas {verb} ")
    assert "--pool URL" in answer.out
    assert "--json" in answer.out


@pytest.mark.parametrize("name", VERBS)
def test_the_reference_tells_every_verb_and_option(name: str) -> None:
    pages = Path(__file__).parents[2] / "docs" / "reference"
    assert f"`picas {name}" in (pages / "json.md").read_text("utf-8")
    page = (pages / "cli.md").read_text("utf-8")
    section = next(part for part in page.split("\n## ")[1:] if f"`picas {name}" in part.split("\n")[0])
    head = page.split("\n## ")[0]
    command = import_module(f"picas.cli.{name}").command
    for param in chain(command.params, *(each.params for each in getattr(command, "commands", {}).values())):
        if isinstance(param, click.Option):
            for option in (*param.opts, *param.secondary_opts):
                assert f"`{option}" in section + head, option


def test_a_misspelt_verb_gets_a_proposal(picas: Shell) -> None:
    answer = picas.here("stats")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == "picas: there is no command 'stats'\nDid you mean: picas status?\n"


def test_an_unknown_verb_gets_the_list(picas: Shell) -> None:
    assert picas.here("frobnicate").err == (
        "picas: there is no command 'frobnicate'\npicas --help shows those there are.\n"
    )


def test_an_unknown_option_is_a_usage_error(picas: Shell) -> None:
    answer = picas.here("status", "--frob")
    assert answer.code == 2
    assert "no such option" in answer.err.lower()
    assert answer.err.endswith("picas status --help shows what there is.\n")


def test_an_error_with_json_is_json_on_the_error_output(picas: Shell) -> None:
    answer = picas.here("list", "--json", "--state", "lost")
    assert (answer.code, answer.out) == (2, "")
    assert answer.error == {
        "kind": "InvalidInput",
        "message": "--state: there is no state 'lost'",
        "advice": "The states are: todo, locked, done, error.",
    }


def test_json_after_a_double_dash_belongs_to_the_command(picas: Shell) -> None:
    assert picas.here("run", "--", "echo", "--json").err.startswith("picas: there is no pool")


def test_what_should_not_happen_is_told_in_short(picas: Shell) -> None:
    broken = (
        "import picas.pool\n"
        "def fail(url, **_): raise RuntimeError('out of \\x1b[31mcheese')\n"
        "picas.pool.open_pool = fail\n"
        "import sys; from picas.cli.main import run; sys.exit(run(['push', 't.txt']))"
    )
    picas.write("t.txt", "x\n")
    command = [sys.executable, "-c", broken]
    ended = subprocess.run(command, cwd=picas.directory, capture_output=True, text=True, check=False)
    assert ended.returncode == 70
    assert ended.stderr == (
        "picas: RuntimeError: out of \\x1b[31mcheese\n"
        "That should not have happened. PICAS_DEBUG=1 shows where; please report it.\n"
    )
    told = subprocess.run(
        command,
        cwd=picas.directory,
        env={**os.environ, "PICAS_DEBUG": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.stderr.startswith("Traceback")


def test_a_reader_that_goes_away_is_no_error(picas: Shell) -> None:
    picas.write("many.txt", "".join(f"echo {n}\n" for n in range(5000)))
    assert picas.here("push", "many.txt").code == 0
    with picas.start("list") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"ID ")
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 128 + signal.SIGPIPE


def test_a_full_disk_behind_the_output_is_told_once(picas: Shell) -> None:
    picas.here("push", picas.write("t.txt", "x\n"))
    command = [sys.executable, "-m", "picas", "list"]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            command, cwd=picas.directory, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert ended.returncode == 1
    assert ended.stderr == "picas: [Errno 28] No space left on device\nPICAS_DEBUG=1 shows where.\n"


@pytest.mark.parametrize(("closed", "code"), [("<&-", 2), (">&-", 0), ("2>&-", 2), ("<&- >&- 2>&-", 2)])
def test_closed_standard_streams_are_no_trouble(picas: Shell, closed: str, code: int) -> None:
    picas.here("push", picas.write("t.txt", "".join(f"{n}\n" for n in range(20))))
    verb = "list" if code == 0 else "delete --all"
    script = f"{sys.executable} -m picas {verb} {closed}"
    ended = subprocess.run(
        ["bash", "-c", script], cwd=picas.directory, capture_output=True, text=True, check=False
    )
    assert ended.returncode == code
    assert "Traceback" not in ended.stderr
    assert "InternalError" not in ended.stderr
    assert picas.here("status", "--json").json["total"] == 20


def test_ctrl_c_ends_without_a_traceback(picas: Shell) -> None:
    picas.write("t.txt", "x\n")
    picas.here("push", "t.txt")
    with picas.start("status", "--watch", "30") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"sqlite:///")
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == b"\n"
    assert process.returncode == 130


# --- Which pool --------------------------------------------------------------------------------------


@pytest.fixture
def three_pools(picas: Shell) -> Shell:
    for name in ("option", "variable", "file", "picas"):
        picas.write("t.txt", f"{name}\n")
        assert picas.here("push", "t.txt", "--pool", f"sqlite:///{name}.db").code == 0
    return picas


def _input(shell: Shell, *args: str, **environment: str) -> str:
    answer = shell(*args, **environment)
    assert answer.code == 0, answer.err
    return str(json.loads(answer.out)["input"])


def test_the_pool_is_the_option_or_the_variable_or_the_file_or_the_default(three_pools: Shell) -> None:
    option = ("--pool", "sqlite:///option.db")
    assert _input(three_pools, "list", "--json") == "picas"
    three_pools.path("config/picas").mkdir(parents=True)
    three_pools.write("config/picas/config.toml", 'pool = "sqlite:///file.db"\n')
    assert _input(three_pools, "list", "--json") == "file"
    assert _input(three_pools, "list", "--json", PICAS_POOL="") == "file"
    assert _input(three_pools, "list", "--json", PICAS_POOL="sqlite:///variable.db") == "variable"
    assert _input(three_pools, "list", "--json", *option, PICAS_POOL="sqlite:///variable.db") == "option"


def test_pool_and_json_stand_before_or_after_the_verb(three_pools: Shell) -> None:
    assert _input(three_pools, "--pool", "sqlite:///option.db", "--json", "list") == "option"
    assert (
        _input(three_pools, "--pool", "sqlite:///option.db", "list", "--json", "--pool", "sqlite:///file.db")
        == "file"
    )


@pytest.mark.parametrize(
    ("given", "right"),
    [("my.db", "sqlite:///my.db"), ("./my.db", "sqlite:///my.db"), ("/data/my.db", "sqlite:////data/my.db")],
)
def test_a_bare_path_is_answered_with_the_right_form(picas: Shell, given: str, right: str) -> None:
    answer = picas.here("status", "--pool", given)
    assert answer.code == 2
    assert answer.err == f"picas: --pool: '{given}' is not the address of a pool\nFor a file write: {right}\n"


def test_the_message_names_the_variable_that_is_wrong(picas: Shell) -> None:
    assert picas("status", PICAS_POOL="couch").err.startswith("picas: PICAS_POOL: 'couch' is not the address")


def test_an_unknown_kind_of_pool_is_refused(picas: Shell) -> None:
    answer = picas.here("push", picas.write("t.txt", "x\n"), "--pool", "ftp://here/there")
    assert answer.code == 2
    assert "there is no kind of pool called 'ftp'" in answer.err


LOOKING = [
    ("status",), ("list",), ("show", "a"), ("logs", "a"), ("get", "a"), ("errors",), ("reset", "error"),
    ("delete", "done"), ("flush",), ("run",),
]  # fmt: skip


@pytest.mark.parametrize("args", LOOKING, ids=lambda args: args[0])
def test_looking_at_a_pool_that_is_not_there_makes_none(picas: Shell, args: tuple[str, ...]) -> None:
    answer = picas.here(*args)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err == (
        "picas: there is no pool at sqlite:///picas.db\npicas push FILE makes one; --pool URL names another.\n"
    )
    assert not picas.path("picas.db").exists()


def test_a_file_that_is_no_pool_is_refused_and_left_as_it_is(picas: Shell) -> None:
    picas.write("picas.db", "my notes, long enough to be looked at\n" * 100)
    answer = picas.here("push", picas.write("t.txt", "x\n"))
    assert answer.code == 1
    assert "is not a PiCaS pool" in answer.err
    assert picas.path("picas.db").read_text().startswith("my notes")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to anything")
def test_a_pool_that_cannot_be_written_is_told(picas: Shell) -> None:
    picas.here("push", picas.write("t.txt", "x\n"))
    picas.path("picas.db").chmod(0o400)
    answer = picas.here("push", picas.write("u.txt", "y\n"))
    assert answer.code == 1
    assert "cannot be written" in answer.err
