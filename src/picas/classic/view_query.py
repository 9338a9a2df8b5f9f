"""What CouchDB makes of a view's rows when it is asked for some of them: sorted, cut, grouped, reduced.

Pure functions. Keys are in CouchDB's order of types; strings are in that of their code points, where CouchDB has
that of Unicode's collation.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from picas.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Reduce = Callable[[Sequence[Any], Sequence[Any]], Any]


class Emitted(NamedTuple):
    """A row: what it is sorted by, the document that it is of, and what it tells."""

    key: Any
    id: str
    value: Any


def collated(key: Any) -> tuple[Any, ...]:
    """What keys are compared by: null, false, true, numbers, strings, lists, objects."""
    if key is None or isinstance(key, bool):
        return ({None: 0, False: 1, True: 2}[key],)
    if isinstance(key, (int, float)):
        return (3, key)
    if isinstance(key, str):
        return (4, key)
    if isinstance(key, (list, tuple)):
        return (5, tuple(collated(each) for each in key))
    return (6, tuple((name, collated(value)) for name, value in key.items()))


def in_order(rows: Sequence[Emitted]) -> list[Emitted]:
    """The rows as a view has them."""
    return sorted(rows, key=lambda row: (collated(row.key), row.id))


def answer(rows: Sequence[Emitted], options: Mapping[str, Any], reduce: Reduce | None) -> dict[str, Any]:
    """CouchDB's answer to a question for rows.

    Args:
        rows: all of the view, `in_order`.
        options: CouchDB's, ``include_docs`` excepted.
        reduce: makes one value of the keys and values of several rows; None for a view that has no such.
    """
    chosen, before = _chosen(rows, options)
    skip, limit = int(options.get("skip") or 0), options.get("limit")
    end = None if limit is None else skip + int(limit)
    if reduce is not None and options.get("reduce", True):
        return {"rows": _reduced(chosen, options, reduce)[skip:end]}
    found = [{"id": row.id, "key": row.key, "value": row.value} for row in chosen[skip:end]]
    return {"total_rows": len(rows), "offset": before + min(skip, len(chosen)), "rows": found}


def _chosen(rows: Sequence[Emitted], options: Mapping[str, Any]) -> tuple[list[Emitted], int]:
    """The rows of the keys that are asked for, and how many are before them."""
    ordered = list(reversed(rows)) if options.get("descending") else list(rows)
    keys = options.get("keys")
    if keys is not None:
        wanted = [collated(key) for key in keys]
        by_key: dict[Any, list[Emitted]] = {}
        for row in ordered:
            by_key.setdefault(collated(row.key), []).append(row)
        return [row for key in wanted for row in by_key.get(key, [])], 0
    within = _range(options)
    kept = [(i, row) for i, row in enumerate(ordered) if within(row)]
    return [row for _, row in kept], kept[0][0] if kept else len(ordered)


def _range(options: Mapping[str, Any]) -> Callable[[Emitted], bool]:
    """The test for a row between ``startkey`` and ``endkey``."""
    unset = object()
    given = {name: options.get(name, options.get(other, unset)) for name, other in _ENDS.items()}
    if "key" in options:
        given["startkey"] = given["endkey"] = options["key"]
    sign = -1 if options.get("descending") else 1
    inclusive = options.get("inclusive_end", True)

    def side(row: Emitted, end: str, id_end: str) -> int:
        mark: tuple[Any, ...] = (collated(given[end]),)
        at: tuple[Any, ...] = (collated(row.key),)
        if given[id_end] is not unset:
            mark, at = (*mark, given[id_end]), (*at, row.id)
        return sign * ((at > mark) - (at < mark))

    def within(row: Emitted) -> bool:
        if given["startkey"] is not unset and side(row, "startkey", "startkey_docid") < 0:
            return False
        if given["endkey"] is unset:
            return True
        return side(row, "endkey", "endkey_docid") < (1 if inclusive else 0)

    return within


_ENDS = {
    "startkey": "start_key",
    "endkey": "end_key",
    "startkey_docid": "start_key_doc_id",
    "endkey_docid": "end_key_doc_id",
}
"""Options for a range of rows, and the other names that they have."""


def _reduced(rows: Sequence[Emitted], options: Mapping[str, Any], reduce: Reduce) -> list[dict[str, Any]]:
    level = options.get("group_level")
    if not options.get("group") and not level:
        return [{"key": None, "value": _reduce(rows, reduce)}] if rows else []

    def group(row: Emitted) -> Any:
        return row.key[:level] if level and isinstance(row.key, (list, tuple)) else row.key

    groups = [list(found) for _, found in groupby(rows, key=lambda row: collated(group(row)))]
    return [{"key": group(found[0]), "value": _reduce(found, reduce)} for found in groups]


def _reduce(rows: Sequence[Emitted], reduce: Reduce) -> Any:
    return reduce([[row.key, row.id] for row in rows], [row.value for row in rows])


def built_in(name: str) -> Reduce | None:
    """CouchDB's own reduce functions; None for what is none of them."""
    return {"_sum": _sum, "_count": lambda keys, values: len(values), "_stats": _stats}.get(name)


def _sum(keys: Sequence[Any], values: Sequence[Any]) -> Any:
    if all(isinstance(value, (int, float)) for value in values):
        return sum(values)
    if all(isinstance(value, list) for value in values):
        size = max(len(value) for value in values)
        return [_sum(keys, [value[i] for value in values if i < len(value)]) for i in range(size)]
    raise InvalidInput("the view's _sum takes numbers, or lists of numbers", "Emit such values.")


def _stats(_: Sequence[Any], values: Sequence[Any]) -> dict[str, Any]:
    if not all(isinstance(value, (int, float)) for value in values):
        raise InvalidInput("the view's _stats takes numbers", "Emit such values.")
    squares = sum(value * value for value in values)
    return {
        "sum": sum(values),
        "count": len(values),
        "min": min(values),
        "max": max(values),
        "sumsqr": squares,
    }
