"""Several pilots on one pool, and pilots that are killed outright."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from pathlib import Path

import pytest


def runs(bench):
    """How often each token's work was done."""
    return Counter(Path(bench.path, "log").read_text().split())


NOTE = 'echo "$PICAS_TOKEN_ID" >> "$TEST_SCRATCH/../log"'


def test_of_several_pilots_each_token_is_run_by_one(bench):
    bench.push(*[NOTE] * 150)
    pilots = [bench.start(workers=2) for _ in range(4)]
    summaries = [pilot.summary(60) for pilot in pilots]
    assert sum(summary["done"] for summary in summaries) == 150
    assert set(runs(bench).values()) == {1}
    assert len(runs(bench)) == 150


def test_pilots_that_were_killed_outright_lose_no_token(bench, eventually):
    bench.push(*[f"{NOTE}; sleep 0.02"] * 120)
    pilots = [bench.start(workers=2) for _ in range(2)]
    eventually(lambda: list(bench.states().values()).count("done") > 20)
    for pilot in pilots:
        pilot.kill()
    locked = list(bench.states().values()).count("locked")
    assert locked > 0
    assert bench.pool.reset(bench.pool.tokens("locked")) == locked
    left = list(bench.states().values()).count("todo")
    assert bench.start(workers=2).summary(60)["done"] == left
    assert set(bench.states().values()) == {"done"}
    assert len(runs(bench)) == 120
    for token in bench.pool.tokens():
        assert f"logs_{token.id}.out" in token.attachments


@pytest.mark.skipif(sys.platform != "linux", reason="strays are found on Linux")
def test_two_pilots_in_one_program_do_not_take_each_others_processes_for_strays(bench):
    bench.push(*[{"input": "setsid --fork bash -c 'sleep 0.5; echo alive'; sleep 0.8", "who": "slow"}] * 2)
    bench.push(*[{"input": "true", "who": "fast"}] * 40)
    threads = [
        threading.Thread(target=bench.run, kwargs={"where": f"who == '{who}'", "workers": 2})
        for who in ("slow", "fast")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert set(bench.states().values()) == {"done"}
    assert [bench.out(f"token_{n}") for n in range(2)] == ["alive\n"] * 2
