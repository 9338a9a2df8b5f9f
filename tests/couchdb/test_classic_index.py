"""Pools where only the classic views are there and we may write none, and claims from a view of anybody's."""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.couchdb.processes import ask

from picas.errors import InvalidInput, PoolRefused
from picas.pilot.loop import Pilot
from picas.pool import Pool, open_pool
from picas.selection import Selection
from picas.stores import connect, design
from picas.stores.base import Change
from picas.stores.couch import snapshot, strangers
from picas.stores.couch.designs import Designs
from picas.tokens import Claimer, Outcome, State
from picas.transitions import release

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# PouchDB's server has no users.
pytestmark = pytest.mark.couchdb

CLAIMER = Claimer("pilot-1", "node-1")
STEPS = "function (doc) { if (doc.step) for (var i = 0; i < 3; i++) emit([doc.step, i], {odd: [doc.q]}); }"
"""A view as pipelines have them: of documents of any kind, several rows each, lists for keys."""


@pytest.fixture(autouse=True)
def _in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pilot of 1.x is about in these databases, for which claims would be made to last a second."""
    monkeypatch.setattr(strangers, "OUTLAST_SECONDS", 0.0)


@pytest.fixture
def member(couchdb: Any, database: str) -> Iterator[str]:
    """The database's URL for somebody who may read and write there, and no design documents."""
    name, password = "member" + secrets.token_hex(4), secrets.token_hex(8)
    user = {
        "_id": f"org.couchdb.user:{name}",
        "name": name,
        "password": password,
        "roles": [],
        "type": "user",
    }
    assert couchdb.ask("PUT", f"/_users/{user['_id']}", user)[0] in {201, 202}
    security = {"admins": {"names": [], "roles": ["_admin"]}, "members": {"names": [name], "roles": []}}
    assert ask(database, "PUT", "/_security", security)[0] == 200
    scheme, _, rest = database.partition("://")
    yield f"{scheme}://{name}:{password}@{rest.rpartition('@')[2]}"
    revision = couchdb.ask("GET", f"/_users/{user['_id']}")[1]["_rev"]
    couchdb.ask("DELETE", f"/_users/{user['_id']}?rev={revision}")


@pytest.fixture
def classic(database: str, member: str) -> Iterator[Pool]:
    """A pool with `Monitor` alone, for that user."""
    server, name = connect(database)
    Designs(server, name).create_classic()
    server.close()
    with open_pool(member) as pool:
        yield pool


def claim_all(pool: Pool, **how: Any) -> list[Any]:
    """The inputs of all there are to claim, batch by batch."""
    found: list[Any] = []
    while batch := pool.claim_many(30, **how):
        found += [token.input for token in batch]
    return found


def designs_of(database: str) -> list[str]:
    rows = ask(database, "GET", '/_all_docs?startkey="_design/"&endkey="_design0"')[1]["rows"]
    return [row["id"] for row in rows]


def test_without_any_views_and_rights_it_is_said_what_to_ask_for(database: str, member: str) -> None:
    with open_pool(member) as pool, pytest.raises(PoolRefused, match="has no view") as refused:
        pool.counts()
    assert "picas --pool " in refused.value.advice
    assert "views create" in refused.value.advice
    assert designs_of(database) == []


def test_views_that_an_administrator_has_made_are_enough(database: str, member: str) -> None:
    server, name = connect(database)
    Designs(server, name).create_own()
    server.close()
    with open_pool(member) as pool:
        assert pool.push(["a", "b"]).pushed == 2
        assert len(pool.claim_many(2)) == 2


def test_a_pilot_works_through_a_pool_with_the_classic_views_alone(
    database: str, classic: Pool, tmp_path: Path
) -> None:
    classic.push([f"echo {n}" for n in range(30)])
    summary = Pilot(classic, lambda token: None, spool=tmp_path).run()
    assert (summary.done, summary.error) == (30, 0)
    assert classic.counts() == {**dict.fromkeys((*State, None), 0), State.DONE: 30}
    assert designs_of(database) == ["_design/Monitor"]


def test_priority_order_and_conditions_are_kept(classic: Pool) -> None:
    classic.push([{"input": n, "cores": n % 2, "priority": n // 4} for n in range(12)])
    assert [token.input for token in classic.claim_many(3)] == [8, 9, 10]
    odd = Selection.parse("cores == 1")
    assert [token.input for token in classic.claim_many(2, where=odd)] == [11, 5]
    assert [token.input for token in classic.claim_many(2, order="oldest")] == [0, 1]
    assert [token.input for token in classic.claim_many(1, order="newest")] == [7]
    assert sorted(claim_all(classic)) == [2, 3, 4, 6]
    classic.push([{"input": 100, "priority": 7}])
    found = classic.claim()
    assert found is not None
    assert found.input == 100


@pytest.mark.parametrize("view", [None, "Monitor/todo"])
def test_what_waits_for_its_next_try_is_left_alone_until_then(classic: Pool, view: str | None) -> None:
    classic.push([{"input": n, "cores": n} for n in (1, 2, 3)])
    now = classic.store.now()
    waits = {1: 3.0, 3: 3600.0}
    for token in classic.claim_many(3):
        ours = {"not_before": now + waits[token.input]} if token.input in waits else {}
        classic.store.replace(
            [Change(replace(release(token, now), body={**release(token, now).body, "picas": ours}))]
        )
    assert classic.counts()[State.TODO] == 3
    pool = classic.through(view) if view else classic
    assert claim_all(pool) == [2]
    assert pool.store.next_due() == now + 3
    assert pool.store.next_due(Selection.parse("cores == 9")) is None
    deadline = time.monotonic() + 60
    while not (found := claim_all(pool)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert found == [1]
    assert pool.store.next_due() == now + 3600


def test_several_pilots_share_it(member: str, classic: Pool) -> None:
    classic.push([f"w{n}" for n in range(120)])
    pools = [open_pool(member) for _ in range(3)]
    claimed = []
    while True:
        batch = [token.id for pool in pools for token in pool.claim_many(7)]
        if not batch:
            break
        claimed += batch
    for pool in pools:
        pool.close()
    assert sorted(claimed) == sorted(f"token_{n}" for n in range(120))


def test_more_than_one_snapshot_holds_is_found_all_the_same(
    classic: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "KEPT", 20)
    monkeypatch.setattr(snapshot, "LOOKED_AT", 7)
    classic.push([{"input": n, "cores": n % 50} for n in range(150)])
    few = Selection.parse("cores == 3")
    assert sorted(claim_all(classic, where=few)) == [3, 53, 103]
    assert sorted([*claim_all(classic), 3, 53, 103]) == list(range(150))


def test_looking_at_it(classic: Pool, database: str) -> None:
    classic.push([{"input": n} for n in range(12)])
    assert classic.push([{"input": n} for n in range(14)]).pushed == 2
    for n, token in enumerate(classic.claim_many(5, order="oldest")):
        if n < 3:
            classic.finish(token, Outcome(n % 2, classic.store.now() - 1, classic.store.now()))
    assert classic.counts() == {State.TODO: 9, State.LOCKED: 2, State.DONE: 2, State.ERROR: 1, None: 0}
    assert [token.id for token in classic.tokens()] == [f"token_{n}" for n in range(14)]
    assert [token.input for token in classic.tokens(State.TODO)] == list(range(5, 14))
    assert [token.input for token in classic.tokens(["done", "error"])] == [0, 1, 2]
    assert classic.progress(60).finished == 3
    ask(database, "DELETE", "/token_13?rev=" + ask(database, "GET", "/token_13")[1]["_rev"])
    assert classic.push([{"input": n} for n in range(14)]).pushed == 1, "what is gone can be pushed again"


def test_totals_that_cannot_be_summed_are_counted(database: str, classic: Pool) -> None:
    classic.push(["a", "b"])
    monitor = ask(database, "GET", "/_design/Monitor")[1]
    monitor["views"]["overview_total"]["map"] = "function (doc) { emit('todo', 'one'); }"
    assert ask(database, "PUT", "/_design/Monitor", monitor)[0] == 201
    assert classic.counts()[State.TODO] == 2
    monitor = ask(database, "GET", "/_design/Monitor")[1]
    for view in ("overview_total", "error"):
        del monitor["views"][view]
    assert ask(database, "PUT", "/_design/Monitor", monitor)[0] == 201
    assert classic.counts() == {**dict.fromkeys((*State, None), 0), State.TODO: 2}
    assert list(classic.tokens(State.ERROR)) == []


# --- A view of anybody's -----------------------------------------------------------------------------


@pytest.fixture
def pipeline(database: str) -> Iterator[Pool]:
    """A pool with a view of a pipeline's, which also lists what is no token."""
    views = {"fit": {"map": STEPS, "reduce": "_count"}, "none": {"map": "function () {}"}}
    assert ask(database, "PUT", "/_design/Pipe%20line", {"views": views})[0] == 201
    assert ask(database, "PUT", "/note", {"step": "fit", "about": "no token"})[0] == 201
    with open_pool(database) as pool:
        pool.push(
            [{"input": n, "step": "fit" if n % 2 else "", "priority": n // 6, "q": n} for n in range(12)]
        )
        yield pool


def test_claims_take_only_what_the_view_lists(pipeline: Pool, database: str) -> None:
    through = pipeline.through("Pipe line/fit")
    few = Selection.parse("q > 8")
    assert claim_all(through, where=few) == [9, 11]
    assert [token.input for token in through.claim_many(1)] == [7]
    assert [token.input for token in through.claim_many(1, order="newest")] == [5]
    assert claim_all(through, order="oldest") == [1, 3]
    assert through.counts()[State.TODO] == 6, "only claims are narrowed"
    assert through.url == pipeline.url
    assert pipeline.through("Pipe line/none").claim() is None
    assert len(claim_all(pipeline)) == 6


def test_a_pilot_takes_its_tokens_from_a_view(pipeline: Pool, tmp_path: Path) -> None:
    seen: list[Any] = []
    summary = Pilot(
        pipeline,
        lambda token: seen.append(token.input),
        view="Pipe line/fit",
        where="q < 8",
        spool=tmp_path,
    ).run()
    assert summary.done == 4
    assert sorted(seen) == [1, 3, 5, 7]


@pytest.mark.parametrize("name", ["Pipe line/nope", "Nowhere/todo", "todo"])
def test_a_view_that_is_not_there_is_said_at_once(pipeline: Pool, name: str) -> None:
    with pytest.raises(InvalidInput, match="has no view ") as missing:
        pipeline.through(name)
    assert "picas views list" in missing.value.advice


def test_a_name_alone_is_a_view_of_monitor(pipeline: Pool, database: str) -> None:
    assert ask(database, "PUT", "/_design/Monitor", design.classic())[0] == 201
    assert len(pipeline.through("todo").claim_many(3)) == 3
    with pytest.raises(InvalidInput, match="not the name of a view"):
        pipeline.through("Monitor/")


def test_a_view_that_a_file_does_not_have(tmp_path: Path) -> None:
    with (
        open_pool(f"sqlite:///{tmp_path}/x.db") as pool,
        pytest.raises(InvalidInput, match="has no view") as error,
    ):
        Pilot(pool, view="SingleCore/todo")
    assert "--where" in error.value.advice


def test_run_takes_the_view_from_the_command_line(pipeline: Pool, database: str, tmp_path: Path) -> None:
    from tests.cli.conftest import Shell

    picas = Shell(tmp_path, database)
    answer = picas("run", "--view", "Pipe line/fit", "--where", "q == 3", "--json", "--", "true")
    assert answer.code == 0, answer.err
    assert answer.json["done"] == 1
    answer = picas("run", "--view", "Nowhere/todo")
    assert (answer.code, answer.out) == (2, "")
    assert "has no view Nowhere/todo" in answer.err
    assert pipeline.counts()[State.DONE] == 1


@pytest.mark.parametrize(
    "others", [True, False], ids=["beside PiCaS's own views", "with the classic ones alone"]
)
def test_who_may_write_no_index_counts_waiting_tokens_by_reading_them(
    database: str, member: str, classic: Pool, *, others: bool
) -> None:
    if others:
        with open_pool(database) as pool:
            pool.counts()
    classic.push([{"input": "x", "cores": n % 2} for n in range(9)])
    claimed = classic.claim_many(2)
    for token in claimed:
        classic.finish(token, Outcome(0, time.time() - 5, time.time()))
    assert classic.claim() is not None
    with open_pool(member) as pool:
        found = pool.store.tally([("cores",), ("site",)])
        assert sum(each.count for each in found if each.state is State.TODO) == 6
        assert [each.count for each in found if each.state is State.LOCKED] == [1]
        assert {each.values for each in found} <= {(0, None), (1, None)}
        assert {token.id for token in pool.store.latest(5)} == {token.id for token in claimed}
    assert not [name for name in designs_of(database) if "fields" in name]
