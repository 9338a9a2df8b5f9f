"""Pilots on bad days of their server: work and its limits go on, nothing is lost, and they leave in time."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from tests.couchdb.faults import Answer, Fault, Hang, Truncate, error_page

import picas.pilot.loop
from picas.pilot.loop import Pilot
from picas.pool import open_pool
from picas.spool.spool import Spool, flush
from picas.tokens import State

if TYPE_CHECKING:
    from pathlib import Path

    from tests.couchdb.conftest import Proxied

LEAVING_SECONDS = 60.0
"""The patience of a `hasty` pilot, and very much for a slow machine: the server would hang for ever."""

WRITES = {"method": "POST", "path": "/_bulk_docs"}


def wait_for(condition: Any, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.05)


def counts(proxied: Proxied) -> dict[str, int]:
    with open_pool(proxied.direct) as pool:
        return {state.value if state else "other": count for state, count in pool.counts().items()}


PASSING: list[Fault] = [
    Truncate(10),
    error_page(200),
    Answer(302, "<html>moved</html>", {"Location": "https://login.example.org/"}),
    Answer(429, {"error": "too_many_requests"}, {"Retry-After": "1"}),
    Answer(503, {}, stored=True),
]


@pytest.mark.parametrize("fault", PASSING, ids=[str(n) for n in range(len(PASSING))])
def test_a_pilot_outlasts_what_passes_and_runs_each_token_once(
    proxied: Proxied, tmp_path: Path, fault: Fault
) -> None:
    ran = tmp_path / "ran"
    with open_pool(proxied.url, patience=0.0) as pool:
        pool.push([f"echo {n} >> {ran}" for n in range(12)])
        rules = [proxied.proxy.fault(fault, count=2, skip=skip) for skip in (3, 5)]
        problems: list[str] = []
        summary = Pilot(
            pool,
            scratch=tmp_path,
            spool=tmp_path / "spool",
            on_event=lambda event: problems.append(event.message) if event.kind == "problem" else None,
        ).run()
    assert sum(rule.hits for rule in rules) >= 2
    assert (summary.done, summary.unsent) == (12, 0)
    assert all(proxied.proxy.origin in problem for problem in problems)
    assert sorted(map(int, ran.read_text().split())) == list(range(12))
    assert counts(proxied)["done"] == 12


def test_a_hanging_server_stops_no_work_and_no_time_limit(proxied: Proxied, tmp_path: Path) -> None:
    ran, stopped = tmp_path / "ran", tmp_path / "stopped"
    with open_pool(proxied.url, patience=0.0) as pool:
        quick = [f"sleep 0.3; echo {n} >> {ran}" for n in range(6)]
        pool.push([*quick, f"trap 'touch {stopped}' EXIT; sleep 1000"])
        pilot = Pilot(pool, workers=7, task_timeout=1.5, scratch=tmp_path, spool=tmp_path / "spool")
        worker = threading.Thread(target=pilot.run)
        worker.start()
        wait_for(lambda: counts(proxied)["locked"] == 7)
        proxied.proxy.fault(Hang(), count=None)  # whatever is asked now waits
        wait_for(lambda: ran.exists() and len(ran.read_text().split()) == 6)
        wait_for(stopped.exists)
        proxied.proxy.clear()
        proxied.proxy.cut()
        worker.join(90)
    assert counts(proxied) == {"todo": 0, "locked": 0, "done": 6, "error": 1, "other": 0}
    with open_pool(proxied.direct) as pool:
        (late,) = pool.tokens("error")
        assert (late["exit_code"], late.run["failure"]) == (124, "timeout")
        assert late.run["wall"] < 100


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pilot that has to go waits a second for its server, not ten."""
    monkeypatch.setattr(picas.pilot.loop, "PATIENCE_SECONDS", 1.0)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("asked", ["claim", "result", "what was claimed ahead"])
def test_a_signal_ends_a_pilot_whose_server_hangs(proxied: Proxied, tmp_path: Path, asked: str) -> None:
    skip, tokens = {
        "claim": (0, ["sleep 60"]),
        "result": (1, ["echo quick"]),
        "what was claimed ahead": (3, [*(f"echo {n}" for n in range(40)), "sleep 60"]),
    }[asked]
    with open_pool(proxied.url, patience=0.0) as pool:
        pool.push(tokens)
        hanging = proxied.proxy.fault(Hang(), count=None, skip=skip, **WRITES)  # type: ignore[arg-type]
        problems: list[str] = []
        pilot = Pilot(
            pool,
            scratch=tmp_path,
            spool=tmp_path / "spool",
            on_event=lambda event: problems.append(event.message) if event.kind == "problem" else None,
        )

        def send() -> None:
            wait_for(lambda: hanging.hits)
            sent_at.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGTERM)

        sent_at: list[float] = []
        sender = threading.Thread(target=send)
        sender.start()
        summary = pilot.run()
        assert time.monotonic() - sent_at[0] < LEAVING_SECONDS
        sender.join()
        assert summary.signal == signal.SIGTERM
        proxied.proxy.clear()
        proxied.proxy.cut()
        kept = Spool(tmp_path / "spool", pool.url).waiting()
        assert summary.unsent == kept
        assert flush(pool, tmp_path / "spool") == (kept, 0)
        found = counts(proxied)
    if asked == "claim":
        assert (found["todo"], kept) == (1, 0)
        assert any("has not answered a claim" in problem for problem in problems)
    if asked == "result":
        assert (found["done"], kept) == (1, 1)
    assert found["done"] + found["todo"] + found["locked"] == len(tokens)


@pytest.mark.usefixtures("hasty")
def test_results_of_a_pilot_that_had_to_go_are_sent_by_the_next(proxied: Proxied, tmp_path: Path) -> None:
    with open_pool(proxied.url, patience=0.0) as pool:
        pool.push(["echo one", "echo two"])
        rule = proxied.proxy.fault(Answer(503, {}), count=None, skip=1, **WRITES)  # type: ignore[arg-type]
        pilot = Pilot(pool, scratch=tmp_path, spool=tmp_path / "spool", max_tasks=1)
        worker = threading.Thread(target=pilot.run)
        worker.start()
        wait_for(lambda: rule.hits)
        worker.join(90)
        assert not worker.is_alive()
        proxied.proxy.clear()
        sent, left = flush(pool, tmp_path / "spool")
    assert (sent, left) == (1, 0)
    assert counts(proxied)["done"] == 1


def test_a_database_that_is_gone_ends_a_pilot_with_its_results_kept(proxied: Proxied, tmp_path: Path) -> None:
    gone = Answer(404, {"error": "not_found", "reason": "Database does not exist."})
    with open_pool(proxied.url, patience=0.0) as pool:
        pool.push(["echo one"])
        proxied.proxy.fault(gone, count=None, skip=1, **WRITES)  # type: ignore[arg-type]
        with pytest.raises(Exception, match="Database does not exist"):
            Pilot(pool, scratch=tmp_path, spool=tmp_path / "spool").run()
    assert Spool(tmp_path / "spool", pool.url).waiting() == 1


def test_rights_that_were_taken_away_end_a_pilot_at_once(proxied: Proxied, tmp_path: Path) -> None:
    """Repeating would lock the user and the address out."""
    no = Answer(401, {"error": "unauthorized", "reason": "Name or password is incorrect."})
    with open_pool(proxied.url, patience=0.0) as pool:
        pool.push(["echo one", "echo two"])
        rule = proxied.proxy.fault(no, count=None, skip=1, **WRITES)  # type: ignore[arg-type]
        with pytest.raises(Exception, match="Name or password is incorrect"):
            Pilot(pool, scratch=tmp_path, spool=tmp_path / "spool").run()
    assert rule.hits == 1 or urlsplit(proxied.url).username is None  # PouchDB's server has no users
    assert counts(proxied)[State.DONE.value] == 0
    assert Spool(tmp_path / "spool", pool.url).waiting() == 1
