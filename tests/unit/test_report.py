"""Counts with rates, and failures in groups."""

from __future__ import annotations

from typing import Any

import pytest

from picas import report
from picas.report import failures, normalised, status
from picas.stores.base import Progress
from picas.tokens import State, Token

COUNTS: dict[Any, int] = {State.TODO: 30, State.LOCKED: 10, State.DONE: 50, State.ERROR: 5, None: 1}


def test_status_extrapolates_the_pace_of_late() -> None:
    found = status(COUNTS, Progress(1000.0, 20.0, 40, 0.5))
    assert found.counts == {"todo": 30, "locked": 10, "done": 50, "error": 5, "other": 1}
    assert (found.total, found.rate, found.window, found.seconds_left, found.wall_mean) == (
        96,
        2.0,
        20.0,
        20.0,
        0.5,
    )


@pytest.mark.parametrize("progress", [None, Progress(1000.0, 600.0, 0, None), Progress(1000.0, 0.0, 3, None)])
def test_status_without_progress_promises_nothing(progress: Progress | None) -> None:
    found = status(COUNTS, progress)
    assert (found.rate, found.window, found.seconds_left) == (None, None, None)


def test_nothing_left_has_no_time_left() -> None:
    assert status({State.DONE: 5}, Progress(1000.0, 20.0, 5, 1.0)).seconds_left is None


def _failed(
    name: str, message: object, *, exit_code: object = 1, failure: object = "application", ended: float = 5.0
) -> Token:
    run = {"failure": failure, "ended": ended}
    body = {"type": "token", "lock": 1, "done": 2, "exit_code": exit_code, "picas": {"run": run}}
    return Token(name, {**body, "error": [{"message": "an older one"}, {"message": message}]})


def test_failures_are_grouped_by_code_cause_and_message() -> None:
    found = failures(
        [
            _failed("a", "cannot open /data/a.fits, line 3", ended=7.0),
            _failed("b", "no space", exit_code=2),
            _failed("c", "cannot open /data/sub/b.fits, line 44", ended=6.0),
            _failed("d", "cannot open /data/a.fits, line 3", failure="timeout"),
            _failed("e", "cannot open ~/c.fits, line 5", ended=9.0),
            _failed("f", "cannot open ~/c.fits, line 5"),
        ]
    )
    assert (found.total, found.other) == (6, 0)
    assert found.classes == {"application": 5, "timeout": 1}
    first = found.groups[0]
    assert (first.count, first.exit_code, first.failure) == (4, 1, "application")
    assert first.message == "cannot open PATH, line N"
    assert first.examples == ["a", "c", "e"]
    assert (first.first, first.last) == (5.0, 9.0)
    assert [(group.exit_code, group.failure, group.message) for group in found.groups[1:]] == [
        (2, "application", "no space"),
        (1, "timeout", "cannot open /data/a.fits, line 3"),
    ]


def test_the_class_with_most_failures_comes_first() -> None:
    found = failures(
        [
            *(_failed(f"a{n}", "the largest group", failure="lost") for n in range(3)),
            *(_failed(f"b{n}", f"{'x' * (n + 1)}", failure="memory") for n in range(4)),
            _failed("c", "of nobody", failure=None),
        ]
    )
    assert found.classes == {"memory": 4, "lost": 3, "": 1}
    assert [group.failure for group in found.groups] == ["memory"] * 4 + ["lost", None]


def test_attempts_that_were_made_again_are_counted_apart() -> None:
    entry = {"exit_code": 5, "failure": "lost", "message": "gone from node 7", "ended": 3.0}
    given_back = {**entry, "failure": "released"}
    odd = [{"failure": 3}, {"failure": "memory", "message": 5, "ended": "x", "exit_code": None}, "none"]
    history = [entry, {**entry, "message": "gone from node 8", "ended": 4.0}, given_back, *odd]
    found = failures([Token("a", {"type": "token", "picas": {"history": history}})], retried=True)
    assert (found.total, found.classes) == (3, {"lost": 2, "memory": 1})
    first = found.groups[0]
    assert (first.message, first.count, first.examples) == ("gone from node N", 2, ["a"])
    assert (first.first, first.last) == (3.0, 4.0)


@pytest.mark.parametrize(
    "error",
    [None, [], "text", [None], [{}], [{"message": 3}], {"message": "x"}],
    ids=repr,
)
def test_documents_of_other_programs_do_not_break_it(error: object) -> None:
    body = {"type": "token", "lock": 99, "done": 99, "exit_code": "", "error": error}
    (group,) = failures([Token("t", body)]).groups
    assert (group.exit_code, group.failure, group.message, group.examples) == (None, None, "", ["t"])


def test_the_number_of_groups_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "MAX_GROUPS", 3)
    found = failures([_failed(str(code), "x", exit_code=code) for code in (1, 2, 3, 4, 5, 1)])
    assert (found.total, len(found.groups), found.other) == (6, 3, 2)


@pytest.mark.parametrize(
    ("message", "pattern"),
    [
        ("line 12, column 3", "line N, column N"),
        ("at 0x7f3a in main.c:42", "at N in main.c:N"),
        ("took 1.5e-3 s", "took N s"),
        ("cannot open '/a/b c.txt'", "cannot open 'PATH c.txt'"),
        ("a/b and/or c", "a/b and/or c"),
        ("file1 utf8", "file1 utf8"),
        ("/", "/"),
        ("killed by signal 9", "killed by signal N"),
    ],
)
def test_what_differs_between_like_messages(message: str, pattern: str) -> None:
    assert normalised(message) == pattern
