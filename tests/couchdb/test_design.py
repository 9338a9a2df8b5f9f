"""What the views that we write say of any document: the same as `picas.tokens.state_of`, and none is lost."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any, Callable
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.couchdb.processes import ask

from picas.selection import Selection
from picas.stores.couch.index import age_of
from picas.stores.design import by_fields, classic, own
from picas.tokens import State, finished_at, priority_of, state_of

# Whatever stands where a number should, and what JavaScript has opinions on.
numbers = st.sampled_from(
    (0, 1, -1, 99, -5, 0.0, 0.5, -0.0, 1e21, 5e-7, 1700000000, 10**30, True, False, None)
)
texts = st.sampled_from(
    ("", "0", "1", " 7 ", "-1", "0x1F", "1e3", "1,2", "abc", "0b1", "Infinity", "+3", ".5", "5.", "9" * 400)
)
# CouchDB itself makes a zero of the smallest
floats = st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)
leaves = st.one_of(numbers, texts, st.text(max_size=4), floats)
lists = st.recursive(leaves, lambda inner: st.lists(inner, max_size=2), max_leaves=3)
objects = st.dictionaries(st.sampled_from(("toString", "valueOf", "length", "a")), leaves, max_size=2)
values = st.one_of(lists, objects)
NUMBER_LIKE = {"lock": values, "done": values, "exit_code": values, "priority": values}
runs = st.fixed_dictionaries({}, optional={"ended": leaves, "wall": leaves})
ours = st.one_of(leaves, st.fixed_dictionaries({}, optional={"run": st.one_of(leaves, runs), "push": leaves}))
documents = st.fixed_dictionaries(
    {"type": st.sampled_from(("token", "token", "token", "Token", "pilot", 5, None))},
    optional={**NUMBER_LIKE, "picas": ours, "cores": leaves, "input": st.one_of(leaves, objects)},
)
groups = st.lists(documents, min_size=20, max_size=60)

WHERE = Selection.parse("cores == 1 or input.a == 'abc' or not endswith(id, '3')")
BY_FIELDS = by_fields([("cores",), ("input", "a"), ("_id",)])
FINISHED = (State.DONE, State.ERROR)
NAMES = (*(state.value for state in State), None)

Rows = Callable[..., "list[Any]"]


@pytest.fixture
def views(new_database: Callable[[], str]) -> Callable[[list[dict[str, Any]]], Rows]:
    """Puts documents and all our views into a new database, and gives what reads a view there."""

    def fill(docs: list[dict[str, Any]]) -> Rows:
        url = new_database()
        named = [{**doc, "_id": f"t{n}"} for n, doc in enumerate(docs)]
        status, answer = ask(url, "POST", "/_bulk_docs", {"docs": named})
        assert status in {201, 202}, answer
        designs = {**own(), "fields": BY_FIELDS[1], "Monitor": classic(), "Part": classic(WHERE)}
        for name, design in designs.items():
            assert ask(url, "PUT", f"/_design/{name}", design)[0] in {201, 202}

        def rows(path: str, **query: Any) -> list[Any]:
            asked = "&".join(f"{key}={quote(json.dumps(value))}" for key, value in query.items())
            design, _, view = path.partition("/")
            status, answer = ask(url, "GET", f"/_design/{design}/_view/{view}?{asked}")
            assert status == 200, answer
            found: list[Any] = answer["rows"]
            return found

        return rows

    return fill


@pytest.mark.couchdb  # PouchDB's engine has limits of its own
@settings(
    max_examples=8,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # each try is a database of its own
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(groups)
def test_the_views_say_of_any_document_what_its_state_is(
    views: Callable[[list[dict[str, Any]]], Rows], docs: list[dict[str, Any]]
) -> None:
    rows = views(docs)
    states = {f"t{n}": state_of(doc) for n, doc in enumerate(docs) if doc["type"] == "token"}
    by_id = {f"t{n}": doc for n, doc in enumerate(docs)}

    of_states = [row for row in rows("picas/tokens", reduce=False) if row["key"][0] in NAMES]
    keys = {row["id"]: row["key"] for row in of_states}
    assert len(keys) == len(of_states), "one row each"
    assert {i: key[0] for i, key in keys.items()} == {i: s.value if s else None for i, s in states.items()}
    assert all(math.isclose(key[1], -priority_of(by_id[i]), abs_tol=1e-300) for i, key in keys.items())
    assert all(key[2] == age_of(i) for i, key in keys.items())

    ended = {row["id"]: row["key"] for row in rows("picas/finished", reduce=False)}
    assert ended.keys() == {i for i, state in states.items() if state in FINISHED}
    assert all(
        math.isclose(key, finished_at(by_id[i]) or 0.0, abs_tol=1e-300)
        for i, key in ended.items()
        if key is not None
    )

    counted_by = {row["id"]: row["key"] for row in rows("fields/count", reduce=False)}
    assert {i: key[0] for i, key in counted_by.items()} == {
        i: state.value for i, state in states.items() if state in (State.TODO, State.LOCKED)
    }
    for i, key in counted_by.items():
        inner = by_id[i].get("input")
        a = inner.get("a") if isinstance(inner, dict) else None
        assert key[3:] == [a, i] or isinstance(a, float) or a == 10**30, "numbers are JavaScript's"

    for design, fits in (("Monitor", None), ("Part", WHERE)):
        counted = Counter(
            state for i, state in states.items() if state and (fits is None or fits.matches(i, by_id[i]))
        )
        for state in State:
            listed = rows(f"{design}/{state.value}")
            assert all(
                row["id"] == row["key"] == row["value"] and states[row["id"]] is state for row in listed
            )
            assert len(listed) == counted[state]
        totals = {row["key"]: row["value"] for row in rows(f"{design}/overview_total", group=True)}
        assert totals == {state.value: count for state, count in counted.items()}


@pytest.mark.couchdb
def test_a_token_that_nothing_can_be_made_of_is_counted_and_not_lost(
    views: Callable[[list[dict[str, Any]]], Rows],
) -> None:
    odd = {"toString": 1, "valueOf": 2}
    deep: Any = 0
    for _ in range(400):
        deep = [deep]
    docs: list[dict[str, Any]] = [
        {"type": "token", "lock": value, "done": 0} for value in (odd, {}, None, deep)
    ]
    docs.append({"type": "token", "lock": 5, "done": 5, "exit_code": odd})
    docs.append({"type": "token", "lock": 0, "done": 0, "priority": odd, "picas": odd})
    rows = views(docs)
    counted = {row["key"][0]: row["value"] for row in rows("picas/tokens", group_level=1)}
    assert counted == {None: 3, "todo": 2, "error": 1}
    assert [row["key"] for row in rows("picas/finished", reduce=False)] == [5]
