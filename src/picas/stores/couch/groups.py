"""Counting the rows of a view by their keys.

For one request CouchDB uses one core, and a millisecond for each different key. So where there are many the range of
keys is cut, by the first parts of them, which are few, and several requests at a time count the pieces. Counts of rows that
change meanwhile are of different moments.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from picas.stores.couch.index import Row

    Ask = Callable[[Mapping[str, Any]], list[Row]]

AT_ONCE = 4
"""Requests at a time."""


def counted(ask: Ask, first: list[Any], last: list[Any], levels: range) -> list[Row]:
    """A row for each different key in a range, with how often it is there.

    Args:
        ask: asks the view, which must have a reduce function.
        first, last: where the range begins and ends, see `startkey` and `endkey` of CouchDB.
        levels: by so many parts of the keys the range may be cut; it is by the fewest that make enough pieces.
    """
    whole = {"startkey": first, "endkey": last}
    for level in levels:
        kinds = ask({**whole, "group_level": level})
        if len(kinds) >= AT_ONCE:
            return _in_pieces(ask, whole, [row["key"] for row in kinds])
        if not kinds:
            return []
    return ask({**whole, "group": True})


def _in_pieces(ask: Ask, whole: Mapping[str, Any], kinds: list[Any]) -> list[Row]:
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - start-up: few programs count

    cuts = kinds[:: math.ceil(len(kinds) / AT_ONCE)][1:]
    # Without a gap: there may be keys by now that were not there before.
    ends = [*({"endkey": cut, "inclusive_end": False} for cut in cuts), {"endkey": whole["endkey"]}]
    pieces = [
        {"startkey": start, **end, "group": True} for start, end in zip([whole["startkey"], *cuts], ends)
    ]
    with ThreadPoolExecutor(AT_ONCE, "picas-count") as threads:
        return [row for rows in threads.map(ask, pieces) for row in rows]
