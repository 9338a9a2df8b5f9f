"""Templates: which braces mean a field, and which are just text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picas.errors import InvalidInput
from picas.text.template import as_text, is_name, names, render, render_argv

FIELDS = {
    "input": "a b",
    "q": 0.1,
    "n": 3,
    "yes": True,
    "no": False,
    "nothing": None,
    "list": [1, {"x": "é"}],
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("", ""),
        ("plain", "plain"),
        ("{input}", "a b"),
        ("run {q} {n} {input}.", "run 0.1 3 a b."),
        ("{yes} {no} [{nothing}]", "true false []"),
        ("{list}", '[1, {"x": "é"}]'),
        ("{id}/{_id}", "token_7/token_7"),
        ("{q}{n}{q}", "0.130.1"),
    ],
)
def test_names_in_braces_become_the_fields_values(template, text):
    assert render(template, FIELDS, "token_7") == text


def test_a_dotted_name_reaches_into_objects_and_lists():
    fields = {"input": {"q": 0.5, "files": ["a.fits", {"name": "b.fits"}]}}

    assert render("{input.q} {input.files.0} {input.files.1.name}", fields) == "0.5 a.fits b.fits"


def test_a_field_with_a_dot_in_its_name_goes_before_one_within_an_object():
    assert render("{a.b}", {"a.b": "whole", "a": {"b": "within"}}) == "whole"


@pytest.mark.parametrize(
    "text",
    [
        "awk '{print $1}'",
        "awk '{a[$1]++} END{for(k in a){print k}}'",
        "find . -name '*.log' -exec rm {} ;",
        "{{}}",
        '{"q": {"d": 1}}',
        "cp x{.fits,.bak}",
        "echo {1..5} {a..e} {a,b}",
        "docker ps --format '{{.Names}}'",
        "{ input }",
        "{input",
        "input}",
        "}{",
        "a{\n}b",
    ],
)
def test_other_braces_stay_as_they_are(text):
    assert render(text, FIELDS) == text
    assert names(text) == ()


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{q}}", "{q}"),
        ("${{HOME}}", "${HOME}"),
        ("{{unknown}}", "{unknown}"),
        ("{{{q}}}", "{0.1}"),
        ("{{{{q}}}}", "{{q}}"),
        ("{if(1){q}}", "{if(1)0.1}"),
        ("{{q}", "{0.1"),
    ],
)
def test_doubled_braces_around_a_name_are_single_braces(template, text):
    assert render(template, FIELDS) == text


@pytest.mark.parametrize("name", ["missing", "input.q", "list.7", "list.x", "q.d", "nothing.x"])
def test_a_name_that_is_no_field_is_an_error_that_says_what_there_is(name):
    with pytest.raises(InvalidInput) as caught:
        render(f"run {{{name}}}", FIELDS)

    assert f"{{{name}}}" in caught.value.message
    assert "Its fields are: input, list, n, no, nothing, q, yes." in caught.value.advice
    assert f"write {{{{{name}}}}}" in caught.value.advice


def test_the_fields_that_an_error_lists_are_not_too_many():
    with pytest.raises(InvalidInput) as caught:
        render("{missing}", {f"field{number:03}": 0 for number in range(500)})

    assert "field000" in caught.value.advice
    assert "field019, …" in caught.value.advice
    assert "field020" not in caught.value.advice


def test_before_a_token_has_an_id_a_field_of_that_name_stands_for_it():
    assert render("{id}", {"id": "mine"}) == "mine"
    assert render("{id}", {"id": "mine"}, "token_1") == "token_1"
    with pytest.raises(InvalidInput, match="being pushed has no id yet"):
        render("{id}", {"q": 1})


def test_an_argument_stays_one_argument_whatever_its_value_has_in_it():
    argv = ["sh", "-c", "echo {{x}}", "{input}", "-q={q}", "{}"]
    fields = {"input": "; rm -rf / 'x' \"y\" $HOME {q}", "q": 0.1}

    assert render_argv(argv, fields) == ["sh", "-c", "echo {x}", fields["input"], "-q=0.1", "{}"]


def test_names_are_told_once_each_in_their_order():
    assert names("{b} {a} {b} {{c}} {d.e} {id}") == ("b", "a", "d.e", "id")


def test_names_may_be_of_any_language_but_not_of_any_shape():
    assert render("{größe}", {"größe": 5}) == "5"
    assert all(map(is_name, ["q", "a-b", "a_1", "a.b", "größe"]))
    assert not any(map(is_name, ["", "2theta", "my col", "a..b", "a.", "-a", "a{"]))


@given(st.text())
def test_a_text_without_braces_is_its_own_template(text):
    text = text.replace("{", "").replace("}", "")

    assert render(text, {}) == text


@given(st.text(alphabet="{}ab. "), st.text())
def test_every_text_is_a_template_and_values_are_never_read_as_one(template, value):
    fields = dict.fromkeys(names(template), value)
    marked = render(template, dict.fromkeys(fields, "\0"))

    assert render(template, fields) == marked.replace("\0", value)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    )
)
def test_what_is_neither_a_string_nor_null_is_written_as_json(value):
    text = as_text(value)

    if value is None:
        assert text == ""
    elif isinstance(value, str):
        assert text == value
    else:
        assert json.loads(text) == value
        assert text == json.dumps(value, ensure_ascii=False)
