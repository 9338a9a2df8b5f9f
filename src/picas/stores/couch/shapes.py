"""Whether an answer has the shape that its question asks for.

What answers in the place of a database, a proxy or somebody's test of one, may do so with JSON as well. It is told
here from a database's answer, so that those who read answers need not ask about each part of them.
"""

from __future__ import annotations

from typing import Any

_LISTS = {
    "_all_docs": "rows",
    "_local_docs": "rows",
    "_design_docs": "rows",
    "_changes": "results",
    "_bulk_get": "results",
}
"""The last part of a path → where the answer has its list."""


def fits(method: str, path: str, value: Any) -> bool:
    """Whether this may be what a database answers, as a success, to a request.

    Args:
        path: below the server's URL, quoted.
        value: the JSON of the answer, None if there was none.
    """
    parts = path.partition("?")[0].split("/")
    name = _LISTS.get(parts[-1]) or ("rows" if parts[-2:-1] == ["_view"] else "")
    if name:
        return isinstance(value, dict) and _are_rows(value.get(name))
    if parts[-1] == "_bulk_docs":
        return _are_rows(value)
    if _is_document(parts):
        return _is_body(value) if method == "GET" else isinstance(value, dict) and _is_text(value.get("rev"))
    is_database = len(parts) == 1 and not parts[0].startswith("_")
    return not is_database or method != "GET" or isinstance(value, dict)


def _is_document(parts: list[str]) -> bool:
    """Whether a path is that of a document, ``database/…``."""
    if len(parts) == 3 and parts[1] in ("_local", "_design"):
        return not parts[0].startswith("_")
    return len(parts) == 2 and not parts[1].startswith("_") and (parts[0] == "_users" or parts[0][:1] != "_")


def _are_rows(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_row, value))


def _is_row(row: Any) -> bool:
    """Whether it may be a row of a list of documents, of changes, or of what became of writes."""
    if not isinstance(row, dict) or not _is_text(row.get("id", "")):
        return False
    doc, docs = row.get("doc"), row.get("docs", [])
    return (doc is None or _is_body(doc)) and isinstance(docs, list) and all(map(_is_version, docs))


def _is_version(found: Any) -> bool:
    return isinstance(found, dict) and (_is_body(found["ok"]) if "ok" in found else True)


def _is_body(doc: Any) -> bool:
    return isinstance(doc, dict) and _is_text(doc.get("_id")) and _is_text(doc.get("_rev"))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)
