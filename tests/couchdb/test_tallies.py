"""The index by which a database counts tokens by what is in their fields, as a design document among others."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from tests.couchdb.processes import ask

from picas.pool import open_pool
from picas.stores import design
from picas.stores.couch.store import CouchStore

FIELDS = (("cores",), ("input", "q"))
NAME = design.by_fields(FIELDS)[0]


@pytest.fixture
def store(database: str) -> CouchStore:
    """A database with three tokens."""
    pool = open_pool(database)
    pool.push([{"input": {"q": n}, "cores": 4} for n in (1, 1, 2)])
    assert isinstance(pool.store, CouchStore)
    return pool.store


def counted(store: CouchStore) -> list[tuple[object, int]]:
    return sorted((each.values, each.count) for each in store.tally(FIELDS))


EXPECTED = [((4, 1), 2), ((4, 2), 1)]


def test_it_is_one_of_our_own_and_may_be_removed(store: CouchStore, database: str) -> None:
    assert counted(store) == EXPECTED
    (found,) = [each for each in store.designs.survey() if each.name == NAME]
    assert (found.judged.kind, found.judged.ours, found.judged.standing) == ("fields", True, "current")
    assert found.rows == {"count": 3}
    store.designs.create_own()
    assert counted(store) == EXPECTED
    store.designs.remove(NAME)
    assert ask(database, "GET", f"/_design/{NAME}")[0] == 404
    assert counted(store) == EXPECTED
    store.close()


def test_one_that_somebody_has_edited_is_written_anew(store: CouchStore, database: str) -> None:
    assert counted(store) == EXPECTED
    doc = ask(database, "GET", f"/_design/{NAME}")[1]
    doc["views"]["count"]["map"] = "function (doc) { emit(5, null); }"
    assert ask(database, "PUT", f"/_design/{NAME}", doc)[0] in {201, 202}
    assert design.judge(NAME, doc).standing == "edited"
    assert counted(store) == EXPECTED
    store.close()


def test_other_fields_have_another_one(store: CouchStore, database: str) -> None:
    store.tally(FIELDS)
    store.tally([("cores",)])
    query = f"startkey={json.dumps('_design/picas-fields')}&endkey={json.dumps('_design/picas-fields-~')}"
    assert len(ask(database, "GET", f"/_all_docs?{query}")[1]["rows"]) == 2
    store.close()


@pytest.mark.parametrize("kinds", [1, 3, 4, 5, 40])
def test_of_many_kinds_each_is_counted_once(database: str, kinds: int) -> None:
    """Many are counted by several requests at a time."""
    pool = open_pool(database)
    pool.push([{"input": {"q": n % 3}, "cores": n % kinds} for n in range(120)])
    pool.claim_many(60)
    fields = (("cores",), ("input", "q"), ("site",))
    expected = Counter(
        (token.state, (token.body["cores"], token.input["q"], None)) for token in pool.tokens()
    )
    assert isinstance(pool.store, CouchStore)
    found = [((each.state, each.values), each.count) for each in pool.store.tally(fields)]
    assert sorted(map(str, found)) == sorted(map(str, expected.items()))
    pool.close()
