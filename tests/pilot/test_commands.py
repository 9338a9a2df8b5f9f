"""Commands: what is run, with which arguments, and how it may end."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from picas.errors import InfrastructureError, InvalidInput


def script(path: Path, text: str, mode: int = 0o755) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


SHOW = '#!/bin/bash\nprintf "[%s]" "$@"\n'


def test_the_input_is_run_by_bash_and_its_output_is_attached(bench):
    bench.push("echo $((6 * 7)); echo oops >&2")
    summary = bench.run()
    assert (summary.done, summary.reason) == (1, "empty")
    assert (bench.out(), bench.err()) == ("42\n", "oops\n")
    assert bench.token()["exit_code"] == 0


def test_an_exit_code_is_kept_with_the_last_line_of_the_error_output(bench):
    bench.push("echo first >&2; echo 'it broke' >&2; echo >&2; exit 3")
    assert bench.run().error == 1
    token = bench.token()
    assert (token["exit_code"], token.run["failure"]) == (3, "application")
    assert bench.message() == "it broke"


def test_a_command_that_says_nothing_has_its_exit_code_for_a_message(bench):
    bench.push("exit 4")
    bench.run()
    assert bench.message() == "exit code 4"


def test_a_command_killed_by_a_signal_says_which(bench):
    bench.push("kill -SEGV $$")
    bench.run()
    token = bench.token()
    assert (token["exit_code"], token.run["failure"]) == (128 + 11, "signal")
    assert bench.message() == "killed by SIGSEGV"


def test_what_an_attempt_used_is_kept(bench):
    bench.push("python3 -c 'sum(range(3_000_000)); bytearray(60_000_000)'")
    bench.run()
    run = bench.token().run
    assert run["wall"] > 0.02
    assert run["cpu"] > 0.02
    assert run["max_rss"] > 60_000_000


@pytest.mark.parametrize(
    "value",
    [
        "; rm -rf / #",
        "two words",
        "'single' \"double\"",
        "größe → 雪 🎈",
        "line\nbreak",
        "$(exit 9)",
        "*",
        "",
        "-n",
    ],
)
def test_a_field_is_one_argument_whatever_is_in_it(bench, value):
    program = script(bench.path / "show", SHOW)
    bench.push({"_id": "mine", "input": value, "q": 0.5})
    bench.run([str(program), "{input}", "{id}", "q={q}"])
    assert bench.out("mine") == f"[{value}][mine][q=0.5]"


def test_a_number_and_an_object_are_arguments_too(bench):
    program = script(bench.path / "show", SHOW)
    bench.push({"input": {"q": 1, "file": "a b"}, "cores": 1})
    bench.run([str(program), "{input}", "{input.file}", "{cores}"])
    assert bench.out() == '[{"q": 1, "file": "a b"}][a b][1]'


def test_a_relative_command_is_looked_up_where_the_pilot_stands(bench):
    script(bench.path / "show", SHOW)
    bench.push("x")
    assert bench.run(["./show", "{input}"]).done == 1
    assert bench.out() == "[x]"


def test_a_relative_command_from_a_field_is_looked_up_there_too(bench):
    script(bench.path / "show", SHOW)
    bench.push({"program": "./show"})
    assert bench.run(["{program}", "{id}"]).done == 1
    assert bench.out() == "[token_0]"


def test_a_path_may_stand_for_the_command(bench):
    bench.push("x")
    assert bench.run([script(bench.path / "show", SHOW), "{input}"]).done == 1


@pytest.mark.parametrize(
    ("text", "mode", "says"),
    [
        (None, 0, "there is no command"),
        ("#!/bin/bash\n", 0o644, "is not executable"),
        ("echo no first line\n", 0o755, "is not a program"),
        ("#!/no/such/shell\n", 0o755, "is a script for /no/such/shell, which is not there"),
        ("#!/bin/bash\r\n", 0o755, "lines that end as on Windows"),
    ],
)
def test_a_command_that_cannot_run_is_refused_before_any_token_is_touched(bench, text, mode, says):
    bench.push("x")
    if text is not None:
        script(bench.path / "program", text, mode)
    before = bench.token()
    with pytest.raises(InvalidInput, match=says):
        bench.run(["./program", "{input}"])
    assert bench.token() == before


@pytest.mark.parametrize("work", [[], "echo one string", [3], b"bytes"])
def test_what_is_no_command_is_refused(bench, work):
    with pytest.raises(InvalidInput):
        bench.pilot(work)


@pytest.mark.parametrize(
    ("text", "mode", "exit_code", "says"),
    [
        (None, 0, 127, "there is no command"),
        ("#!/bin/bash\n", 0o644, 126, "is not executable"),
        ("echo no first line\n", 0o755, 126, "is not a program"),
        ("#!/no/such/shell\n", 0o755, 127, "is a script for /no/such/shell"),
    ],
)
def test_a_command_from_a_field_that_cannot_run_is_an_error_of_its_token_alone(
    bench, text, mode, exit_code, says
):
    if text is not None:
        script(bench.path / "bad", text, mode)
    bench.push({"program": str(bench.path / "bad")}, {"program": "true"})
    summary = bench.run(["{program}"])
    assert (summary.done, summary.error) == (1, 1)
    token = bench.token()
    assert (token["exit_code"], token["lock"], token["done"]) == (exit_code, 99, 99)
    assert token.run["failure"] == "infrastructure"
    assert says in bench.message()


@pytest.mark.parametrize("place", ["input", "argument"])
def test_a_command_line_that_is_too_long_is_an_error_with_advice(bench, place):
    bench.push(": " + "x" * 200_000, "true")
    summary = bench.run() if place == "input" else bench.run(["true", "{input}"])
    assert (summary.done, summary.error) == (1, 1)
    assert "200,002 bytes" in bench.message()
    assert "PICAS_TOKEN_FILE" in bench.message()


def test_a_nul_in_the_input_is_an_error_of_its_token(bench):
    bench.push("echo a\0b", "true")
    assert bench.run().error == 1
    assert bench.token()["exit_code"] == 126
    assert "null byte" in bench.message()


@pytest.mark.parametrize(
    ("value", "kind"), [(5, "a number"), ({"q": 1}, "an object"), ([1], "a list"), (None, "missing")]
)
def test_an_input_that_is_no_string_needs_a_command(bench, value, kind):
    bench.push({"input": value})
    bench.run()
    assert bench.token()["exit_code"] == 126
    assert f"the token's input is {kind}, not a shell command" in bench.message()


def test_a_field_that_the_token_lacks_is_an_error_of_its_token(bench):
    bench.push({"input": "a"}, {"input": "b", "q": 1})
    summary = bench.run(["echo", "{q}"])
    assert (summary.done, summary.error) == (1, 1)
    assert "'{q}'" in bench.message()


def test_the_command_runs_in_an_empty_directory_of_its_own_which_is_removed(bench):
    bench.push("pwd; ls -A; touch left", "pwd; ls -A; mkdir closed; touch closed/x; chmod 000 closed")
    bench.run()
    first, second = bench.out("token_0").split(), bench.out("token_1").split()
    assert len(first) == len(second) == 1
    assert first != second
    assert bench.left_in_scratch() == []


def test_the_directory_of_a_failed_attempt_is_kept_on_request_and_told(bench):
    bench.push("echo 5 > half; exit 1", "echo 6 > whole", ": cannot start \0")
    bench.run(keep=True)
    kept = Path(bench.token("token_0").run["kept"])
    assert (kept / "work" / "half").read_text() == "5\n"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    assert "kept" not in bench.token("token_1").run
    assert bench.left_in_scratch().count("whole") == 0


def test_nothing_is_on_the_standard_input(bench):
    bench.push("cat; echo end")
    bench.run()
    assert bench.out() == "end\n"


def test_a_pilot_where_its_scratch_cannot_be_says_so_and_touches_nothing(bench):
    bench.push("true")
    with pytest.raises(InfrastructureError, match="cannot be used"):
        bench.run(scratch=bench.path / "missing")
    assert bench.states() == {"token_0": "todo"}


def test_a_machine_without_room_for_directories_stops_the_pilot_and_spares_the_tokens(bench):
    bench.push(*['rm -rf "$TEST_SCRATCH"/*'] + ["true"] * 5)
    with pytest.raises(InfrastructureError, match="scratch directory"):
        bench.run()
    states = list(bench.states().values())
    assert states.count("todo") == 5
    assert all(bench.token(f"token_{n}").attempt == 0 for n in range(1, 6))
