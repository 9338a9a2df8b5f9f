"""Which answers may be a database's, by what was asked."""

from __future__ import annotations

import pytest

from picas.stores.couch.shapes import fits

DOC = {"_id": "t", "_rev": "1-a", "type": "token"}


@pytest.mark.parametrize(
    ("method", "path", "value"),
    [
        ("GET", "db", {"db_name": "db"}),
        ("PUT", "db", {"ok": True}),
        ("GET", "db/_all_docs", {"rows": [{"id": "t", "key": "t", "value": {"rev": "1-a"}, "doc": DOC}]}),
        ("POST", "db/_all_docs", {"rows": [{"key": "t", "error": "not_found"}, {"id": "u", "doc": None}]}),
        ("GET", "db/_design/x/_view/y?limit=1", {"rows": [{"key": ["todo"], "value": 3}]}),
        ("GET", "db/_changes", {"results": [{"id": "t", "seq": 5, "changes": []}], "last_seq": "5"}),
        ("POST", "db/_bulk_get", {"results": [{"id": "t", "docs": [{"ok": DOC}, {"error": {"id": "t"}}]}]}),
        ("POST", "db/_bulk_docs", [{"ok": True, "id": "t", "rev": "2-b"}, {"id": "u", "error": "conflict"}]),
        ("GET", "db/t", DOC),
        ("PUT", "db/t", {"ok": True, "id": "t", "rev": "2-b"}),
        ("PUT", "db/_local/x", {"ok": True, "id": "_local/x", "rev": "0-1"}),
        ("GET", "db/_design/x", {"_id": "_design/x", "_rev": "1-a", "views": {}}),
        ("GET", "db/_security", {}),
        ("GET", "_node/_local/_config", "anything"),
        ("GET", "_active_tasks", []),
    ],
)
def test_what_couchdb_answers_fits(method, path, value):
    assert fits(method, path, value)


@pytest.mark.parametrize(
    ("method", "path", "value"),
    [
        ("GET", "db", None),
        ("GET", "db", []),
        ("GET", "db/_all_docs", None),
        ("GET", "db/_all_docs", {}),
        ("GET", "db/_all_docs", {"rows": {}}),
        ("GET", "db/_all_docs", {"rows": [5]}),
        ("GET", "db/_all_docs", {"rows": [{"id": 5}]}),
        ("GET", "db/_all_docs", {"rows": [{"doc": 5}]}),
        ("GET", "db/_all_docs", {"rows": [{"doc": {"_id": "t"}}]}),
        ("GET", "db/_design/x/_view/y", {"results": []}),
        ("GET", "db/_changes", {"rows": []}),
        ("POST", "db/_bulk_get", {"results": [{"docs": 5}]}),
        ("POST", "db/_bulk_get", {"results": [{"docs": [{"ok": 5}]}]}),
        ("POST", "db/_bulk_docs", {}),
        ("POST", "db/_bulk_docs", ["ok"]),
        ("GET", "db/t", []),
        ("GET", "db/t", {}),
        ("GET", "db/_local/x", {"_id": "_local/x"}),
        ("PUT", "db/t", {"ok": True}),
        ("PUT", "db/_local/x", None),
    ],
)
def test_what_it_does_not_answer_does_not(method, path, value):
    assert not fits(method, path, value)
