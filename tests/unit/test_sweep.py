"""Parameter sweeps: which combinations they make, exactly, and what they refuse."""

from __future__ import annotations

from itertools import islice, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picas.errors import InvalidInput
from picas.tokenfile import Draft, Sweep


def values(spec):
    name = spec.partition("=")[0]
    return [draft.fields[name] for draft in Sweep([spec])]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("q=0.1:0.9:0.1", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]),
        ("q=1:5:2", [1, 3, 5]),
        ("q=1:6:2", [1, 3, 5]),
        ("q=5:1:-2", [5, 3, 1]),
        ("q=1:-1:-0.5", [1.0, 0.5, 0.0, -0.5, -1.0]),
        ("q=0:1:0.25", [0.0, 0.25, 0.5, 0.75, 1.0]),
        ("q=7:7:1", [7]),
        ("q=7:7:-1", [7]),
        ("q=1e-3:3e-3:1e-3", [0.001, 0.002, 0.003]),
        ("q=1e3:3e3:1e3", [1000, 2000, 3000]),
        ("q=9007199254740993:9007199254740995:1", [9007199254740993, 9007199254740994, 9007199254740995]),
        ("q=1e300:1.1e300:1e299", [10**300, 11 * 10**299]),
        ("d=256,512", [256, 512]),
        ("d=a, b ,c", ["a", "b", "c"]),
        ("d=007,true,0.5,x:y,1e3", ["007", True, 0.5, "x:y", 1000.0]),
        ("d=1:3:1,10", [1, 2, 3, 10]),
        ("d=a=b", ["a=b"]),
        ("d=nan,inf", ["nan", "inf"]),
    ],
)
def test_a_parameter_has_exactly_the_values_that_are_written(spec, expected):
    found = values(spec)

    assert found == expected
    assert [type(value) for value in found] == [type(value) for value in expected]


@given(
    st.decimals(-1000, 1000, places=3),
    st.decimals("0.001", 50, places=3),
    st.integers(0, 200),
    st.sampled_from([1, -1]),
)
def test_a_range_is_what_decimal_arithmetic_says(start, step, steps, sign):
    step *= sign
    stop = start + steps * step

    found = values(f"q={start}:{stop}:{step}")

    assert found == [float(start + number * step) for number in range(steps + 1)]


def test_all_combinations_are_made_and_the_last_parameter_changes_fastest():
    drafts = list(Sweep(["a=1,2", "b=x,y", "c=0.5"]))

    found = [(draft.fields["a"], draft.fields["b"], draft.fields["c"]) for draft in drafts]
    assert found == list(product([1, 2], ["x", "y"], [0.5]))
    assert [draft.line for draft in drafts] == [1, 2, 3, 4]


def test_without_a_template_the_input_is_the_parameters():
    assert next(iter(Sweep(["q=0.1:0.9:0.1", "d=256,512"]))) == Draft(
        {"q": 0.1, "d": 256, "input": "q=0.1 d=256"}, None, "--sweep", 1
    )


def test_a_template_makes_the_input_of_parameters_and_fields_for_all():
    sweep = Sweep(["q=0.1,0.2"], template="draw -q {q} {site}", fields={"site": "spider"})

    assert [draft.fields for draft in sweep] == [
        {"q": 0.1, "site": "spider", "input": "draw -q 0.1 spider"},
        {"q": 0.2, "site": "spider", "input": "draw -q 0.2 spider"},
    ]


def test_a_parameter_may_be_the_input_itself():
    assert [draft.fields for draft in Sweep(["input=ls,pwd"])] == [{"input": "ls"}, {"input": "pwd"}]


def test_a_sweep_can_be_read_again_and_tells_how_far_it_is():
    sweep = Sweep(["q=1:1000:1", "d=1:2:1"])

    assert sweep.check() == sweep.size == 2000
    assert list(islice(sweep, 3)) == list(islice(sweep, 3))
    assert sweep.position == 3
    assert len(list(sweep)) == 2000
    assert sweep.position == 2000


def test_a_sweep_of_ten_million_holds_no_more_than_one_of_ten():
    sweep = Sweep(["q=1:10000000:1"])

    assert sweep.size == 10_000_000
    assert [draft.fields["q"] for draft in islice(sweep, 2)] == [1, 2]


@pytest.mark.parametrize(
    ("specs", "why"),
    [
        ([], "there is no parameter"),
        (["q"], "'q' is no parameter"),
        (["=1,2"], "'=1,2' is no parameter"),
        (["q="], "a value is missing"),
        (["q=1,,2"], "a value is missing"),
        (["q=0:1:0"], "the step is 0"),
        (["q=0:1:-0.1"], "steps of -0.1 do not lead from 0 to 1"),
        (["q=1:0:0.1"], "do not lead from 1 to 0"),
        (["q=1:5"], "'1:5' is no range"),
        (["q=1:2:3:4"], "'1:2:3:4' is no range"),
        (["q=0:1:0.00000001"], "more than 10,000,000 values"),
        (["q=0:1:1e-999999999"], "beyond what numbers can be"),
        (["q=0:1e999999999:1"], "beyond what numbers can be"),
        (["q=0e-999999999:1:1"], "beyond what numbers can be"),
        (["q=1:10000:1", "d=1:1001:1"], "10,010,000 tokens, more than 10,000,000"),
        (["q=1,2", "q=3"], "'q' is given twice"),
        (["lock=1,2"], "'lock' is kept by PiCaS itself"),
        (["picas=1"], "'picas' is kept by PiCaS itself"),
        (["_x=1"], "begins with an underscore"),
        (["priority=1,high"], "the priority is a number, not 'high'"),
        (["q=\udcff"], "not UTF-8"),
    ],
)
def test_what_is_no_sweep_is_refused_with_the_reason(specs, why):
    with pytest.raises(InvalidInput) as caught:
        Sweep(specs)

    assert why in caught.value.message
    assert caught.value.advice or "UTF-8" in why or "priority" in why


def test_a_field_for_all_and_a_parameter_of_the_same_name_are_a_contradiction():
    with pytest.raises(InvalidInput, match="'q' is given twice"):
        Sweep(["q=1,2"], fields={"q": 3})


def test_a_template_with_an_unknown_name_is_found_by_the_check():
    with pytest.raises(InvalidInput, match=r"\{z\}"):
        Sweep(["q=1,2"], template="run {z}").check()


def test_the_check_hands_on_every_draft():
    seen = []

    Sweep(["q=1:3:1"]).check(lambda draft: seen.append(draft.fields["q"]))

    assert seen == [1, 2, 3]


def test_numbers_of_many_digits_are_not_rounded():
    number = 1234567890123456789012345678901234567890

    assert values(f"q={number}:{number}:1") == [number]
