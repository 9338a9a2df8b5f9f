"""Logs: all that is printed, capped, and never in the pilot's memory."""

from __future__ import annotations

import subprocess
import sys

import pytest

MEGABYTE = 1_000_000


@pytest.mark.any_pool
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_hundred_megabytes_are_capped_and_never_in_memory(bench):
    bench.push("echo head; head -c 100000000 /dev/zero | tr '\\0' x; echo tail")
    # getrusage() would count what the process was before it became this program: that of the test itself.
    started = bench.start(
        "import atexit, re, sys\n"
        "status = lambda: open('/proc/self/status').read()\n"
        "atexit.register(lambda: print(re.search('VmHWM:\\\\s*([0-9]+) kB', status())[1], file=sys.stderr))\n",
        log_cap=10 * MEGABYTE,
    )
    _, err = started.process.communicate(timeout=60)
    assert started.process.returncode == 0, err
    assert int(err) * 1024 < 60 * MEGABYTE
    log = bench.out()
    assert log.startswith("head\n")
    assert log.endswith("xtail\n")
    assert "[picas: 90000010 bytes left out here; the log had 100000010, the cap is 10000000]" in log
    assert 10 * MEGABYTE <= len(log) < 10 * MEGABYTE + 200
    assert bench.left_in_scratch() == []


def test_a_cap_of_nothing_leaves_the_note(bench):
    bench.push("echo much")
    bench.run(log_cap=0)
    assert "5 bytes left out" in bench.out()


@pytest.mark.any_pool
def test_binary_output_is_kept_as_it_is(bench):
    bench.push(r"printf '\x00\xff\xfe\n'")
    bench.run()
    assert bench.attached("logs_token_0.out") == b"\x00\xff\xfe\n"


def test_a_command_may_close_its_output(bench):
    bench.push("exec >&- 2>&-; true", "exec >&-; echo lost; exit 2")
    summary = bench.run()
    assert (summary.done, summary.error) == (1, 1)
    assert bench.out("token_0") == ""


def test_the_error_message_is_the_end_of_a_line_without_end(bench):
    bench.push("head -c 100000 /dev/zero | tr '\\0' x >&2; echo -n ' at last' >&2; exit 1")
    bench.run()
    assert bench.message().endswith("xxx at last")
    assert len(bench.message()) <= 2048


def test_the_error_message_holds_no_orders_for_a_terminal(bench):
    bench.push(r"printf 'a\n\033[31mred\033[0m \007\000\033]0;title\007wine\n' >&2; exit 1")
    bench.run()
    assert bench.message() == "red wine"


@pytest.mark.any_pool
def test_each_attempt_has_its_own_logs(bench):
    bench.push("echo attempt $PICAS_ATTEMPT; exit 1")
    bench.run(max_scrub=2)
    assert bench.out() == "attempt 3\n"
    assert bench.attached("logs_token_0.attempt-1.out") == b"attempt 1\n"
    assert bench.attached("logs_token_0.attempt-2.out") == b"attempt 2\n"
    logs = [entry["logs"][0] for entry in bench.token().history]
    assert logs == ["logs_token_0.attempt-1.out", "logs_token_0.attempt-2.out"]


def test_the_plain_name_is_never_an_earlier_attempts_log(bench):
    bench.push("x")
    attempts = iter([1, 2])

    def work(token):
        if next(attempts) == 1:
            print("first")
            raise ValueError("once")

    bench.run(work, max_scrub=1)
    assert sorted(bench.token().attachments) == ["logs_token_0.attempt-1.err", "logs_token_0.attempt-1.out"]


READER = """
import os, subprocess, sys
from pathlib import Path
from picas.work import scratch

path = sys.argv[1]
open_it = "import os, sys; os.open(sys.argv[1], os.O_RDONLY | os.O_NONBLOCK)"

def held_while_somebody_opens_it(handle, size, truncate=os.ftruncate):
    print(subprocess.run([sys.executable, "-c", open_it, path], stderr=subprocess.PIPE, text=True).stderr)
    truncate(handle, size)

os.ftruncate = held_while_somebody_opens_it
print(scratch._emptied(path))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="leases are Linux's")
def test_who_opens_a_log_just_when_its_file_is_emptied_does_not_kill_the_pilot(tmp_path):
    log = tmp_path / "stdout"
    log.write_text("old")
    log.chmod(0o600)
    answer = subprocess.run(
        [sys.executable, "-c", READER, str(log)], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert "BlockingIOError" in answer.stdout  # it did meet the lease
    assert log.read_text() == ""
