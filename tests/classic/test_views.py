"""The views of an embedded pool: the classic five, those of a part of the tokens, and functions in JavaScript."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picas.clients import CouchDB
from picas.couch_errors import ResourceNotFound
from picas.errors import InvalidInput, MissingExtra
from picas.selection import Selection
from picas.stores import design
from picas.view_query import Emitted, answer, built_in, collated, in_order

if TYPE_CHECKING:
    from pathlib import Path

CLASSIC_LIST = """
    function(doc) {
       if(doc.type == "token") {
        if(%s) {
          emit(doc._id, doc._id);
        }
      }
    }
"""
CONDITIONS = {
    "todo": "doc.lock == 0 && doc.done == 0",
    "locked": "doc.lock > 0 && doc.done == 0",
    "done": "doc.lock > 0 && doc.done > 0 && parseInt(doc.exit_code) == 0",
    "error": "doc.lock > 0 && doc.done > 0 && parseInt(doc.exit_code) != 0",
}
TOTALS = (
    "function(doc) { if(doc.type == 'token') {"
    + "".join(f"if ({test}) {{ emit('{name}', 1); }}" for name, test in CONDITIONS.items())
    + "} }"
)
SUM = "function (key, values, rereduce) {\n   return sum(values);\n}"


@pytest.fixture
def db(tmp_path: Path) -> CouchDB:
    db = CouchDB(f"sqlite:///{tmp_path}/x.db")
    db.db.update(
        [
            {"_id": "free", "type": "token", "lock": 0, "done": 0, "cores": 4},
            {"_id": "free1", "type": "token", "lock": 0, "done": 0, "cores": 1},
            {"_id": "locked", "type": "token", "lock": 5, "done": 0, "cores": 4},
            {"_id": "done", "type": "token", "lock": 5, "done": 6, "exit_code": 0, "cores": 4},
            {"_id": "failed", "type": "token", "lock": 5, "done": 6, "exit_code": 1, "cores": 4},
            {"_id": "old", "type": "token", "lock": -1, "done": -1, "cores": 1},
            {"_id": "other", "type": "job", "lock": 0, "done": 0},
        ]
    )
    return db


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is installed that runs JavaScript."""
    monkeypatch.setitem(sys.modules, "dukpy", None)


def lists(db: CouchDB, design_doc: str = "Monitor") -> dict[str, list[str]]:
    return {name: [row.id for row in db.view(name, design_doc)] for name in CONDITIONS}


def totals(db: CouchDB, design_doc: str = "Monitor") -> dict[str, int]:
    return {row.key: row.value for row in db.view("overview_total", design_doc, group=True)}


WANTED = {"todo": ["free", "free1"], "locked": ["locked"], "done": ["done"], "error": ["failed", "old"]}


# --- The classic five --------------------------------------------------------------------------------


def test_a_new_pool_has_the_classic_five(db: CouchDB, no_engine: None) -> None:
    assert lists(db) == WANTED
    assert totals(db) == {"todo": 2, "locked": 1, "done": 1, "error": 2}
    assert [row.value for row in db.view("overview_total")] == [6]
    assert len(db.view("overview_total", reduce=False)) == 6
    assert [row.key for row in db.view("overview_total", group=True, key="done")] == ["done"]
    assert CouchDB(db.pool.url.replace("x.db", "empty.db")).view("overview_total").rows == []


def test_programs_of_1x_make_their_views_without_an_engine(db: CouchDB, no_engine: None) -> None:
    for name, condition in CONDITIONS.items():
        db.add_view(name, CLASSIC_LIST % condition)
    db.add_view("overview_total", TOTALS, reduce_fun=SUM)
    assert sorted(db["_design/Monitor"]["views"]) == sorted([*CONDITIONS, "overview_total"])
    assert lists(db) == WANTED
    assert totals(db)["error"] == 2
    assert db.claim_pool("todo") is db.pool


@pytest.mark.parametrize(
    ("view", "name"),
    [
        ({"map": CLASSIC_LIST % CONDITIONS["todo"]}, "todo"),
        ({"map": CLASSIC_LIST % CONDITIONS["todo"].replace("==", "!=")}, None),
        ({"map": CLASSIC_LIST % (CONDITIONS["todo"] + " && doc.cores == 4")}, None),
        ({"map": TOTALS, "reduce": SUM}, "overview_total"),
        ({"map": TOTALS, "reduce": "_sum"}, "overview_total"),
        ({"map": TOTALS, "reduce": "_stats"}, None),
        ({"map": TOTALS}, None),
        ({"map": 5}, None),
        ({}, None),
        ("text", None),
    ],
)
def test_a_classic_view_is_known_by_its_text(view: Any, name: str | None) -> None:
    assert design.known_list(view) == name


def test_views_of_a_part_of_the_tokens_need_no_engine(db: CouchDB, no_engine: None) -> None:
    db.db["_design/MultiCore"] = design.classic(Selection.parse("cores == 4"))
    assert lists(db, "MultiCore") == {
        "todo": ["free"],
        "locked": ["locked"],
        "done": ["done"],
        "error": ["failed"],
    }
    assert totals(db, "MultiCore") == dict.fromkeys(CONDITIONS, 1)
    assert db.get_single_from_view("todo", design_doc="MultiCore").id == "free"
    pool = db.claim_pool("todo", "MultiCore")
    assert pool is not None
    assert [token.id for token in pool.claim_many(5)] == ["free"]
    assert [token.id for token in pool.claim_many(5, where=Selection.parse("cores == 1"))] == []
    assert db.claim_pool("error", "MultiCore") is None


def test_views_that_somebody_has_changed_are_functions(db: CouchDB) -> None:
    doc = design.classic(Selection.parse("cores == 4"))
    doc["views"]["todo"]["map"] = "function(doc) { emit(doc._id, doc._id); }"
    db.db["_design/MultiCore"] = doc
    assert len(db.view("todo", "MultiCore")) == 7
    assert db.claim_pool("todo", "MultiCore") is None
    with pytest.raises(ResourceNotFound):
        db.claim_pool("none", "MultiCore")


# --- Functions ---------------------------------------------------------------------------------------


def test_without_an_engine_a_function_is_refused_naming_it(db: CouchDB, no_engine: None) -> None:
    with pytest.raises(MissingExtra, match=r"pip install 'picas\[javascript\]'"):
        db.add_view("mine", "function(doc) { emit(1, 1); }")
    assert "_design/Monitor" not in db.db


def test_a_function_that_was_added_elsewhere_is_refused_when_it_is_read(
    db: CouchDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    db.add_view("mine", "function(doc) { emit(1, 1); }")
    monkeypatch.setitem(sys.modules, "dukpy", None)
    with pytest.raises(MissingExtra, match="dukpy"):
        list(db.copy().view("mine"))
    assert lists(db) == WANTED


@pytest.mark.parametrize("text", ["function(doc) {", "5 +", "function(doc) {}); evil(", "", "/", "5"])
def test_what_is_no_function_is_refused(db: CouchDB, text: str) -> None:
    with pytest.raises(InvalidInput, match="Monitor/mine cannot be run"):
        db.add_view("mine", text)


def test_a_document_that_a_function_fails_at_is_in_no_row(db: CouchDB) -> None:
    db.add_view("mine", "function(doc) { emit(doc._id, 1); if (doc.cores == 1) doc.none.more; };")
    assert [row.id for row in db.view("mine")] == ["done", "failed", "free", "locked", "other"]


def test_a_reduce_function_in_javascript(db: CouchDB) -> None:
    largest = "function(keys, values) { return Math.max.apply(null, values); }"
    db.add_view("largest", "function(doc) { if (doc.cores) emit(doc.lock, doc.cores); }", reduce_fun=largest)
    assert [row.value for row in db.view("largest")] == [4]
    assert [(row.key, row.value) for row in db.view("largest", group=True)] == [(-1, 1), (0, 4), (5, 4)]
    db.add_view(
        "bad", "function(doc) { emit(1, 1); }", reduce_fun="function(keys, values) { return none(); }"
    )
    with pytest.raises(InvalidInput, match="Monitor/bad"):
        list(db.view("bad"))


def test_functions_may_call_what_couchdb_has_for_them(db: CouchDB) -> None:
    db.add_view(
        "mine",
        "function(doc) { log('x'); if (isArray([1])) emit(toJSON([doc.cores]), sum([1, 2])); }",
    )
    assert [(row.key, row.value) for row in db.view("mine", key="[1]")] == [("[1]", 3)] * 2


def test_nothing_that_is_emitted_is_null(db: CouchDB) -> None:
    db.add_view("mine", "function(doc) { if (doc.type == 'job') emit(); }")
    assert [(row.key, row.value, row.id) for row in db.view("mine")] == [(None, None, "other")]


def test_rows_follow_what_other_connections_change(db: CouchDB) -> None:
    db.add_view("cores", "function(doc) { emit(doc.cores, null); }")
    assert len(db.view("cores", key=4)) == 4
    other = db.copy()
    changed = other.get("free")
    changed["cores"] = 8
    other.save(changed)
    other.delete(other.get("done"))
    assert [row.id for row in db.view("cores", key=8)] == ["free"]
    assert len(db.view("cores", key=4)) == 2


# --- Rows --------------------------------------------------------------------------------------------

IN_ORDER = [
    None,
    False,
    True,
    -1,
    0,
    0.5,
    1,
    "",
    "A",
    "a",
    "aa",
    [],
    [None],
    [1],
    [1, "a"],
    ["a"],
    {},
    {"a": 1},
]


def test_keys_are_in_couchdbs_order_of_types() -> None:
    backwards = IN_ORDER[::-1]
    assert sorted(backwards, key=collated) == IN_ORDER
    rows = [Emitted(key, "b", 1) for key in IN_ORDER] + [Emitted(None, "a", 1)]
    assert [row.id for row in in_order(rows)][:2] == ["a", "b"]


ROWS = in_order([Emitted([i % 3, i], f"d{i}", i) for i in range(9)])


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ({"startkey": [1], "endkey": [1, {}]}, ["d1", "d4", "d7"]),
        ({"start_key": [1], "end_key": [1, 4]}, ["d1", "d4"]),
        ({"endkey": [0, 3], "inclusive_end": False}, ["d0"]),
        ({"key": [2, 5]}, ["d5"]),
        ({"key": [2, 5], "startkey_docid": "d6"}, []),
        ({"startkey": [2, 5], "startkey_docid": "d5", "limit": 1}, ["d5"]),
        ({"descending": True, "startkey": [1, {}], "endkey": [1]}, ["d7", "d4", "d1"]),
        ({"descending": True, "skip": 1, "limit": 1}, ["d5"]),
        ({"keys": [[2, 2], [0, 0], [9]]}, ["d2", "d0"]),
        ({"limit": 0}, []),
        ({"skip": 100}, []),
    ],
)
def test_rows_are_chosen(options: dict[str, Any], ids: list[str]) -> None:
    found = answer(ROWS, options, None)
    assert [row["id"] for row in found["rows"]] == ids
    assert found["total_rows"] == 9


def test_the_offset_counts_the_rows_before() -> None:
    assert answer(ROWS, {"startkey": [1], "skip": 1}, None)["offset"] == 4
    assert answer(ROWS, {"startkey": [9]}, None)["offset"] == 9


def test_rows_are_reduced_by_couchdbs_own_functions() -> None:
    assert answer(ROWS, {}, built_in("_sum"))["rows"] == [{"key": None, "value": 36}]
    assert answer([], {}, built_in("_sum"))["rows"] == []
    grouped = answer(ROWS, {"group_level": 1}, built_in("_count"))["rows"]
    assert grouped == [{"key": [i], "value": 3} for i in range(3)]
    assert len(answer(ROWS, {"group": True, "limit": 4}, built_in("_count"))["rows"]) == 4
    (stats,) = answer(ROWS, {"startkey": [2]}, built_in("_stats"))["rows"]
    assert stats["value"] == {"sum": 15, "count": 3, "min": 2, "max": 8, "sumsqr": 93}
    lists_of = [Emitted(1, "a", [1, 2]), Emitted(2, "b", [3])]
    assert answer(lists_of, {}, built_in("_sum"))["rows"][0]["value"] == [4, 2]
    assert answer(ROWS, {"reduce": False}, built_in("_sum"))["total_rows"] == 9


@pytest.mark.parametrize("name", ["_sum", "_stats"])
def test_what_cannot_be_reduced_is_told(name: str) -> None:
    with pytest.raises(InvalidInput, match=name):
        answer([Emitted(1, "a", "text")], {}, built_in(name))


_KEYS = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=4,
)


@given(st.lists(_KEYS, max_size=12), _KEYS, _KEYS, st.booleans())
def test_a_range_is_the_same_read_forwards_and_backwards(
    keys: list[Any], low: Any, high: Any, inclusive: bool
) -> None:
    rows = in_order([Emitted(key, f"d{i}", None) for i, key in enumerate(keys)])
    forwards = answer(rows, {"startkey": low, "endkey": high}, None)["rows"]
    backwards = answer(rows, {"startkey": high, "endkey": low, "descending": True}, None)["rows"]
    assert forwards == backwards[::-1]
    half_open = answer(rows, {"startkey": low, "endkey": high, "inclusive_end": inclusive}, None)["rows"]
    dropped = [] if inclusive else [row for row in forwards if collated(row["key"]) == collated(high)]
    assert half_open == [row for row in forwards if row not in dropped]
