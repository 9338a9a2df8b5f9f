"""Design documents looked after: made, compared, exchanged without a stall, left alone, removed."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from tests.couchdb import classic
from tests.couchdb.faults import Drop
from tests.couchdb.processes import ask

from picas.errors import InvalidInput, PoolRefused, PoolUnavailable
from picas.pool import Pool, open_pool
from picas.selection import Selection
from picas.stores import connect, design
from picas.stores.couch import designs as looking_after
from picas.stores.couch import own_index
from picas.stores.couch.designs import Designs
from picas.tokens import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.couchdb.conftest import Proxied

ONE_CORE = Selection.parse("cores == 1")


@pytest.fixture
def _in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """For who does not ask whether an index is there at every moment."""
    monkeypatch.setattr(looking_after, "COMMIT_SECONDS", 0.0)


hasty = pytest.mark.usefixtures("_in_haste")


@pytest.fixture
def designs(database: str) -> Iterator[Designs]:
    server, name = connect(database)
    yield Designs(server, name)
    server.close()


@pytest.fixture
def pool(database: str) -> Iterator[Pool]:
    with open_pool(database) as pool:
        yield pool


def outcomes(made: Any) -> dict[str, str]:
    return {each.name: each.outcome for each in made}


def standings(designs: Designs) -> dict[str, tuple[str, str]]:
    return {each.name: (each.judged.kind, each.judged.standing) for each in designs.survey()}


def put(database: str, name: str, document: dict[str, Any]) -> None:
    there = ask(database, "GET", f"/_design/{name}")[1]
    changed = {**document, **({"_rev": there["_rev"]} if "_rev" in there else {})}
    assert ask(database, "PUT", f"/_design/{name}", changed)[0] in {201, 202}


def other_version(name: str, version: int, **more: Any) -> dict[str, Any]:
    """Our own document as a program of another version would write it: one more view, or another map."""
    wanted = design.own()[name]
    views = {**wanted["views"], **more}
    changed = {**wanted, "views": views}
    return {**changed, "picas": {"version": version, "digest": design.digest(changed)}}


EXTRA = {"map": "function (doc) { emit(doc.site, null); }"}


# --- Classic views -----------------------------------------------------------------------------------


def test_the_classic_views_are_what_people_and_older_programs_read(
    database: str, pool: Pool, designs: Designs
) -> None:
    pool.push([{"input": "a", "cores": 1}, {"input": "b", "cores": 2}, {"input": "c", "cores": 1}])
    assert designs.create_classic().outcome == "created"
    assert designs.create_classic("SingleCore", ONE_CORE).outcome == "created"
    rows = ask(database, "GET", "/_design/Monitor/_view/todo")[1]["rows"]
    assert rows == [{"id": i, "key": i, "value": i} for i in ("token_0", "token_1", "token_2")]
    rows = ask(database, "GET", "/_design/SingleCore/_view/todo?limit=100")[1]["rows"]
    assert [row["value"] for row in rows] == ["token_0", "token_2"]
    rows = ask(database, "GET", "/_design/Monitor/_view/overview_total?group=true")[1]["rows"]
    assert rows == [{"key": "todo", "value": 3}]
    assert ask(database, "GET", "/_design/Monitor/_view/error")[1]["rows"] == []


def test_programs_of_1x_work_on_views_that_we_make(database: str, pool: Pool, designs: Designs) -> None:
    if classic.python() is None:
        assert "CI" not in os.environ, "picasclient 1.x is not installed: run scripts/classic.sh"
        pytest.skip("picasclient 1.x is not installed: run scripts/classic.sh")
    pool.push([{"input": "a", "cores": 1}, {"input": "b", "cores": 2}])
    designs.create_classic()
    designs.create_classic("SingleCore", ONE_CORE)
    seen = classic.ask(
        database,
        """
task = Task(db.get_single_from_view("todo", design_doc="SingleCore", window_size=10))
task.lock()
db.save(task)
left = [row.id for row in db.view("todo")]
print(json.dumps([task.id, left, [row.value for row in db.view("locked", design_doc="SingleCore")]]))
""",
    )
    assert json.loads(seen) == ["token_0", ["token_1"], ["token_0"]]
    assert pool.counts()[State.LOCKED] == 1


def test_what_is_current_is_not_written_again(database: str, designs: Designs) -> None:
    designs.create_own()
    designs.create_classic()
    designs.create_classic("SingleCore", ONE_CORE)
    before = ask(database, "GET", "/_all_docs")[1]["rows"]
    assert set(outcomes(designs.create_own()).values()) == {"unchanged"}
    assert designs.create_classic().outcome == "unchanged"
    again = designs.create_classic("SingleCore", ONE_CORE)
    assert (again.outcome, again.where) == ("unchanged", "cores == 1")
    kept = designs.create_classic("SingleCore")
    assert (kept.outcome, kept.where) == ("unchanged", "cores == 1"), "its condition is its own"
    assert ask(database, "GET", "/_all_docs")[1]["rows"] == before


@hasty
def test_another_condition_makes_other_views(database: str, pool: Pool, designs: Designs) -> None:
    pool.push([{"input": n, "cores": n % 2} for n in range(6)])
    designs.create_classic("Part", ONE_CORE)
    assert designs.create_classic("Part", Selection.parse("cores == 0 and input > 1")).outcome == "updated"
    rows = ask(database, "GET", "/_design/Part/_view/todo")[1]["rows"]
    assert [row["id"] for row in rows] == ["token_2", "token_4"]


@hasty
def test_what_somebody_else_wrote_or_edited_is_left_alone_unless_forced(
    database: str, designs: Designs
) -> None:
    theirs = {
        "views": {**dict.fromkeys(design.CLASSIC_VIEWS, EXTRA), "step2": EXTRA},
        "filters": {"mine": "function () { return true; }"},
    }
    put(database, "Monitor", theirs)
    put(database, "Pipeline", {"views": {"step1": EXTRA}})
    designs.create_classic("Edited")
    put(database, "Edited", {**design.classic(), "views": {**design.classic()["views"], "todo": EXTRA}})
    assert designs.create_classic().outcome == "kept"
    for name in ("Pipeline", "Edited"):
        with pytest.raises(InvalidInput, match=f"{name} (is another program's|was changed by somebody)"):
            designs.create_classic(name)
        assert designs.create_classic(name, force=True).outcome == "updated"
    assert designs.create_classic(force=True).outcome == "updated"
    monitor = ask(database, "GET", "/_design/Monitor")[1]
    assert monitor["views"]["step2"] == EXTRA
    assert monitor["filters"] == theirs["filters"]
    assert monitor["views"]["todo"] == design.classic()["views"]["todo"]
    assert standings(designs)["Monitor"] == ("classic", "current"), "their other views are no edit of ours"
    assert designs.create_classic().outcome == "unchanged"


@pytest.mark.parametrize("name", ["", "_all", "a/b", "picas", "picas-push", "Monitor-next", "a\nb"])
def test_some_names_are_none_for_views(designs: Designs, name: str) -> None:
    with pytest.raises(InvalidInput):
        designs.create_classic(name)


@hasty
def test_every_design_document_is_listed_for_what_it_is(database: str, designs: Designs) -> None:
    slow = {"map": "function (doc) { emit(1, 1); }", "reduce": "function (k, v) { return sum(v); }"}
    designs.create_own()
    designs.create_classic("Mine", ONE_CORE)
    old_views = {**design.classic()["views"], "todo": EXTRA}
    put(database, "Old", {**design.classic(), "views": old_views})
    digest = design.digest({"views": old_views}, design.CLASSIC_VIEWS)
    put(database, "Old", {"views": old_views, "picas": {"version": 0, "digest": digest}})
    put(
        database,
        "New",
        {"views": old_views, "picas": {"version": 99, "digest": digest, "where": "cores ~ 1"}},
    )
    put(
        database, "Monitor", {"views": {**dict.fromkeys(design.CLASSIC_VIEWS, EXTRA), "overview_total": slow}}
    )
    put(database, "step", {"views": {"a": EXTRA, "b": EXTRA}})
    put(database, "empty", {"validate_doc_update": "function () {}"})
    assert standings(designs) == {
        "picas": ("own", "current"),
        "picas-push": ("own", "current"),
        "Mine": ("classic", "current"),
        "Old": ("classic", "older"),
        "New": ("classic", "newer"),
        "Monitor": ("classic", ""),
        "step": ("other", ""),
        "empty": ("other", ""),
    }
    found = {each.name: each for each in designs.survey()}
    assert found["Mine"].judged.where == "cores == 1"
    assert [name for name, each in found.items() if each.slow] == ["Monitor"]
    assert found["empty"].rows == {}
    assert found["step"].rows.keys() == {"a", "b"}
    assert designs.create_classic("New").outcome == "kept"
    assert designs.create_classic("Old").outcome == "updated"


def test_only_ones_own_views_are_removed_without_force(database: str, designs: Designs) -> None:
    designs.create_own()
    designs.create_classic("Part", ONE_CORE)
    designs.create_classic("Shared")
    shared = design.classic()
    put(database, "Shared", {**shared, "views": {**shared["views"], "theirs": EXTRA}})
    put(database, "Pipeline", {"views": {"step1": EXTRA}})
    designs.remove("Part")
    for name, why in (("Shared", "theirs"), ("Pipeline", "another program"), ("picas", "pilots")):
        with pytest.raises(InvalidInput, match=why):
            designs.remove(name)
        designs.remove(name, force=True)
    with pytest.raises(InvalidInput, match="no design document Part"):
        designs.remove("Part")
    assert standings(designs).keys() == {"picas-push"}


# --- Our own -----------------------------------------------------------------------------------------


def test_who_finds_our_views_does_not_write_them_and_who_finds_none_does(
    database: str, pool: Pool, designs: Designs
) -> None:
    assert standings(designs) == {}
    pool.push(["a", "b"])
    assert pool.counts()[State.TODO] == 2
    revision = ask(database, "GET", "/_design/picas")[1]["_rev"]
    with open_pool(database) as another:
        assert another.counts()[State.TODO] == 2
        assert another.claim() is not None
    assert ask(database, "GET", "/_design/picas")[1]["_rev"] == revision


def test_older_programs_go_on_with_what_a_newer_one_wrote(
    database: str, pool: Pool, designs: Designs
) -> None:
    for name in (design.MAIN, design.PUSH):
        put(database, name, other_version(name, design.VERSION + 1, extra=EXTRA))
    assert pool.push(["a", "b"]).pushed == 2
    assert pool.push(["a", "b"]).pushed == 0
    assert len(pool.claim_many(2)) == 2
    assert set(outcomes(designs.create_own()).values()) == {"kept"}
    assert standings(designs)["picas"] == ("own", "newer")


@hasty
def test_views_of_ours_that_somebody_has_edited_are_not_relied_on(
    database: str, pool: Pool, designs: Designs
) -> None:
    pool.push(["a"])
    edited = design.own()[design.MAIN]
    put(database, "picas", {**edited, "views": {**edited["views"], "tokens": EXTRA}})
    assert standings(designs)["picas"] == ("own", "edited")
    with pytest.raises(PoolRefused, match="somebody has changed it") as refused:
        pool.claim()
    assert "picas views create" in refused.value.advice
    with open_pool(database) as another, pytest.raises(PoolRefused, match="design document picas"):
        another.counts()
    assert outcomes(designs.create_own())["picas"] == "updated"
    with open_pool(database) as another:
        assert another.claim() is not None


def test_a_view_that_somebody_adds_to_ours_keeps_nobody_from_working(database: str, pool: Pool) -> None:
    ours = design.own()[design.MAIN]
    put(database, "picas", {**ours, "views": {**ours["views"], "theirs": EXTRA}})
    pool.push(["a"])
    assert pool.claim() is not None


def test_views_that_are_removed_while_a_pilot_works_are_made_again(pool: Pool, designs: Designs) -> None:
    pool.push(["a", "b"])
    assert pool.claim() is not None
    designs.remove("picas", force=True)
    designs.remove("picas-push", force=True)
    assert pool.claim() is not None
    assert pool.counts()[State.LOCKED] == 2
    assert pool.push(["a", "b", "c"]).pushed == 1
    assert set(standings(designs)) == {"picas", "picas-push"}


def exchange_watched(urls: list[str], tokens: int) -> None:
    """Exchange the views of a database for current ones, and look at them all the time by each of its URLs."""
    docs = [{"_id": f"t{n}", "type": "token", "lock": 0, "done": 0} for n in range(tokens)]
    assert ask(urls[0], "POST", "/_bulk_docs", {"docs": docs})[0] == 201
    put(urls[0], "picas", other_version(design.MAIN, 0, extra=EXTRA))
    server, name = connect(urls[0])
    designs = Designs(server, name)
    designs.build("picas")
    seen: set[int] = set()
    looks: Counter[str] = Counter()
    finished = threading.Event()

    def look(url: str) -> None:
        while not finished.is_set():
            rows = ask(url, "GET", "/_design/picas/_view/tokens?reduce=true&update=false")[1]["rows"]
            seen.add(rows[0]["value"] if rows else 0)
            looks[url] += 1

    def looked() -> None:
        enough = Counter({url: looks[url] + 3 for url in urls})
        while any(looks[url] < enough[url] for url in urls):
            time.sleep(0.01)

    told: list[tuple[str, int]] = []
    lookers = [threading.Thread(target=look, args=(url,)) for url in urls]
    for looker in lookers:
        looker.start()
    try:
        looked()
        made = designs.create_own(lambda building, pending: told.append((building, pending)))
        looked()
    finally:
        finished.set()
        for looker in lookers:
            looker.join()
    assert seen == {tokens}
    assert outcomes(made)["picas"] == "updated"
    assert [building for building, _ in told][:1] == ["picas-next"]
    assert all(pending > 0 for _, pending in told)
    assert standings(designs)["picas"] == ("own", "current")
    assert "picas-next" not in standings(designs)
    server.close()


@pytest.mark.couchdb  # PouchDB's server does not go on building while it answers
def test_new_views_take_the_place_of_old_ones_and_nobody_sees_them_empty(database: str) -> None:
    exchange_watched([database], 3_000)


@pytest.mark.slow
def test_nor_on_any_node_of_a_cluster(cluster_database: list[str]) -> None:
    exchange_watched(cluster_database, 2_000)


@hasty
@pytest.mark.couchdb
def test_an_exchange_that_was_cut_off_is_gone_on_with(database: str, designs: Designs) -> None:
    put(database, "picas", other_version(design.MAIN, 0, extra=EXTRA))
    put(database, "picas-next", design.own()[design.MAIN])
    assert standings(designs)["picas-next"] == ("building", "")
    assert outcomes(designs.create_own())["picas"] == "updated"
    assert standings(designs)["picas"] == ("own", "current")
    assert "picas-next" not in standings(designs)
    put(database, "picas-next", design.own()[design.MAIN])
    assert outcomes(designs.create_own())["picas"] == "unchanged"
    assert "picas-next" not in standings(designs)


@pytest.mark.couchdb  # PouchDB's server does not tell how far an index is
def test_an_answer_that_does_not_come_is_explained_by_the_index_being_built(
    proxied: Proxied, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_index, "BUILDING_SECONDS", 0.0)
    tokens = [{"_id": f"t{n}", "type": "token", "lock": 0, "done": 0} for n in range(1_500)]
    unread = {**design.own()[design.MAIN], "autoupdate": False}
    put(proxied.direct, "picas", unread)
    assert ask(proxied.direct, "POST", "/_bulk_docs", {"docs": tokens})[0] == 201
    proxied.proxy.fault(Drop(), path="_view/tokens", count=None)
    with open_pool(proxied.url, patience=0.0) as pool:
        with pytest.raises(PoolUnavailable, match=r"picas is being built; 1,50\d changes to go"):
            pool.counts()
        proxied.proxy.clear()
        assert pool.counts()[State.TODO] == 1_500
        proxied.proxy.fault(Drop(), path="_view/tokens", count=None)
        with pytest.raises(PoolUnavailable, match="no whole answer"):
            pool.counts()


# --- By the command line -----------------------------------------------------------------------------


@pytest.fixture
def picas(database: str, tmp_path: Any) -> Any:
    from tests.cli.conftest import Shell

    return Shell(tmp_path, database)


def test_views_by_the_command_line(picas: Any, database: str) -> None:
    picas.here("push", picas.write("t.txt", "echo a\necho b\n"))
    answer = picas.here("views", "create")
    assert answer.code == 0, answer.err
    assert answer.out.splitlines() == ["picas: unchanged", "picas-push: created", "Monitor: created"] or (
        answer.out.splitlines() == ["picas: unchanged", "picas-push: unchanged", "Monitor: created"]
    )
    answer = picas.here("views", "create", "--name", "Odd", "--where", "input == 'echo a'", "--json")
    assert answer.json["designs"][-1] == {"name": "Odd", "outcome": "created", "where": "input == 'echo a'"}
    put(database, "theirs", {"views": {"x": EXTRA}})
    listed = {each["name"]: each for each in picas.here("views", "list", "--json").json["designs"]}
    assert listed["Odd"]["views"] == {"todo": 1, "locked": 0, "done": 0, "error": 0, "overview_total": 1}
    assert (listed["Odd"]["kind"], listed["Odd"]["by_picas"], listed["Odd"]["standing"]) == (
        "classic",
        True,
        "current",
    )
    assert (listed["theirs"]["kind"], listed["theirs"]["by_picas"]) == ("other", False)
    shown = picas.here("views", "list").out
    assert "Odd         classic, where input == 'echo a', current" in shown
    assert "theirs      another program's" in shown
    assert picas.here("views", "remove", "theirs").code == 2
    assert picas.here("views", "remove", "Odd").out == "removed Odd\n"
    assert "Odd" not in picas.here("views", "list").out


def test_views_of_a_part_need_a_name_and_a_pool_has_to_be_there(picas: Any, tmp_path: Any) -> None:
    answer = picas.here("views", "create", "--where", "cores == 1")
    assert (answer.code, answer.out) == (2, "")
    assert "--name SingleCore" in answer.err
    answer = picas.here("views", "list", "--pool", f"sqlite:///{tmp_path}/x.db")
    assert answer.code != 0
    assert not (tmp_path / "x.db").exists()
    assert picas.here("views").code == 2


def test_urls_in_advice_hold_no_password(picas: Any, database: str) -> None:
    password = urlsplit(database).password
    put(database, "picas", {"views": {"tokens": EXTRA}})
    answer = picas.here("status")
    assert answer.code != 0
    assert "picas views create" in answer.err
    assert not password or password not in answer.err
