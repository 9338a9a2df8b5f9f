"""JSON that is nested deeper than Python follows: the rest of it is read, shown, and never written with a part missing."""

from __future__ import annotations

import json

import pytest

from picas.text import deepjson, jsontext
from picas.text.deepjson import MAX_DEPTH, TooDeep
from picas.tokens import State, state_of

BOTTOMLESS = 50_000


def nested(depth: int, left: str = "[", right: str = "]") -> str:
    return left * depth + right * depth


def test_what_python_can_follow_is_read_as_it_is() -> None:
    text = f'{{"a": {nested(300)}, "b": "[{{\\"]"}}'
    assert deepjson.loads(text.encode()) == json.loads(text)


@pytest.mark.parametrize(("left", "right"), [("[", "]"), ('{"a":', "}"), ('[{"x":[1,2],"a":', "}]")])
def test_what_lies_beside_it_is_read(left: str, right: str) -> None:
    deep = left * BOTTOMLESS + "1" + right * BOTTOMLESS
    text = f'{{"rows": [{{"id": "a", "doc": {deep}}}, {{"id": "b", "doc": [1, "]]}}\\\\\\"[["]}}]}}'
    rows = deepjson.loads(text.encode())["rows"]
    assert [row["id"] for row in rows] == ["a", "b"]
    assert rows[1]["doc"] == [1, ']]}\\"[[']
    with pytest.raises(TypeError):
        jsontext.encode(rows[0])


def test_several_deep_parts_are_left_out_each() -> None:
    deep = nested(BOTTOMLESS)
    value = deepjson.loads(f"[{deep}, 1, {deep}, 2]".encode())
    assert (value[1], value[3]) == (1, 2)
    for part in (value[0], value[2]):
        inner, depth = part, 2  # the first list of it
        while isinstance(inner[0], list):
            inner, depth = inner[0], depth + 1
        assert isinstance(inner[0], TooDeep)
        assert depth == MAX_DEPTH - 1


@pytest.mark.parametrize(
    "text", ["[" * BOTTOMLESS, nested(BOTTOMLESS) + "]", nested(BOTTOMLESS) + "x", "nothing", ""]
)
def test_what_is_no_json_is_an_error_all_the_same(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json's own
        deepjson.loads(text.encode())


def test_it_is_shown_with_words_in_its_place() -> None:
    value = deepjson.loads(f'{{"id": "a", "input": {nested(BOTTOMLESS)}}}'.encode())
    assert "(nested too deep to be read)" in deepjson.dumps(value)
    assert "(nested too deep to be read)" in deepjson.dumps(value, indent=2)


def test_what_can_be_read_and_not_be_written_is_shown_too() -> None:
    value: list[object] = []
    for _ in range(BOTTOMLESS):
        value = [value]
    assert "(nested too deep to be read)" in deepjson.dumps({"a": value})
    while value:  # freeing it at once would be deep again
        (value,) = value  # type: ignore[assignment]


def test_why_it_cannot_be_written_is_said_in_words() -> None:
    for value in (TooDeep(), json.loads(nested(10))):
        try:
            jsontext.encode({"a": value, "b": {1, 2} if isinstance(value, list) else 0})
        except TypeError as error:
            said = deepjson.reason(error)
        assert ("nested too deep" in said) == isinstance(value, TooDeep)


def test_a_lock_that_is_nested_deep_is_no_state() -> None:
    lock = json.loads(nested(900))
    assert state_of({"type": "token", "lock": lock, "done": 5}) in (None, State.ERROR)
