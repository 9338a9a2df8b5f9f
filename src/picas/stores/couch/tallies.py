"""Counting tokens by what is in their fields where no index does it: all of them are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from picas.stores.base import Tally
from picas.text import jsontext
from picas.tokens import State, not_before_of, state_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def tally_of(
    documents: Iterable[Mapping[str, Any]], fields: Sequence[Sequence[str]], now: float
) -> list[Tally]:
    """What `picas.stores.base.Store.tally` says of these documents at this time, Unix seconds."""
    counted: dict[tuple[State, str], Tally] = {}
    for doc in documents:
        state = state_of(doc)
        if state not in (State.TODO, State.LOCKED) or not_before_of(doc) > now:
            continue
        values = tuple(_value(doc, path) for path in fields)
        key = (state, jsontext.encode(values))  # Python takes true and 1 for the same
        there = counted.get(key)
        counted[key] = Tally(state, values, there.count + 1 if there else 1)
    return list(counted.values())


def _value(doc: Mapping[str, Any], path: Sequence[str]) -> Any:
    value: Any = doc
    for name in path:
        if not isinstance(value, dict) or name not in value:
            return None
        value = value[name]
    return value
