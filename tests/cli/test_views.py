"""`picas views` on an embedded pool; on CouchDB: tests/couchdb/test_views.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Shell

pytestmark = pytest.mark.embedded


@pytest.fixture
def views(picas: Shell) -> Shell:
    """A pool with two tokens of one core and one of four."""
    picas("push", "-", "--set", "cores=1", stdin="one\ntwo\n")
    picas("push", "-", "--set", "cores=4", stdin="three\n")
    return picas


def _outcomes(shell: Shell, *words: str) -> dict[str, str]:
    made = shell("views", "create", *words, "--json").json["designs"]
    return {each["name"]: each["outcome"] for each in made}


def _todo(shell: Shell) -> dict[str, int]:
    return {each["name"]: each["views"]["todo"] for each in shell("views", "list", "--json").json["designs"]}


def test_monitor_is_there_without_being_made(views: Shell) -> None:
    assert _todo(views) == {"Monitor": 3}
    assert _outcomes(views) == {"Monitor": "unchanged"}
    assert _todo(views) == {"Monitor": 3}
    removed = views("views", "remove", "Monitor")
    assert (removed.code, "part of every embedded pool" in removed.err) == (2, True)


def test_a_view_of_a_part_is_what_a_pilot_may_run(views: Shell) -> None:
    words = ("--name", "SingleCore", "--where")
    assert _outcomes(views, *words, "cores == 4") == {"SingleCore": "created"}
    assert _outcomes(views, *words, "cores == 1") == {"SingleCore": "updated"}
    assert _todo(views) == {"Monitor": 3, "SingleCore": 2}
    views("run", "--view", "SingleCore/todo", "--", "true")
    assert _todo(views) == {"Monitor": 1, "SingleCore": 0}
    assert views("status", "--json").json["done"] == 2


def test_a_view_is_removed_and_its_tokens_stay(views: Shell) -> None:
    _outcomes(views, "--name", "SingleCore", "--where", "cores == 1")
    assert views("views", "remove", "SingleCore").code == 0
    assert _todo(views) == {"Monitor": 3}
    missing = views("views", "remove", "SingleCore")
    assert (missing.code, "has no design document SingleCore" in missing.err) == (2, True)
