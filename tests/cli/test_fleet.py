"""The verbs of those who look after pilots: pilots, hosts, pause, resume, stop, cancel, reap."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from picas import machine
from picas.pool import open_pool
from picas.stores.couch.http import Server
from picas.tokens import Claimer, Failure, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import Shell

    from picas.pool import Pool

pytestmark = pytest.mark.any_pool


@pytest.fixture
def pool(picas: Shell) -> Iterator[Pool]:
    """The pool that the commands are about."""
    own = picas.own
    with open_pool(
        picas.pool, username=own.get("PICAS_USERNAME"), password=own.get("PICAS_PASSWORD")
    ) as found:
        yield found


def work_of(pool: Pool, pilot: str = "far-1-abc", **fields: Any) -> Any:
    """A token that a pilot elsewhere runs."""
    token = pool.claim(Claimer(pilot, "far", {"slurm_job_id": "77_3"}, "", 300.0))
    assert token is not None
    assert pool.store.fleet is not None
    record = {
        "host": "far",
        "jobs": {"slurm_job_id": "77_3"},
        "slots": 2,
        "lease": 300.0,
        "interval": 60.0,
        "began": pool.store.now() - 5,
        "version": "9",
        "process": {"boot": "another machine"},
        "running": [{"id": token.id, "claim": token.claim_id, "since": 1}],
    }
    pool.store.fleet.beat(pilot, {**record, **fields})
    return token


def orders(pool: Pool) -> dict[str, Any]:
    assert pool.store.fleet is not None
    return pool.store.fleet.control()[0]


def test_pilots_are_shown_with_what_they_run(picas: Shell, pool: Pool) -> None:
    pool.push(["a", "b"])
    work_of(pool)
    work_of(pool, "far-2-\x1b[31m", running=[], host=None, jobs=None, slots=None)
    answer = picas("pilots")
    head, first, second = answer.out.splitlines()
    assert head.split() == ["PILOT", "HOST", "JOB", "STATE", "SLOTS", "HEARD", "OF", "RUNNING"]
    assert first.split()[:5] == ["far-1-abc", "far", "77_3", "working", "2"]
    assert first.endswith("token_0")
    assert "\x1b" not in second
    assert "waiting" in second


def test_pilots_as_json(picas: Shell, pool: Pool) -> None:
    pool.push(["a"])
    work_of(pool, state="ended", reason="no disk")
    (found,) = json.loads(picas("pilots", "--json").out)
    assert (found["id"], found["state"], found["reason"], found["job"]) == (
        "far-1-abc",
        "ended",
        "no disk",
        "77_3",
    )
    assert found["running"] == [{"id": "token_0", "since": 1}]
    assert "far-1-abc ended: no disk" in picas("pilots").out


def test_no_pilots(picas: Shell, pool: Pool) -> None:
    pool.push(["a"])
    assert picas("pilots").out == "no pilots\n"
    assert picas("reap").out == "took back 0 tokens\n"


def test_a_silent_pilot_is_told_and_reaped(picas: Shell, pool: Pool) -> None:
    pool.push(["a"])
    work_of(pool, lease=-1.0)
    answer = picas("pilots")
    assert "silent" in answer.out.splitlines()[1]
    assert "picas reap" in answer.out
    answer = picas("reap", "--now", "--json")
    assert json.loads(answer.out) == {"tokens": ["token_0"], "pilots": ["far-1-abc"], "unsure": []}
    assert picas("pilots").out == "no pilots\n"
    assert pool.counts()[None] == 0
    assert pool.get("token_0").history[0]["failure"] == "lost"


def test_status_takes_back_what_is_certain_and_tells(picas: Shell, pool: Pool) -> None:
    pool.push(["a", "b"])
    process = {**machine.this_process(), "begun": -1}  # ran here, and its number is another's now
    work_of(pool, process=process)
    answer = picas("status")
    assert "took back 1 token of dead pilots: far-1-abc" in answer.out
    assert answer.out.splitlines()[1].split() == ["todo", "2"]


@pytest.mark.couchdb
def test_status_tells_of_silent_pilots(
    picas: Shell, pool: Pool, pool_kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if pool_kind == "sqlite":
        pytest.skip("nobody can be out of touch with a file")
    now = Server.now
    monkeypatch.setattr(Server, "now", lambda self: now(self) - 1000)
    pool.push(["a"])
    work_of(pool)
    told = picas("status", "--json").json
    assert (told["taken_back"], told["silent"], told["locked"]) == (0, ["far-1-abc"], 1)
    assert "1 pilot not heard of for longer than the lease" in picas("status").out


def test_a_pause_and_its_end(picas: Shell, pool: Pool) -> None:
    pool.push([{"input": "true", "cores": 4}])
    answer = picas("pause", "--where", "cores == 4", "--why", "too hot")
    assert answer.out.splitlines()[0] == "paused: tokens where cores == 4: too hot"
    assert picas("run").out.startswith("0 done")
    picas("pause")
    assert [each["where"] for each in orders(pool)["paused"]] == ["cores == 4", ""]
    assert "the pool is paused" in picas("run").out
    assert picas("resume").out.splitlines()[0].startswith("paused: tokens where")
    assert picas("resume", "--all", "--json").json == {"paused": []}
    assert picas("resume").out == "nothing is paused\n"


def test_pilots_are_told_to_stop(picas: Shell, pool: Pool) -> None:
    pool.push(["a", "b"])
    work_of(pool)
    work_of(pool, "far-2-abc")
    assert json.loads(picas("stop", "far-2-abc", "--json").out) == {"stopped": ["far-2-abc"]}
    assert set(orders(pool)["stop"]) == {"far-2-abc"}
    assert json.loads(picas("stop", "far", "--json").out)["stopped"] == ["far-1-abc", "far-2-abc"]
    assert picas("stop", "--all").out.startswith("told 2 pilots")
    assert "*" in orders(pool)["stop"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("stop",), "which pilots?"),
        (("stop", "--all", "far"), "which pilots?"),
        (("stop", "nobody"), "there is no pilot 'nobody'"),
        (("cancel", "token_0"), "token_0 is not running, it is todo"),
        (("cancel", "token_9"), "there is no token token_9"),
        (("hosts", "--bar", "a", "--unbar", "b"), "do not go together"),
    ],
)
def test_orders_that_make_no_sense(picas: Shell, pool: Pool, words: tuple[str, ...], said: str) -> None:
    pool.push(["a"])
    answer = picas(*words)
    assert answer.code in (1, 2)
    assert said in answer.err
    assert orders(pool) == {}


def test_running_tokens_are_cancelled(picas: Shell, pool: Pool) -> None:
    pool.push(["a", "b"])
    token = work_of(pool)
    assert picas("cancel", "token_0").out.startswith("cancelled 1 token:")
    assert list(orders(pool)["cancel"]) == [token.claim_id]
    pool.claim(Claimer("program", "far"))
    assert "hears no orders" in picas("cancel", "token_1").err


def test_hosts_by_their_failures(picas: Shell, pool: Pool) -> None:
    pool.push(["a", "b", "c", "d"])
    now = pool.store.now()
    for host, failure in (
        ("good", None),
        ("good", None),
        ("bad", Failure.INFRASTRUCTURE),
        ("bad", Failure.RELEASED),
    ):
        token = pool.claim(Claimer("p", host))
        assert token is not None
        pool.finish(token, Outcome(1 if failure else 0, now - 62, now - 60, failure, "no" if failure else ""))
    answer = json.loads(picas("hosts", "--json").out)
    assert [(each["host"], each["attempts"], each["failed"]) for each in answer["hosts"]] == [
        ("bad", 1, 1),
        ("good", 2, 0),
    ]
    assert answer["hosts"][0]["failures"] == {"infrastructure": 1}
    assert "1 infrastructure" in picas("hosts").out
    assert json.loads(picas("hosts", "--since", "30s", "--json").out)["hosts"] == []


def test_hosts_are_barred_one_after_the_other(picas: Shell, pool: Pool) -> None:
    for host in ("node-1", "node-2"):
        picas("hosts", "--bar", host)
    assert set(orders(pool)["barred"]) == {"node-1", "node-2"}
    picas("hosts", "--unbar", "node-1")
    assert set(orders(pool)["barred"]) == {"node-2"}


def test_a_host_is_barred_and_let_in_again(picas: Shell, pool: Pool) -> None:
    import socket

    pool.push(["true"])
    host = socket.gethostname()
    assert picas("hosts", "--bar", host, "--why", "it smells").out == f"barred: {host}: it smells\n"
    assert "this host is barred" in picas("run").out
    assert pool.get("token_0").state == "todo"
    assert f"barred: {host}: it smells" in picas("hosts").out
    assert picas("hosts", "--unbar", host).out == "no host is barred\n"
    assert picas("run").out.startswith("1 done")
