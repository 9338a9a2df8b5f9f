"""Works that do all that a pilot could stumble over, several at once: each ends as it should, the others are none the worse.

What each does alone is tested in tests/pilot; these run with `nox -s faults`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.faults.fleets import Fleet

from picas.pool import open_pool

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc"),
]

# Read here: the tests themselves see no PICAS_ variable of their caller.
_CGROUP = os.environ.get("PICAS_TEST_CGROUP")

GREEDY = f"{sys.executable} -c 'held = bytearray(1 << 30)'"
"""Wants a gigabyte."""

WORKS = {
    "daemons": ("for n in 1 2 3; do setsid --fork sleep 1000; done", "done", 0, ""),
    "many children": ("for n in $(seq 60); do sleep 1000 & done; disown -a", "done", 0, ""),
    "ignores TERM": ("trap '' TERM; while :; do sleep 0.1; done", "error", 124, "timeout"),
    "stops itself": ("kill -STOP $$; sleep 1000", "error", 124, "timeout"),
    "a daemon that ignores TERM": (
        "trap '' TERM; setsid --fork sleep 1000; sleep 1000",
        "error",
        124,
        "timeout",
    ),
    "closes everything": (
        'for n in $(seq 0 255); do eval "exec $n>&-" 2>/dev/null; done; exit 0',
        "done",
        0,
        "",
    ),
    "prints without end": ("head -c 200000000 /dev/zero; echo end", "done", 0, ""),
    "prints on both": ("yes | head -c 50000000 | tee /dev/stderr", "done", 0, ""),
    "kills itself": ("kill -9 $$", "error", 137, "signal"),
    "kills its group": ("kill -9 0", "error", 137, "signal"),
    "fills its directory": (
        "for n in $(seq 300); do echo $n > $n; done; mkdir -p a/b/c; chmod 0 a",
        "done",
        0,
        "",
    ),
    "has no memory": (f"ulimit -v 200000; {GREEDY}", "error", 1, None),
}
"""What a token does -> its command; the state, the exit code and the class of failure it ends with, if that is certain."""


@pytest.mark.any_pool
def test_works_that_do_their_worst_harm_nobody_else(tmp_path: Path, pool_url: str) -> None:
    fleet = Fleet(tmp_path, pool_url, 3, options=("--task-timeout=20s", "--log-cap=100KB"))
    names = {f"{name.replace(' ', '-')}-{n}": name for name in WORKS for n in range(2)}
    fleet.pool.push([{"_id": key, "input": WORKS[name][0]} for key, name in names.items()])
    fleet.push(100)
    pilots = fleet.count
    with fleet:
        fleet.wait_until_ended(900)
        assert len(fleet.alive()) == pilots, "works have left something running"
    with open_pool(pool_url) as pool:
        tokens = {token.id: token for token in pool.tokens()}
        assert {token.state.value for key, token in tokens.items() if key not in names} == {"done"}
        for key, name in names.items():
            _, state, code, failure = WORKS[name]
            found = tokens[key]
            assert (found.state.value, found["exit_code"], found.attempt) == (state, code, 1), (
                name,
                found.document(),
            )
            assert failure is None or found.run.get("failure", "") == failure, (name, found.run)
        for name, log in (("prints-without-end", "out"), ("prints-on-both", "err")):
            kept = b"".join(pool.read_attachment(f"{name}-0", f"logs_{name}-0.{log}"))
            assert 50_000 < len(kept) < 200_000
            assert b"picas" in kept  # that and where something is missing


@pytest.mark.any_pool
def test_a_work_that_kills_its_pilots_is_in_error_and_the_others_are_done(
    tmp_path: Path, pool_url: str
) -> None:
    fleet = Fleet(tmp_path, pool_url, 3, mortal=True)
    fleet.pool.push([{"_id": "murderer", "input": "echo here I am; kill -9 $PPID; sleep 1"}])
    fleet.push(300)

    with fleet:
        fleet.wait_until_ended(900)
    found = fleet.look()
    assert fleet.killed == 4
    assert found.states == {"done": 300, "error": 1}
    assert found.errors == {"lost": 1}
    assert found.logs["murderer"] == "here I am"


@pytest.fixture
def small_cgroup() -> Iterator[Path]:
    """A control group of 64 MB: made in the directory that ``PICAS_TEST_CGROUP`` names."""
    if _CGROUP is None:
        pytest.skip("PICAS_TEST_CGROUP names no control group in which one with little memory may be made")
    group = Path(_CGROUP) / f"picas-{os.getpid()}"
    group.mkdir()
    try:
        for name in ("memory.max", "memory.limit_in_bytes"):
            if (group / name).exists():
                (group / name).write_text(str(64 << 20))
        yield group
    finally:
        group.rmdir()


@pytest.mark.any_pool
def test_work_without_memory_is_killed_by_the_kernel_and_the_pilot_goes_on(
    tmp_path: Path, pool_url: str, small_cgroup: Path
) -> None:
    fleet = Fleet(tmp_path, pool_url, 2)
    into = f"echo $$ > {small_cgroup}/cgroup.procs; echo begun"
    fleet.pool.push([{"_id": f"greedy-{n}", "input": f"{into}; exec {GREEDY}"} for n in range(3)])
    fleet.push(50)
    with fleet:
        fleet.wait_until_ended(300)
    found = fleet.look()
    assert found.states == {"done": 50, "error": 3}
    assert [found.logs[f"greedy-{n}"] for n in range(3)] == ["begun"] * 3
    with open_pool(pool_url) as pool:
        assert [pool.get(f"greedy-{n}")["exit_code"] for n in range(3)] == [137] * 3
