"""`picas run --retry-on`, `--budget`, and what `errors` and `show` tell of failures that were tried again."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from picas.budgets import COUNTED_APART, Budgets
from picas.cli.errors import CLASSES
from picas.errors import InvalidInput
from picas.settings.config import BUDGETS, parse_budget, parse_codes
from picas.tokens import Failure

if TYPE_CHECKING:
    from tests.cli.conftest import Shell

WAIT = """
import time
from picas import Failure, Outcome, open_pool
from picas.budgets import Budgets
pool = open_pool()
now = time.time()
lost = Outcome(1, now, now, Failure.LOST, "not heard of any more")
pool.finish(pool.claim(), lost, budgets=Budgets(pause=(3600, 3600)))
"""


def test_the_names_of_budgets_are_those_that_the_settings_know() -> None:
    assert set(BUDGETS) == set(COUNTED_APART)
    assert all(hasattr(Budgets(), name) for name in BUDGETS)


def test_all_classes_are_explained() -> None:
    assert {failure.value for failure in Failure} <= CLASSES.keys()


def test_what_they_are_written_like() -> None:
    assert parse_codes("75") == (75,)
    assert parse_codes("75, 111") == (75, 111)
    assert parse_budget("lost=5, again=0") == {"lost": 5, "again": 0}


@pytest.mark.parametrize("text", ["", "0", "256", "75,", "x", "-1", "1 2"])
def test_what_is_no_exit_code(text: str) -> None:
    with pytest.raises(InvalidInput, match="exit code"):
        parse_codes(text)


@pytest.mark.parametrize("text", ["", "lost", "lost=", "lost=-1", "scrub=2", "lost=1;again=2", "lost=1.5"])
def test_what_is_no_budget(text: str) -> None:
    with pytest.raises(InvalidInput, match="budget"):
        parse_budget(text)


@pytest.mark.any_pool
def test_an_exit_code_may_mean_try_again(picas: Shell) -> None:
    picas.here("push", picas.write("t.txt", '[ "$PICAS_ATTEMPT" = 2 ] || exit 75\nexit 76\n'))
    summary = picas.here("run", "--retry-on", "75,111", "--json").json
    assert (summary["done"], summary["error"], summary["retried"]) == (1, 1, 1)
    assert summary["next_try"] is None


def test_budgets_come_from_the_options_or_the_configuration(picas: Shell) -> None:
    picas.here("push", picas.write("t.txt", "exit 75\n"))
    picas.path("config/picas").mkdir(parents=True)
    picas.write("config/picas/config.toml", '[run]\nretry-on = 75\nbudget = "again=1"\n')
    first = picas.here("run", "--json").json
    assert (first["retried"], first["error"]) == (1, 1)
    picas.here("reset", "error")
    second = picas.here("run", "--json", "--budget", "again=0").json
    assert (second["retried"], second["error"]) == (0, 1)


def test_a_mistake_in_them_names_the_option(picas: Shell) -> None:
    answer = picas.here("run", "--budget", "losst=3")
    assert answer.code == 2
    assert "--budget: 'losst=3' is no budget" in answer.err
    assert "lost, infrastructure, preempted, again" in answer.err


@pytest.mark.any_pool
def test_a_token_that_waits_is_told_of(picas: Shell) -> None:
    picas.here("push", picas.write("t.txt", "true\n"))
    subprocess.run([sys.executable, "-c", WAIT], cwd=picas.directory, env=picas.environment, check=True)
    assert picas.here("status", "--json").json["todo"] == 1
    answer = picas.here("run")
    assert re.search(r"wait for their next try, the first until 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", answer.out)
    shown = picas.here("show", "token_0").out
    assert "waits for its next try until 20" in shown
    assert "lost: not heard of any more" in shown
    assert picas.here("reset", "token_0").out == "reset 1 token\n"
    assert picas.here("run", "--json").json["done"] == 1


def test_errors_are_told_class_by_class(picas: Shell) -> None:
    lines = [
        "exit 3",
        "exit 4",
        "ulimit -v 90000; exec python3 -c 'bytearray(900_000_000)'",
        "sleep 50",
        "kill -9 $$",
    ]
    picas.here("push", picas.write("t.txt", "\n".join(lines)))
    picas.here("run", "--task-timeout", "3s", "-w", "5")
    found = picas.here("errors", "--json").json
    assert found["classes"] == {"application": 2, "memory": 1, "timeout": 1, "signal": 1}
    told = picas.here("errors").out.splitlines()
    assert told[0] == "application: 2 tokens (the work ended with an exit code other than 0)"
    assert "memory: 1 token (no memory was left)" in told
    assert "1 × exit 124 (timeout): stopped by its time limit after 3 s" in told


def test_attempts_that_were_made_again_are_listed_too(picas: Shell) -> None:
    picas.here("push", picas.write("t.txt", 'echo try $PICAS_ATTEMPT >&2; [ "$PICAS_ATTEMPT" = 3 ]\n'))
    assert picas.here("errors", "--retried").out == "no attempt has failed and been made again\n"
    picas.here("run", "--max-scrub", "2")
    assert picas.here("errors").out == "no token has failed\n"
    told = picas.here("errors", "--retried").out
    assert told.startswith("2 × exit 1: try N\n    token_0  20")
    assert "2 attempts failed and were to be made again; picas show token_0" in told
