"""Text for people."""

from __future__ import annotations

import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picas.cli import text

DANGEROUS = "\x1b\x07\x08\x00\x7f\x9b\x85\u202e\u2066\u2028\ufeff\ud800"


def test_what_a_terminal_acts_on_is_written_out() -> None:
    assert text.visible("a\x1b[31mb\x9bc\x7f") == "a\\x1b[31mb\\x9bc\\x7f"
    assert text.visible("\u202egnp.exe") == "\\u202egnp.exe"
    assert text.visible("1\n2\t3\r4") == "1\\n2\\t3\\r4"
    assert text.visible("1\n2\t3\r4", keep="\n\t") == "1\n2\t3\\r4"
    assert text.visible("größe 日本語 😀 é") == "größe 日本語 😀 é"


@given(st.text())
def test_nothing_that_a_terminal_acts_on_gets_through(value: str) -> None:
    shown = text.visible(value)
    assert not set(shown) & set(DANGEROUS)
    assert all(letter >= " " for letter in shown)
    assert text.visible(shown) == shown


def test_every_control_character_of_unicode_is_written_out() -> None:
    import unicodedata

    for code in range(sys.maxunicode + 1):
        if unicodedata.category(chr(code)) in ("Cc", "Cs", "Zl", "Zp") or unicodedata.bidirectional(
            chr(code)
        ) in (
            "LRE",
            "RLE",
            "PDF",
            "LRO",
            "RLO",
            "LRI",
            "RLI",
            "FSI",
            "PDI",
        ):
            assert text.visible(chr(code)).startswith("\\"), hex(code)


@pytest.mark.parametrize(
    ("value", "shown"), [("a\nb", "a\\nb"), (None, "null"), ({"q": "é\n"}, '{"q": "é\\n"}'), (1.5, "1.5")]
)
def test_any_value_fits_on_one_line(value: object, shown: str) -> None:
    assert text.one_line(value) == shown


@pytest.mark.parametrize(
    ("value", "width", "shown"), [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("日本語", 5, "日本…")]
)
def test_a_text_is_cut_to_columns(value: str, width: int, shown: str) -> None:
    assert text.cut(value, width) == shown


def test_columns_are_aligned_also_with_wide_letters() -> None:
    assert text.columns([("日本", "1"), ("a", "10")], right=(1,)) == ["日本   1", "a     10"]
    assert text.columns([]) == []


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0.00s"), (0.424, "0.42s"), (0.999, "1.0s"), (1.53, "1.5s"), (9.99, "10s"), (59.4, "59s"), (60, "1m"),
        (185, "3m05s"), (3599.6, "1h"), (7500, "2h05m"), (86400, "1d"), (367200, "4d06h"), (-1, "0.00s"),
    ],
)  # fmt: skip
def test_durations(seconds: float, shown: str) -> None:
    assert text.duration(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1536, "1.54 kB"),
        (16 << 20, "16.8 MB"),
        (10**15, "1,000 TB"),
    ],
)
def test_sizes(count: int, shown: str) -> None:
    assert text.size(count) == shown


def test_ages_and_clocks() -> None:
    assert text.age(None) == "-"
    assert text.age(100.0, 160.0) == "1m"
    assert text.age(200.0, 160.0) == "0.00s"
    assert text.clock(1e30) == "1e+30"
    now = time.time()
    assert text.clock(now) == time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))


def test_counts() -> None:
    assert text.counted(1, "token") == "1 token"
    assert text.counted(5000, "token") == "5,000 tokens"


@pytest.mark.parametrize(
    ("number", "shown"), [(0.2574, "0.257"), (31.44, "31.4"), (99.96, "100"), (1_071.6, "1,072")]
)
def test_rates(number: float, shown: str) -> None:
    assert text.rate(number) == shown
