"""Works that do all that a pilot could stumble over, several at once: each ends as it should, the others are none the worse.

What each does alone is tested in tests/pilot; these run with `nox -s faults`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from tests.faults.fleets import Fleet

from picas.pool import open_pool

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc"),
]

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
    "has no memory": (f"ulimit -v 200000; {GREEDY}", "error", 1, "memory"),
}
"""What a token does -> its command; the state, the exit code and the class of failure it ends with."""


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
            assert found.run.get("failure", "") == failure, (name, found.run)
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
