"""Python functions: in the pilot's own process, or each call in a child; both behave alike."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from picas.errors import InvalidInput


@pytest.fixture(params=["in-process", "in-child"])
def options(request):
    """What makes a pilot call functions here or there."""
    return {} if request.param == "in-process" else {"task_timeout": 20.0}


@pytest.mark.parametrize(
    ("value", "output"),
    [
        ({"mean": 0.5, "größe": "é"}, {"mean": 0.5, "größe": "é"}),
        ([1, 2], {"result": [1, 2]}),
        (0, {"result": 0}),
        ("text", {"result": "text"}),
        (None, {}),
        ({}, {}),
        ({1: "one"}, {"1": "one"}),
    ],
)
def test_what_a_function_returns_is_the_output(bench, options, value, output):
    bench.push("x")
    assert bench.run(lambda token: value, **options).done == 1
    assert bench.token().output == output


@pytest.mark.parametrize("value", [{1, 2}, object(), float("nan"), {"x": b"bytes"}, (n for n in "abc")])
def test_what_json_cannot_say_is_an_error(bench, options, value):
    bench.push("x")
    assert bench.run(lambda token: value, **options).error == 1
    assert bench.token()["exit_code"] == 1
    assert "cannot be written as JSON" in bench.message()


def test_an_exception_is_an_error_with_its_traceback(bench, options):
    def work(token):
        print("before")
        raise ValueError(f"no {token.input}\nsecond line")

    bench.push("luck")
    assert bench.run(work, **options).error == 1
    [entry] = bench.token()["error"]
    assert entry["message"] == "ValueError: no luck"
    assert entry["exception"].startswith("Traceback (most recent call last)")
    assert 'raise ValueError(f"no {token.input}' in entry["exception"]
    assert (bench.token()["exit_code"], bench.token().run["failure"]) == (1, "application")
    assert bench.out() == "before\n"
    assert bench.err().endswith("ValueError: no luck\nsecond line\n")


@pytest.mark.parametrize(
    ("code", "exit_code", "message"),
    [
        (3, 3, "exit code 3"),
        (0, 0, None),
        (None, 0, None),
        (-1, 255, "exit code 255"),
        ("no data", 1, "no data"),
    ],
)
def test_sys_exit_means_what_it_means_in_a_program(bench, options, code, exit_code, message):
    bench.push("x")
    bench.run(lambda token: sys.exit(code), **options)
    assert bench.token()["exit_code"] == exit_code
    if message is None:
        assert bench.token().state.value == "done"
    else:
        assert bench.message() == message


def test_an_error_that_says_very_much_is_kept_short(bench, options):
    def work(token):
        raise ValueError("x" * 10_000_000)

    bench.push("x")
    assert bench.run(work, **options).error == 1
    assert len(str(bench.token().body)) < 50_000
    assert len(bench.err()) > 10_000_000


@pytest.mark.parametrize("size", [10, 65_536, 3_000_000])
def test_what_a_function_prints_is_its_log(bench, options, size):
    def work(token):
        print("x" * size)
        print("größe", file=sys.stderr)
        sys.stdout.write("end")
        sys.stdout.buffer.write(b"\xff\x00")

    bench.push("x")
    bench.run(work, **options)
    data = bench.attached("logs_token_0.out")
    assert data.startswith(b"x" * size + b"\n")
    assert sorted(data[size + 1 :]) == sorted(
        b"end\xff\x00"
    )  # in a child, bytes and text have buffers of their own
    assert bench.err() == "größe\n"


def test_a_long_log_of_a_function_is_capped_too(bench, options):
    bench.push("x")
    bench.run(lambda token: print("x" * 1_000_000), log_cap=1000, **options)
    assert "999001 bytes left out" in bench.out()


def test_a_function_with_two_parameters_gets_a_directory_and_can_attach(bench, options):
    def work(token, job):
        (job.scratch / "table.txt").write_text("1 2 3")
        job.attach("tables/one.txt", job.scratch / "table.txt")
        job.attach("raw/../odd name", b"\x00\xff")
        job.attach("empty", b"")
        return str(job.scratch)

    bench.push("x")
    assert bench.run(work, **options).done == 1
    assert bench.attached("tables/one.txt") == b"1 2 3"
    assert bench.attached("raw/../odd name") == b"\x00\xff"
    assert bench.attached("empty") == b""
    assert bench.token().attachments["tables/one.txt"].content_type == "text/plain"
    assert bench.left_in_scratch() == []


def test_an_absolute_name_is_just_a_name(bench, options, tmp_path):
    bench.push("x")
    bench.run(lambda token, job: job.attach(f"{tmp_path}/file", b"data"), **options)
    assert not (tmp_path / "file").exists()
    assert bench.attached(f"{tmp_path}/file") == b"data"


def test_what_was_attached_before_an_exception_is_attached(bench, options):
    def work(token, job):
        job.attach("half", b"half")
        raise KeyError("rest")

    bench.push("x")
    bench.run(work, **options)
    assert bench.attached("half") == b"half"


@pytest.mark.parametrize("name", ["logs_token_0.out", "", "_hidden"])
def test_names_that_cannot_be_are_refused(bench, options, name):
    bench.push("x")
    assert bench.run(lambda token, job: job.attach(name, b""), **options).error == 1


def test_closures_and_lambdas_work(bench, options):
    factor = 3
    bench.push({"input": 2})
    bench.run(lambda token: token.input * factor, **options)
    assert bench.token().output == {"result": 6}


def test_one_object_returned_again_and_again_is_what_it_was_each_time(bench, options):
    answer = {}

    def work(token):
        answer["input"] = token.input
        return answer

    bench.push(*"abcdefgh")
    bench.run(work, **options)
    assert [token.output["input"] for token in bench.pool.tokens()] == list("abcdefgh")


def test_what_a_function_does_to_its_token_stays_its_own(bench, options):
    def work(token):
        token.body["input"]["q"] = 2
        token.body["extra"] = 1

    bench.push({"input": {"q": 1}})
    bench.run(work, **options)
    assert bench.token().input == {"q": 1}
    assert "extra" not in bench.token().body


def test_functions_that_do_nothing_by_being_called_are_refused(bench):
    async def coroutine(token):
        pass

    def generator(token):
        yield 1

    for work in (coroutine, generator):
        with pytest.raises(InvalidInput, match="generator or a coroutine"):
            bench.pilot(work)


def test_in_a_child_a_limit_holds_against_any_code(bench):
    bench.push({"input": 10**12})
    assert bench.run(lambda token: sum(range(token.input)), task_timeout=0.3).error == 1
    assert bench.token()["exit_code"] == 124


def test_in_a_child_a_function_that_is_stopped_has_said_what_it_said(bench):
    def work(token):
        print("begun")
        time.sleep(1000)

    bench.push("x")
    bench.run(work, task_timeout=0.3)
    assert bench.out() == "begun\n"


def test_in_a_child_a_function_may_die_outright(bench):
    bench.push("exit", "kill")

    def work(token):
        os._exit(7) if token.input == "exit" else os.kill(os.getpid(), signal.SIGKILL)

    assert bench.run(work, workers=2).error == 2
    assert bench.token("token_0")["exit_code"] == 7
    assert bench.token("token_1").run["failure"] == "signal"


def test_in_a_child_a_function_is_told_what_a_command_is_told(bench):
    def work(token):
        names = "PICAS_TOKEN_ID PICAS_INPUT PICAS_POOL PICAS_OUTPUT".split()
        return {
            "told": [os.environ.get(name) for name in names],
            "place": str(Path.cwd()),
            "in": sys.stdin.read(),
        }

    bench.push("x")
    bench.run(work, workers=2)
    output = bench.token().output
    assert output["told"][:3] == ["token_0", "x", bench.url]
    assert output["place"].startswith(str(bench.scratch))
    assert output["in"] == ""


def test_children_do_not_draw_the_same_random_numbers(bench):
    random.seed(1)
    bench.push("a", "b", "c")
    bench.run(lambda token: random.random(), workers=2)
    assert len({token.output["result"] for token in bench.pool.tokens()}) == 3


def test_numpy_is_seeded_anew_in_each_child_where_it_is_loaded(bench, monkeypatch):
    numpy = type(sys)("numpy.random")
    numpy.seed = lambda: print("seeded")
    monkeypatch.setitem(sys.modules, "numpy.random", numpy)
    bench.push("x")
    bench.run(lambda token: None, workers=2)
    assert bench.out() == "seeded\n"


def test_in_the_pilots_process_the_standard_streams_are_given_back(bench):
    before = (sys.stdout, sys.stderr)
    bench.push("x", "y")
    bench.run(lambda token: 1 / 0)
    assert (sys.stdout, sys.stderr) == before


def test_what_a_listener_prints_meanwhile_is_no_output_of_a_function(bench, capsys):
    def listener(event):
        if event.kind == "finished":
            print("finished", event.token.id)

    bench.push(*"abcdef")
    bench.run(lambda token: time.sleep(0.1), on_event=listener)
    assert capsys.readouterr().out.count("finished") == 6
    assert not any(token.attachments for token in bench.pool.tokens())


def test_functions_run_from_any_thread(bench, options):
    bench.push("x", "y")
    thread = threading.Thread(target=bench.run, args=[lambda token: token.input], kwargs=options)
    thread.start()
    thread.join(120)
    assert [token.output for token in bench.pool.tokens()] == [{"result": "x"}, {"result": "y"}]
