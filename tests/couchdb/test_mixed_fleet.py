"""picasclient 1.x and ours in the same database: each runs what the other pushed, and fleets of both mix."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import ExitStack
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from tests.couchdb import classic
from tests.couchdb.processes import ask

import picas
from picas.finishing import Verdict
from picas.tokens import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from picas.pool import Pool

pytestmark = pytest.mark.couchdb

PUSH = """
db.save_documents([
    Task({"_id": f"old_{n}", "type": "token", "lock": 0, "done": 0, "hostname": "", "scrub_count": 0,
          "exit_code": "", "input": f"echo old {n}"})
    for n in range(%d)
])
"""

MIX = 60
"""Tokens of each kind in a mixed pool."""


@pytest.fixture(autouse=True)
def _installed() -> None:
    if classic.python() is None:
        missing = "picasclient 1.x is not installed: run scripts/classic.sh"
        if "CI" in os.environ:
            pytest.fail(missing)
        pytest.skip(missing)


@pytest.fixture
def mixed(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database that a site with 1.x has set up; our programs find their name and password."""
    status, answer = ask(database, "PUT", "/_design/Monitor", classic.monitor())
    assert status == 201, answer
    parts = urlsplit(database)
    monkeypatch.setenv("PICAS_POOL", f"{parts.scheme}://{parts.hostname}:{parts.port}{parts.path}")
    monkeypatch.setenv("PICAS_USERNAME", parts.username or "")
    monkeypatch.setenv("PICAS_PASSWORD", parts.password or "")
    monkeypatch.setenv("PICAS_SPOOL", str(tmp_path / "spool"))
    return database


@pytest.fixture
def pool(mixed: str) -> Iterator[Pool]:
    with picas.open_pool() as pool:
        yield pool


def journal_of(path: Path) -> dict[str, list[str]]:
    """Who ran each token, in the order in which they began."""
    runs: dict[str, list[str]] = defaultdict(list)
    for line in path.read_text().splitlines():
        who, token = line.split()
        runs[token].append(who)
    return runs


class TestEachRunsWhatTheOtherPushed:
    def test_ours_run_tokens_of_1x_and_1x_sees_how_they_went(self, mixed: str, pool: Pool) -> None:
        classic.ask(mixed, PUSH % 3)

        picas.Pilot(pool).run()

        assert pool.get("old_1").state is picas.State.DONE
        seen = json.loads(
            classic.ask(
                mixed,
                """
done = [row.id for row in db.view("done")]
task = Task(db.get("old_1"))
print(json.dumps({"done": sorted(done), "exit_code": task["exit_code"], "hostname": task["hostname"],
                  "logs": sorted(task["_attachments"])}))
""",
            )
        )
        assert seen["done"] == ["old_0", "old_1", "old_2"]
        assert seen["exit_code"] == 0
        assert seen["hostname"] == os.uname().nodename
        assert "logs_old_1.out" in seen["logs"]

    def test_1x_runs_tokens_of_ours_and_we_see_how_they_went(self, mixed: str, pool: Pool) -> None:
        pool.push(["echo one", "echo two"])

        run_classic(mixed, seconds=30)

        assert pool.counts()[picas.State.DONE] == 2
        done = list(pool.tokens("done"))
        assert [token.id for token in done] == ["token_0", "token_1"]
        assert b"".join(pool.read_attachment("token_0", "logs_token_0.out")) == b"x" * 10
        assert pool.push(["echo one", "echo two"]).pushed == 0  # our mark is still on them
        assert pool.progress(600).finished == 2


class TestWhatTheOtherLeftBehind:
    def test_a_token_that_a_killed_pilot_of_1x_held_is_reset_by_age(self, mixed: str, pool: Pool) -> None:
        lock = (
            "import time; task = Task(db.get('old_0')); task['lock'] = int(time.time()) - 4000; db.save(task)"
        )
        classic.ask(mixed, PUSH % 1 + lock)
        assert pool.get("old_0").state is picas.State.LOCKED
        assert pool.claim() is None

        assert pool.reset(pool.tokens("locked", older_than=3600)) == 1

        assert picas.Pilot(pool).run().done == 1

    def test_an_error_of_1x_is_reset_and_run_with_its_errors_kept(self, mixed: str, pool: Pool) -> None:
        classic.ask(
            mixed,
            PUSH % 1 + "task = Task(db.get('old_0')); task.lock(); task.error('broke', None); db.save(task)",
        )
        assert pool.get("old_0").state is picas.State.ERROR

        pool.reset(pool.tokens("error"))
        picas.Pilot(pool).run()

        token = pool.get("old_0")
        assert token.state is picas.State.DONE
        assert token["scrub_count"] == 1
        assert [entry["message"] for entry in token["error"]] == ["broke"]

    def test_a_failure_of_ours_is_reset_and_run_by_1x(self, mixed: str, pool: Pool) -> None:
        pool.push(["exit 3"])
        picas.Pilot(pool).run()
        classic.ask(mixed, "task = Task(db.get('token_0')); task.scrub(); db.save(task)")

        run_classic(mixed, seconds=30)

        token = pool.get("token_0")
        assert token.state is picas.State.DONE
        assert token.run["exit_code"] == 3  # the attempt that we know of

    def test_a_result_of_ours_that_1x_took_the_token_from_is_kept(self, mixed: str, pool: Pool) -> None:
        pool.push(["echo"])
        claimed = pool.claim()
        assert claimed is not None
        classic.ask(mixed, "task = Task(db.get('token_0')); task.scrub(); db.save(task)")

        verdict = pool.finish(claimed, Outcome(0, 1.0, 2.0, output={"found": 42}))

        assert verdict is Verdict.SUPERSEDED
        token = pool.get("token_0")
        assert token.state is picas.State.TODO
        assert token.history[-1]["claim"] == claimed.claim_id
        assert token.history[-1]["superseded"]


def run_classic(url: str, seconds: int) -> None:
    """One pilot of 1.x, to its end."""
    command = [str(classic.python()), "-I", str(classic.PILOT), url, "10", str(seconds)]
    done = subprocess.run(command, input="", capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["died"] == ""


def test_a_mixed_fleet_finishes_a_pool_and_what_ours_claimed_ran_once(
    mixed: str, pool: Pool, tmp_path: Path
) -> None:
    classic.ask(mixed, PUSH % MIX)
    pool.push([f"echo new {n}" for n in range(MIX)])
    journal = tmp_path / "journal"
    journal.touch()
    old = [str(classic.python()), "-I", str(classic.PILOT), mixed, "10", "60", str(journal)]
    # One at a time and not too fast, so that there is something left for the others.
    work = f'echo "ours-$PPID $PICAS_TOKEN_ID" >>{journal}; sleep 0.1'
    ours = [sys.executable, "-m", "picas", "run", "--", "bash", "-c", work]

    with ExitStack() as stack:
        classics = [
            stack.enter_context(subprocess.Popen(old, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            for _ in range(3)
        ]
        for process in classics:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        for process in classics:
            assert process.stdin is not None
            process.stdin.close()
        fleet = [
            stack.enter_context(subprocess.Popen(ours, cwd=tmp_path, stdout=subprocess.DEVNULL))
            for _ in range(2)
        ]
        assert [process.wait(180) for process in (*classics, *fleet)] == [0] * 5

    runs = journal_of(journal)
    everything = {f"old_{n}" for n in range(MIX)} | {f"token_{n}" for n in range(MIX)}
    assert set(runs) == everything
    assert {who.partition("-")[0] for whos in runs.values() for who in whos} == {"classic", "ours"}
    twice = {token: whos for token, whos in runs.items() if len(whos) > 1}
    assert not [whos for whos in twice.values() if any(who.startswith("ours") for who in whos)], twice
    assert {token.id for token in pool.tokens("done")} == everything
    # Each is there with the log of the one that ran it.
    assert all(f"logs_{token.id}.out" in token.attachments for token in pool.tokens())


@pytest.mark.slow
def test_a_large_mixed_fleet_with_kills_loses_nothing(mixed: str, pool: Pool, tmp_path: Path) -> None:
    """2,000 tokens; pilots of 1.x, ours, and actors of 1.x under ours; one of each is killed outright on the way."""
    classic.ask(mixed, PUSH % 1000)
    pool.push([f"echo new {n}" for n in range(1000)])
    everything = {f"old_{n}" for n in range(1000)} | {f"token_{n}" for n in range(1000)}
    journal = tmp_path / "journal"
    journal.touch()
    actor = ["-I", str(classic.PILOT), mixed, "10", "120", str(journal)]
    work = f'echo "ours-$PPID $PICAS_TOKEN_ID" >>{journal}; sleep 0.05'
    kinds = {
        "1.x": [str(classic.python()), *actor],
        "actor": [sys.executable, *actor],
        "ours": [sys.executable, "-m", "picas", "run", "--", "bash", "-c", work],
    }

    with ExitStack() as stack:

        def start(kind: str) -> subprocess.Popen[bytes]:
            return stack.enter_context(
                subprocess.Popen(
                    kinds[kind], cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
                )
            )

        fleet = [(kind, start(kind)) for kind in kinds for _ in range(2)]
        killed = []
        for count, kind in ((200, "ours"), (500, "1.x"), (900, "actor")):
            until = time.monotonic() + 120
            while len(journal_of(journal)) < count and time.monotonic() < until:
                time.sleep(0.05)
            victim = next(process for each, process in fleet if each == kind and process.poll() is None)
            victim.kill()
            killed.append(str(victim.pid))
            fleet.append((kind, start(kind)))
        for _, process in fleet:
            process.wait(180)

    # Nobody beats for a pilot of 1.x, nor is anybody left here: what the killed ones held is given back by a person.
    left = [token.id for token in pool.tokens("locked")]
    pool.reset(pool.tokens("locked"))
    picas.Pilot(pool, ["bash", "-c", f'echo "ours-last $PICAS_TOKEN_ID" >>{journal}']).run()

    assert {token.id for token in pool.tokens("done")} == everything
    assert all(f"logs_{token.id}.out" in token.attachments for token in pool.tokens())
    theirs = {str(process.pid) for kind, process in fleet if kind == "1.x"}
    runs = journal_of(journal)
    assert set(runs) == everything
    for token, whos in runs.items():
        if len(whos) > 1 and any(who.partition("-")[2] not in theirs for who in whos):
            # one that ours claimed: only because its pilot was killed while it had it
            assert token in left, (token, whos, killed)
