"""Where claims look, on an index in memory that lags behind as CouchDB's does."""

from __future__ import annotations

import random
from collections import Counter
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from picas.selection import Selection
from picas.stores.couch.index import age_of
from picas.stores.couch.walk import Walk


class Database:
    """Documents, and a view of the free ones that is brought up to date only when it is waited for."""

    def __init__(self, docs):
        self.docs = {doc["_id"]: {"type": "token", "lock": 0, "done": 0, **doc} for doc in docs}
        self.requests = self.documents_read = 0
        self.catch_up()

    def catch_up(self):
        self.rows = sorted(
            (
                {"key": ["todo", -doc.get("priority", 0), age_of(token_id)], "id": token_id}
                for token_id, doc in self.docs.items()
                if doc["lock"] == 0
            ),
            key=_place,
        )

    def read(self, query):
        self.requests += 1
        if query.get("update") != "false":
            self.catch_up()
        found = self._between(query)
        if query.get("reduce"):
            assert query["group_level"] == 2
            counted = Counter(row["key"][1] for row in found)
            return [{"key": ["todo", key], "value": n} for key, n in counted.items()][: query.get("limit")]
        skip = query.get("skip", 0)
        found = found[skip:][: query["limit"]]
        if query.get("include_docs"):
            self.documents_read += len(found)
            return [{**row, "doc": {**self.docs[row["id"]], "_rev": "1-x"}} for row in found]
        return [dict(row) for row in found]

    def _between(self, query):
        rows = self.rows[::-1] if query.get("descending") else self.rows
        start = _place({"key": query["startkey"], "id": query.get("startkey_docid", "")})
        end = _collated(query["endkey"])
        if query.get("descending"):
            whole_key = "startkey_docid" not in query
            rows = [row for row in rows if _place(row) <= start or (whole_key and _place(row)[0] == start[0])]
            return [row for row in rows if _place(row)[0] >= end]
        return [r for r in rows if _place(r) >= start and _place(r)[0] <= end]

    def lock(self, ids):
        for token_id in ids:
            self.docs[token_id]["lock"] = 1

    def free(self, ids):
        for token_id in ids:
            self.docs[token_id]["lock"] = 0


def _collated(key):
    return tuple((2, 0) if part == {} else (1, part) if isinstance(part, str) else (0, part) for part in key)


def _place(row):
    return _collated(row["key"]), row["id"]


def tokens(count, **fields):
    return [{"_id": f"token_{n}", **fields} for n in range(count)]


def claim(database, walk, limit):
    """One claim, as the store makes it: the ids got and the number of candidates."""
    docs = walk.candidates(limit)
    won = [doc["_id"] for doc in docs if database.docs[doc["_id"]]["lock"] == 0]
    database.lock(won)
    walk.met_others(len(docs), len(won))
    return won, len(docs)


def claim_all(database, walk, limit):
    taken = []
    while True:
        won, tried = claim(database, walk, limit)
        if not tried:
            return taken
        taken += won


def test_a_single_walk_takes_everything_in_order():
    database = Database(tokens(1000))
    taken = claim_all(database, Walk(database.read, None), 30)
    assert taken == [f"token_{n}" for n in range(1000)]


def test_higher_priority_goes_first_and_age_decides_among_equals():
    database = Database([{"_id": f"token_{n}", "priority": n % 3} for n in range(300)])
    taken = claim_all(database, Walk(database.read, None), 7)
    assert taken == sorted(database.docs, key=lambda i: (-database.docs[i]["priority"], age_of(i)))


@pytest.mark.parametrize("order", ["oldest", "newest"])
def test_by_age_priorities_do_not_count(order):
    database = Database([{"_id": f"token_{n}", "priority": n % 3} for n in range(300)])
    taken = claim_all(database, Walk(database.read, None, order), 7)
    assert taken == sorted(database.docs, key=age_of, reverse=order == "newest")


def test_one_at_a_time_it_seldom_asks_the_index():
    database = Database(tokens(500))
    walk = Walk(database.read, None)
    taken = claim_all(database, walk, 1)
    assert len(taken) == 500
    assert database.requests < 500 / 20


@pytest.mark.parametrize("order", ["priority", "oldest", "newest"])
@pytest.mark.parametrize(
    "ids",
    [
        [f"token_{n}" for n in range(1200)],
        [
            f"task_{random.Random(n).getrandbits(128):032x}" for n in range(1200)
        ],  # numbers at the end are of any length
        [f"galaxy-{n:04d}x" for n in range(1200)],  # no numbers at the end
    ],
    ids=["numbered", "uuids", "named"],
)
def test_many_walks_on_a_lagging_index_seldom_meet(order, ids):
    if order != "priority":
        ids = ids[:500]  # the other orders cost more time
    database = Database([{"_id": token_id} for token_id in ids])
    walks = [Walk(database.read, None, order) for _ in range(16)]
    taken, tried = [], 0
    for turn in range(100_000):
        if turn % 40 == 0:
            database.catch_up()
        won, count = claim(database, walks[turn % 16], 20)
        taken += won
        tried += count
        if len(taken) == len(ids):
            break
    assert sorted(taken) == sorted(ids)
    assert tried < len(ids) * (1.5 if order == "priority" else 3)


def test_what_others_have_just_taken_is_not_waded_through():
    database = Database(tokens(20_000))
    walk = Walk(database.read, None)
    claim(database, walk, 40)
    claim(database, walk, 40)
    database.catch_up()
    database.lock(f"token_{n}" for n in range(80, 9_000))  # and the index has not seen it
    read = database.documents_read
    won, tried = claim(database, walk, 40)
    assert len(won) == tried > 0
    assert database.documents_read - read < 300


def test_of_few_tokens_each_of_many_takes_few():
    database = Database(tokens(1_500))
    walk = Walk(database.read, None)
    claim(database, walk, 1)
    walk.met_others(100, 0)
    assert len(walk.candidates(200)) <= 1_500 / 250


def test_what_is_claimed_under_another_condition_is_forgotten():
    database = Database(tokens(40))
    one, other = Walk(database.read, None), Walk(database.read, Selection.parse("not cores > 1"))
    other.candidates(1)
    assert claim(database, one, 3)[0] == ["token_0", "token_1", "token_2"]
    other.forget({"token_0", "token_1", "token_2"})
    assert claim(database, other, 1) == (["token_3"], 1)


def test_what_comes_with_a_higher_priority_is_taken_next(monkeypatch):
    monkeypatch.setattr("picas.stores.couch.walk.FRONT_SECONDS", 0.0)
    database = Database(tokens(100))
    walk = Walk(database.read, None)
    claim(database, walk, 1)
    database.docs["urgent"] = {"_id": "urgent", "type": "token", "lock": 0, "done": 0, "priority": 5}
    database.catch_up()
    assert claim(database, walk, 1) == (["urgent"], 1)


def test_what_came_back_is_found_at_the_end():
    database = Database(tokens(100))
    walk = Walk(database.read, None)
    taken = [claim(database, walk, 20)[0] for _ in range(3)]
    database.free(["token_3"])
    rest = claim_all(database, walk, 60)
    assert Counter([*chain(*taken), *rest]) == Counter([*database.docs, "token_3"])


def test_large_documents_are_read_a_few_at_a_time():
    database = Database(tokens(60, input="x" * 1_000_000))
    seen = []

    def read(query):
        rows = database.read(query)
        seen.append(len(rows) if query.get("include_docs") else 0)
        return rows

    assert len(claim_all(database, Walk(read, None), 50)) == 60
    assert max(seen) <= 10
    assert max(seen[1:]) <= 4


@settings(deadline=None, max_examples=40)
@given(
    docs=st.lists(
        st.tuples(st.integers(0, 400), st.integers(-2, 2), st.sampled_from([1, 1, 2])),
        unique_by=lambda d: d[0],
    ),
    limit=st.integers(1, 70),
    order=st.sampled_from(["priority", "oldest", "newest"]),
    walkers=st.integers(1, 4),
    lag=st.integers(1, 9),
)
def test_whatever_is_free_and_fits_is_found_by_somebody(docs, limit, order, walkers, lag):
    database = Database([{"_id": f"token_{n}", "priority": p, "cores": c} for n, p, c in docs])
    where = Selection.parse("not cores > 1")
    walks = [Walk(database.read, where, order) for _ in range(walkers)]
    taken, idle, turn = [], 0, 0
    while idle < walkers:
        if turn % lag == 0:
            database.catch_up()
        won, count = claim(database, walks[turn % walkers], limit)
        idle = 0 if count else idle + 1
        taken += won
        turn += 1
    assert sorted(taken) == sorted(f"token_{n}" for n, _, c in docs if c == 1)


@pytest.mark.parametrize("order", ["priority", "oldest", "newest"])
def test_a_crowd_that_was_called_spreads_before_it_meets(order):
    database = Database(tokens(100, priority=1) + [{"_id": f"less_{n}"} for n in range(100)])
    walks = [Walk(database.read, None, order) for _ in range(100)]
    for walk in walks:
        walk.scatter()
    chosen = [walk.candidates(1)[0]["_id"] for walk in walks]
    # Of so many that choose at random, all at the same moment, two thirds choose what nobody else does first.
    assert len(set(chosen)) > 50
    assert all(token_id.startswith("token_") for token_id in chosen)


def test_a_crowd_takes_everything():
    database = Database(tokens(60))
    walks = [Walk(database.read, None) for _ in range(60)]
    for walk in walks:
        walk.scatter()
    taken = [token_id for walk in walks for token_id in claim_all(database, walk, 1)]
    assert sorted(taken) == sorted(database.docs)


def test_a_crowd_called_for_nothing_finds_nothing():
    walk = Walk(Database([]).read, None)
    walk.scatter()
    assert walk.candidates(1) == []
