"""Conditions: what can be said, what it means, and that three languages mean the same by it."""

from __future__ import annotations

import json
import sqlite3
from typing import Any, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from picas.errors import SelectionError
from picas.selection import (
    JAVASCRIPT_FIELD,
    JAVASCRIPT_SIZE,
    SQL_SIZE,
    Selection,
    bytes_of,
    fields_of,
)
from picas.selection.reading import MAX_LENGTH, MAX_NESTING

DOC: dict[str, Any] = {
    "cores": 4,
    "site": "spider",
    "q": 0.5,
    "gpu": True,
    "old": False,
    "note": None,
    "text": "4",
    "one": 1,
    "input": {"q": 0.75, "file": "run7/a.fits", "deep": {"er": "yes"}, "gpu": True},
    "list": [1, 2],
    "odd name": "odd",
    "größe": 3,
    "constructor": "mine",
    "toString": 5,
    "id": "a field that cannot be asked for",
    "doc": {"x": 1},
    "memory": "4 GB",
    "disk": "16.5MiB",
    "bytes": 4096,
}
ID = "token_17"


def sql_answer(selection: Selection, token_id: str, body: dict[str, Any]) -> Any:
    expression, params = selection.sql()
    with_row = f"SELECT {expression} FROM (SELECT ? AS id, ? AS doc)"
    doc = json.dumps(body, separators=(",", ":"))
    connection = sqlite3.connect(":memory:")
    connection.create_function(SQL_SIZE, 1, bytes_of, deterministic=True)
    try:
        return connection.execute(with_row, [*params, token_id, doc]).fetchone()[0]
    finally:
        connection.close()


def javascript_body(selection: Selection) -> str:
    return f"{JAVASCRIPT_FIELD}\n{JAVASCRIPT_SIZE}\nreturn {selection.javascript()};"


TRUE = [
    "cores == 4",
    "cores == 4.0",
    "cores == 0x4",
    "4 == cores",
    "cores >= 4 and cores <= 4",
    "2 <= cores < 8",
    "8 > cores > 2",
    "cores != 5",
    "5 != cores",
    "-1 < cores",
    "cores > -0.5",
    "cores in (1, 2, 4)",
    "cores in [4]",
    "cores in {4, 5}",
    "cores not in (1, 2)",
    "cores not in ('4', True)",
    "cores in ('x', None, 4)",
    "note in (None,)",
    "site == 'spider'",
    'site == "spider"',
    "site > 'a' and site < 'z'",
    "'a' < site",
    "site in ('a', 'spider')",
    "text == '4' and text != 4",
    "one == 1 and one != True",
    "one != '1'",
    "gpu == True and gpu",
    "gpu != 1",
    "not old",
    "old == False",
    "old != 0",
    "q > 0.25",
    "input.q == 0.75",
    "input['q'] == 0.75",
    "doc['input']['q'] == 0.75",
    "doc.input.q == 0.75",
    "input.deep.er == 'yes'",
    "input.gpu",
    'doc["odd name"] == "odd"',
    "größe == 3",
    "constructor == 'mine'",
    "toString == 5",
    "valueOf is None",
    "hasOwnProperty is None",
    "input.constructor is None",
    "doc.doc.x == 1",
    "note is None",
    "note == None",
    "nothing is None",
    "nothing == None",
    "nothing.at.all is None",
    "cores.x is None",
    "site.length is None",
    "list.length is None",
    "list != 1",
    "site is not None",
    "site != None",
    "input is not None",
    "list is not None",
    "nothing != 5",
    "not nothing",
    "not (nothing < 5)",
    "not (nothing >= 5)",
    "not (site < 5)",
    "not (cores < 'a')",
    "not cores",
    "note != False",
    "id == 'token_17'",
    "_id == 'token_17'",
    "doc['_id'] == 'token_17'",
    "id != 17",
    "id is not None",
    "id >= 'token_1'",
    "startswith(id, 'token_')",
    "endswith(id, '17')",
    "contains(id, '_')",
    "startswith(id, '')",
    "startswith(site, 'sp')",
    "startswith(site, '')",
    "endswith(input.file, '.fits')",
    "endswith(site, '')",
    "contains(input.file, 'run7')",
    "contains(site, '')",
    "not contains(cores, '4')",
    "not startswith(nothing, '')",
    "not endswith(note, '')",
    "not startswith(list, '')",
    "not startswith(site, 'spider and more')",
    "not endswith(site, 'a longer spider')",
    "cores == 4 and site == 'x' or gpu",
    "gpu or site == 'x' and cores == 5",
    "not (gpu and old)",
    "not not gpu",
    "((cores)) == ((4))",
    "(cores == 4\n and\n gpu)",
    "  cores == 4  ",
    "cores == 9_007_199_254_740_991 or True == gpu",
    "size(memory) == '4GB'",
    "size(memory) == 4e9 and size(memory) != '4GiB'",
    "'3.9g' < size(memory) <= 4000000000",
    "size(memory) in ('1GB', '4000 MB')",
    "size(disk) == 17301504",
    "size(bytes) == '4Ki' and size(bytes) < 4097",
    "size(q) < 1 and size(q) > 0.25",
    "size(text) == 4",
    "not size(site) >= 0 and size(site) != 0",
    "not size(gpu) >= 0",
    "not size(note) >= 0",
    "not size(list) >= 0",
    "not size(input.nothing) >= 0",
]
"""Conditions that fit the document above; what is their opposite does not."""


@pytest.mark.parametrize("text", TRUE)
def test_a_condition_and_its_opposite_in_python_and_sql(text: str) -> None:
    for condition, fits in ((text, True), (f"not ({text.strip()})", False)):
        selection = Selection.parse(condition)
        assert selection.matches(ID, DOC) is fits
        assert sql_answer(selection, ID, DOC) == int(fits)


def test_the_same_conditions_in_javascript(javascript: Callable[[str, list[Any]], list[Any]]) -> None:
    for text in TRUE:
        for condition, fits in ((text, True), (f"not ({text.strip()})", False)):
            body = javascript_body(Selection.parse(condition))
            assert javascript(body, [{**DOC, "_id": ID}]) == [fits], condition


def test_javascript_reads_like_what_was_written() -> None:
    assert (
        Selection.parse("cores == 4 and not gpu").javascript() == "(doc.cores === 4 && !(doc.gpu === true))"
    )


def test_selections_can_be_joined() -> None:
    both = Selection.parse("cores == 4 or gpu") & Selection.parse("site == 'spider'")
    assert both.matches(ID, DOC)
    assert not both.matches(ID, {**DOC, "site": "other"})
    assert Selection.parse(both.text).matches(ID, DOC)
    assert both.text == "(cores == 4 or gpu) and (site == 'spider')"


REFUSED = [
    # the condition, what stands in the message, and in which column the ^ is
    ("", "not a condition", 0),
    ("   ", "not a condition", 0),
    ("cores = 4", "not a condition", None),
    ("cores == ", "not a condition", None),
    ("cores == 4 and", "not a condition", None),
    ("cores == 'open", "not a condition", None),
    ("import os", "not a condition", None),
    ("cores == 4; gpu", "not a condition", None),
    ("site == spider", "compared with a number, a string, True or False", 8),
    ("größe == 'ü' and site == spider", "compared with", 25),
    ("gpu and\nsite == spider or\nold", "not a condition", None),
    ("(gpu and\nsite == spider or\nold)", "compared with", 8),
    ("cores + 1 == 4", "a field's name is expected", 0),
    ("1 == 1", "a field's name is expected", 5),
    ("4", "a field's name is expected", 0),
    ("gpu and 4", "a field's name is expected", 8),
    ("'text'", "a field's name is expected", 0),
    ("cores if gpu else site", "a field's name is expected", 0),
    ("lambda: 1", "a field's name is expected", 0),
    ("[c for c in cores]", "a field's name is expected", 0),
    ("__import__('os').system('true')", "the functions are", 0),
    ("matches(site, 'x')", "the functions are startswith(field, 'text')", 0),
    ("startswith(site)", "the functions are", 0),
    ("startswith(site, 'a', 'b')", "the functions are", 0),
    ("startswith(site, text='a')", "the functions are", 0),
    ("site.startswith('sp')", "the functions are", 0),
    ("startswith(site, 5)", "startswith takes a string here", 17),
    ("startswith(site, q)", "startswith takes a string here", 17),
    ("size(memory)", "and size(field)", 0),
    ("size(memory) > 'much'", "compared with bytes", 15),
    ("size(memory) > True", "compared with bytes", 15),
    ("size(memory, 1) > 5", "compared with bytes", 18),
    ("size(memory) is None", "a field's name is expected", 0),
    ("size(4) > 5", "a field's name is expected", 5),
    ("contains('text', 'x')", "a field's name is expected", 9),
    ("cores in 4", "after 'in' comes a list", 9),
    ("cores in ()", "after 'in' comes a list", 9),
    ("'x' in list", "after 'in' comes a list", 7),
    ("cores in (a, b)", "compared with", 10),
    ("cores in ((1, 2), 3)", "compared with", 10),
    ("cores is 4", "'is' goes with None only", 9),
    ("gpu is True", "'is' goes with None only", 7),
    ("cores > None", "'is' goes with None only", 8),
    ("None is None", "a field's name is expected", 0),
    ("gpu > True", "True and False have no order", 6),
    ("cores == -True", "a sign goes before a number", 10),
    ("site == -'a'", "a sign goes before a number", 9),
    ("cores == 9007199254740992", "beyond 2^53", 9),
    ("cores == -9007199254740992", "beyond 2^53", None),
    ("cores == 1e400", "beyond 2^53", 9),
    ("cores == " + "9" * 400, "beyond 2^53", 9),
    ("cores == 1j", "compared with", 9),
    ("site == b'x'", "compared with", 8),
    ("site == f'x'", "compared with", 8),
    ("site == '\\0'", "NUL", 8),
    ("site == '\\ud800'", "surrogate", 8),
    ("contains(site, 'a\\udc80')", "surrogate", 15),
    ("doc[1] == 2", 'a field with an odd name is written doc["odd name"]', 0),
    ("doc[''] == 2", "odd name", 0),
    ("doc['a\"b'] == 2", "odd name", 0),
    ("doc[name] == 2", "odd name", 0),
    ("list[0] == 1", "odd name", 0),
    ("list[0:1] == 1", "odd name", 0),
    ("_rev == '1-2'", "leading '_' belong to the database", 0),
    ("gpu and _attachments is not None", "leading '_'", 8),
    ("doc['_deleted']", "leading '_'", 0),
    ("cores == 4 and (x := 5)", "a field's name is expected", None),
]


@pytest.mark.parametrize(("text", "why", "column"), REFUSED)
def test_what_is_no_condition_is_refused_with_the_place(text: str, why: str, column: int | None) -> None:
    with pytest.raises(SelectionError) as caught:
        Selection.parse(text)
    first, shown, pointer = caught.value.message.split("\n")
    assert first.startswith("the condition is not understood: ")
    assert why in first
    assert shown.strip() in text
    assert pointer.strip() == "^"
    assert pointer.index("^") - 4 <= len(shown)
    if column is not None:
        assert pointer.index("^") - 4 == column
    assert "cores == 4 and site in" in caught.value.advice


def test_a_condition_on_several_lines_shows_the_one_concerned() -> None:
    with pytest.raises(SelectionError, match=r"\n    site == spider or\n            \^"):
        Selection.parse("(gpu and\nsite == spider or\nold)")


@pytest.mark.parametrize(
    "text",
    [
        "a == 1 or " * 2_000 + "a == 1",
        "a == '" + "x" * MAX_LENGTH + "'",
        "not " * (MAX_NESTING + 1) + "a",
        "(" * 4_000 + "a" + ")" * 4_000,
        "-" * 4_000 + "1 == a",
        "a" + ".b" * 4_000 + " == 1 and c ==",
        "a == 1" + "0" * 5_000,
        "a == '\ud800'",
        "a == 1\0",
    ],
)
def test_a_condition_made_to_break_the_reader_is_refused(text: str) -> None:
    with pytest.raises(SelectionError):
        Selection.parse(text)


def test_the_longest_conditions_still_run_as_sql() -> None:
    many = Selection.parse("n in (" + ",".join(map(str, range(2_000))) + ")")
    assert [sql_answer(many, "t", {"n": n}) for n in (0, 1_999, 2_000)] == [1, 1, 0]
    row = Selection.parse(" or ".join(["n == 5"] * 900))
    assert [sql_answer(row, "t", {"n": n}) for n in (5, 6)] == [1, 0]
    nots = Selection.parse("not " * (MAX_NESTING - 2) + "gpu")
    assert [sql_answer(nots, "t", {"gpu": gpu}) for gpu in (True, False)] == [1, 0]
    text = "gpu"
    for level in range(MAX_NESTING - 1):
        joiner = " and " if level % 2 else " or "
        text = joiner.join(["gpu"] * 100 + [f"({text})"])
    deep = Selection.parse(text)
    assert [sql_answer(deep, "t", {"gpu": gpu}) for gpu in (True, False)] == [1, 0]
    path = Selection.parse("a" + ".a" * 300 + " is None")
    assert sql_answer(path, "t", {}) == 1
    assert path.matches("t", {})


def test_it_is_known_which_fields_a_condition_is_about() -> None:
    text = "(a.b == 1 or not startswith(id, 'x')) and c is None and (size(d) > 1 or e not in (1, 2)) and a.b"
    assert fields_of(Selection.parse(text)) == {("a", "b"), ("_id",), ("c",), ("d",), ("e",)}


def test_a_condition_prints_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    assert Selection.parse(r"contains(input, 'a\d')").matches("t", {"input": r"xa\dx"})
    assert not recwarn.list


# --- Any condition on any document, in three languages -------------------------------------------------

NAMES = (
    "a",
    "b",
    "größe",
    "😀",
    "odd name",
    "a.b",
    "back\\slash",
    "$",
    "toString",
    "__proto__",
    "class",
    "x'y",
)
TEXTS = st.one_of(
    st.sampled_from(
        ["", "a", "ab", "abc", "b", "größe", "😀", "a😀", "😀a", "1", "true", "null", "\n\t\x7f", "\\", "'\""]
    ),
    # No characters from U+D800 on but a few far beyond: JavaScript orders these two groups differently.
    st.text(st.characters(min_codepoint=1, max_codepoint=0x2FF) | st.sampled_from("😀𝒳€中"), max_size=4),
)
NUMBERS = st.one_of(
    st.sampled_from([0, 1, -1, 2, 4, 2**31, 2**53 - 1, -(2**53) + 1, 0.5, 1.0, -0.0, 1e-7, 0.1, 3.25, 1e15]),
    st.integers(-5, 5),
    # SQLite does not promise the last digit of a float.
    st.floats(-1e6, 1e6).map(lambda number: round(number, 3)),
)
LITERALS = st.one_of(TEXTS, NUMBERS, st.booleans())
VALUES = st.recursive(
    st.one_of(LITERALS, st.none(), st.sampled_from([2**53, 2**53 + 1, -(2**63), 2**64, 10**30, 1e300])),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=6,
)
BODIES = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6)
IDS = st.sampled_from(["token_1", "a", "ab", "größe 😀"])


@st.composite
def fields(draw: st.DrawFn) -> str:
    if draw(st.integers(0, 9)) == 0:
        return draw(st.sampled_from(["id", "_id", "doc['_id']"]))
    top = draw(st.sampled_from([name for name in NAMES if not name.startswith("_")]))
    path = [top, *draw(st.lists(st.sampled_from(NAMES), max_size=2))]
    text = path[0] if path[0] in {"a", "b", "größe", "toString"} else f"doc[{path[0]!r}]"
    return text + "".join(f".{name}" if name in {"a", "b"} else f"[{name!r}]" for name in path[1:])


@st.composite
def simple_conditions(draw: st.DrawFn) -> str:
    field, literal = draw(fields()), draw(LITERALS)
    order = ["<", "<=", ">", ">="]
    ops = ["==", "!="] if isinstance(literal, bool) else ["==", "!=", *order]
    kind = draw(st.integers(0, 6))
    if kind == 0:
        return f"{field} {draw(st.sampled_from(ops))} {literal!r}"
    if kind == 1:
        return f"{literal!r} {draw(st.sampled_from(ops))} {field}"
    if kind == 2:
        signs = draw(st.sampled_from(order)), draw(st.sampled_from(order))
        return f"{draw(NUMBERS)!r} {signs[0]} {field} {signs[1]} {draw(NUMBERS)!r}"
    if kind == 3:
        options = draw(st.lists(st.one_of(LITERALS, st.none()), min_size=1, max_size=4))
        return f"{field} {draw(st.sampled_from(['in', 'not in']))} {options!r}"
    if kind == 4:
        return f"{field} {draw(st.sampled_from(['is', 'is not', '==', '!=']))} None"
    if kind == 5:
        return field
    return f"{draw(st.sampled_from(['startswith', 'endswith', 'contains']))}({field}, {draw(TEXTS)!r})"


CONDITIONS = st.recursive(
    simple_conditions(),
    lambda inner: st.one_of(
        st.builds("not ({})".format, inner),
        st.builds("({}) and ({})".format, inner, inner),
        st.builds("({}) or ({})".format, inner, inner),
        st.builds("{} and {} or {}".format, simple_conditions(), simple_conditions(), simple_conditions()),
    ),
    max_leaves=5,
)


@given(CONDITIONS, st.lists(st.tuples(IDS, BODIES), min_size=1, max_size=5))
@settings(max_examples=150)
def test_sql_means_what_python_means(condition: str, docs: list[tuple[str, dict[str, Any]]]) -> None:
    selection = Selection.parse(condition)
    expected = [int(selection.matches(token_id, body)) for token_id, body in docs]
    assert [sql_answer(selection, token_id, body) for token_id, body in docs] == expected


@given(condition=CONDITIONS, docs=st.lists(st.tuples(IDS, BODIES), min_size=1, max_size=5))
@settings(max_examples=150)
def test_javascript_means_what_python_means(
    javascript: Callable[[str, list[Any]], list[Any]],
    condition: str,
    docs: list[tuple[str, dict[str, Any]]],
) -> None:
    selection = Selection.parse(condition)
    expected = [selection.matches(token_id, body) for token_id, body in docs]
    with_ids = [{**body, "_id": token_id} for token_id, body in docs]
    assert javascript(javascript_body(selection), with_ids) == expected
