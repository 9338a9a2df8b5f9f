"""Work for which there is no memory: its failures are of a class of their own, charged like the application's."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.pilot.conftest import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits as Linux has them")

LIMIT = 150_000_000
"""Bytes: enough for a pilot, and not for `HOG`."""

HOG = f"{sys.executable} -c 'print(len(bytearray(600_000_000)))'"


def own_group() -> Path | None:
    """The control group of this process where the kernel can limit its memory."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            base = Path("/sys/fs/cgroup")
            if "memory" in controllers.split(","):
                return base / "memory" / path.lstrip("/")
            if not controllers and (base / path.lstrip("/") / "memory.max").exists():
                return base / path.lstrip("/")
    return None


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group with little memory; where we may make none the test is left out."""
    own = own_group()
    if own is None:
        pytest.skip("no control group limits memory here")
    group = own / f"picas-test-{os.getpid()}"
    try:
        group.mkdir()
        try:
            for name in (
                "memory.swap.max",
                "memory.memsw.limit_in_bytes",
            ):  # the latter once the other is set
                with suppress(OSError):
                    (group / name).write_text("0")
            limit = "memory.max" if (group / "memory.max").exists() else "memory.limit_in_bytes"
            (group / limit).write_text(str(LIMIT))
        except OSError as error:
            group.rmdir()
            pytest.skip(f"no memory limit can be set: {error}")
    except OSError as error:
        pytest.skip(f"no control group can be made: {error}")
    yield group
    group.rmdir()


def into(group: Path) -> str:
    """What puts a shell, and all that it starts, into a control group."""
    return f"echo $$ > {group}/cgroup.procs"


def test_work_that_the_kernel_kills_for_want_of_memory(bench, small_group):
    bench.push(
        f"{into(small_group)}; exec {HOG}", f"{into(small_group)}; {HOG}; exit $?", "kill -9 $$", "true"
    )
    summary = bench.run()
    assert (summary.done, summary.error) == (1, 3)
    for token_id in ("token_0", "token_1"):  # killed itself, and as what a shell has started
        token = bench.token(token_id)
        assert (token.run["failure"], token["exit_code"]) == ("memory", 137)
        assert "killed for want of memory" in bench.message(token_id)
    assert bench.token("token_2").run["failure"] == "signal"


def test_where_the_whole_pilot_has_little_memory(bench, small_group):
    bench.push(HOG, *["true"] * 3, HOG)
    subprocess.run(
        [
            "bash",
            "-c",
            f'{into(small_group)}; exec "$@"',
            "bash",
            sys.executable,
            "-c",
            PROGRAM,
            bench.url,
            "",
            f'{{"max_scrub": 1, "workers": 1, "scratch": "{bench.scratch}"}}',
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PICAS_SPOOL": str(bench.spool)},
    )
    assert list(bench.states().values()) == ["error", "done", "done", "done", "error"]
    for token_id in ("token_0", "token_4"):
        token = bench.token(token_id)
        assert [entry["failure"] for entry in (*token.history, token.run)] == ["memory"] * 2
        assert token.scrub_count == 1


@pytest.mark.parametrize(
    "command",
    [
        f"ulimit -v 400000; {HOG}",
        f"ulimit -v 400000; {HOG}; code=$?; echo 'bash: it failed' >&2; exit $code",
        'echo "terminate called after throwing an instance of std::bad_alloc" >&2; kill -ABRT $$',
    ],
)
def test_work_that_says_that_it_got_no_memory(bench, command):
    bench.push(command)
    assert bench.run().error == 1
    token = bench.token()
    assert token.run["failure"] == "memory"
    assert "MemoryError" in bench.message() or "bad_alloc" in bench.message()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_function_that_gets_no_memory(bench, workers):
    def work(token):
        raise MemoryError("no room")

    bench.push("x")
    bench.run(work, workers=workers)
    token = bench.token()
    assert (token.run["failure"], token["exit_code"]) == ("memory", 1)
    assert "no room" in bench.message()
    assert "Traceback" in token["error"][-1]["exception"]


def test_an_earlier_word_of_memory_is_no_reason(bench):
    bench.push("echo MemoryError >&2; for n in 1 2 3 4; do echo tried again $n >&2; done; exit 3")
    bench.run()
    token = bench.token()
    assert (token.run["failure"], bench.message()) == ("application", "tried again 4")
