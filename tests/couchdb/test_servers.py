"""The servers that the other tests rely on do what their names say."""

from __future__ import annotations

from tests.couchdb.processes import ask


def test_a_database_is_there_and_empty(database: str) -> None:
    assert ask(database, "GET", "")[1]["doc_count"] == 0
    assert ask(database, "PUT", "/one", {})[0] == 201


def test_the_next_database_is_another_one(database: str) -> None:
    assert ask(database, "GET", "/one")[0] == 404
