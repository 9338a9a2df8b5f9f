"""What people order the pilots of a pool: pauses, stops, cancellations, barred hosts. Pure functions on one document.

The document (see `picas.stores.base.Fleet.control`)::

    "paused": [{"where": "cores == 4", "why": "…", "at": 1.8e9}]   where "" is the whole pool
    "stop":   {"<pilot>": 1.8e9, "*": 1.8e9}                       those that began before that time
    "cancel": {"<claim id>": 1.8e9}
    "barred": {"<host>": {"why": "…", "at": 1.8e9}}

All times are the store's. An order that nobody can be meant by any more is dropped when the next one is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable

from picas.errors import PicasError, PoolUnavailable
from picas.selection import Selection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from picas.stores.base import Fleet

ALL = "*"
"""In place of a pilot's id: all pilots."""

KEPT_SECONDS = 7 * 86_400.0
"""For so long an order to stop or to cancel is kept: a pilot may have been out of reach for a while."""

MOST_SECONDS = 1e12
"""A time is less than this, or no time at all."""

TRIES = 20
"""How often an order is written again because somebody else gave one at the same moment."""


@dataclass(frozen=True)
class Orders:
    """The orders that stand.

    Attributes:
        fields: the document; what in it makes no sense is passed over.
    """

    fields: Mapping[str, Any]

    @property
    def paused(self) -> str | None:
        """Why the whole pool is paused; None if it is not."""
        for pause in self.pauses():
            if not pause.get("where"):
                return str(pause.get("why") or "")
        return None

    @property
    def held_back(self) -> list[Selection]:
        """Which tokens are not to be claimed while the others are."""
        found = []
        for pause in self.pauses():
            try:
                found += [Selection.parse(str(pause["where"]))] if pause.get("where") else []
            except (
                PicasError
            ):  # a condition of a later version: nobody is held back by what nobody understands
                continue
        return found

    def pauses(self) -> Iterator[Mapping[str, Any]]:
        """What is paused, in the order in which it was."""
        found = self.fields.get("paused")
        yield from (pause for pause in (found if isinstance(found, list) else ()) if isinstance(pause, dict))

    def is_to_stop(self, pilot: str, began: float) -> bool:
        """Whether a pilot that began at that time is to leave."""
        stops = self._table("stop")
        return any(_time(stops.get(name)) > began for name in (pilot, ALL))

    def is_cancelled(self, claim: str | None) -> bool:
        """Whether the attempt of this claim is to be stopped."""
        return claim in self._table("cancel")

    def why_barred(self, host: str) -> str | None:
        """Why no pilot is to work on a host; None if it may."""
        found = self._table("barred").get(host)
        if found is None:
            return None
        return str(found.get("why") or "") if isinstance(found, dict) else ""

    def _table(self, name: str) -> Mapping[str, Any]:
        found = self.fields.get(name)
        return found if isinstance(found, Mapping) else {}


# --- Giving orders -----------------------------------------------------------------------------------


def give(fleet: Fleet, change: Callable[[dict[str, Any]], None], now: float) -> Orders:
    """Change the orders that stand, also if others do so at the same time; those that stand then.

    Args:
        change: changes the document in place; may be called more than once.

    Raises:
        PoolUnavailable: others were faster all the time, or the pool cannot be reached.
        PoolRefused, TokenRefused: this login may not give orders.
    """
    for _ in range(TRIES):
        before, version = fleet.control()
        fields = {name: copy(value) for name, value in before.items()}
        _drop_senseless(fields)
        _drop_old(fields, now)
        change(fields)
        if fields == before or fleet.set_control(fields, version):
            return Orders(fields)
    raise PoolUnavailable("others give orders to this pool all the time", "Try again.")


def pause(fields: dict[str, Any], where: Selection | None, why: str, now: float) -> None:
    """Have pilots claim nothing more, or nothing that fits."""
    text = where.text if where else ""
    resume(fields, where)
    fields["paused"] = [*fields.get("paused", ()), {"where": text, "why": why, "at": round(now, 3)}]


def resume(fields: dict[str, Any], where: Selection | None, *, everything: bool = False) -> None:
    """Take back a pause of the pool or of a selection, or all of them."""
    text = where.text if where else ""
    pauses = [
        each for each in fields.get("paused", ()) if not everything and (each.get("where") or "") != text
    ]
    fields["paused"] = pauses
    if not pauses:
        del fields["paused"]


def stop(fields: dict[str, Any], pilot: str, now: float) -> None:
    """Have a pilot, or `ALL`, finish what runs and leave."""
    fields.setdefault("stop", {})[pilot] = round(now, 3)


def cancel(fields: dict[str, Any], claims: list[str], now: float) -> None:
    """Have the attempts of these claims stopped."""
    fields.setdefault("cancel", {}).update(dict.fromkeys(claims, round(now, 3)))


def bar(fields: dict[str, Any], host: str, why: str, now: float) -> None:
    """Have no pilot work on a host."""
    fields.setdefault("barred", {})[host] = {"why": why, "at": round(now, 3)}


def unbar(fields: dict[str, Any], host: str) -> None:
    """Let pilots work on a host again."""
    fields.get("barred", {}).pop(host, None)
    if not fields.get("barred"):
        fields.pop("barred", None)


def _drop_senseless(fields: dict[str, Any]) -> None:
    """Drop what somebody else wrote in place of orders, which nobody hears, so that new ones can be given."""
    for name in ("stop", "cancel", "barred"):
        if not isinstance(fields.get(name, {}), dict):
            del fields[name]
    pauses = list(Orders(fields).pauses())
    if pauses:
        fields["paused"] = pauses
    else:
        fields.pop("paused", None)


def _drop_old(fields: dict[str, Any], now: float) -> None:
    for name in ("stop", "cancel"):
        kept = {key: at for key, at in fields.get(name, {}).items() if now - _time(at) < KEPT_SECONDS}
        fields[name] = kept
        if not kept:
            del fields[name]


def _time(value: object) -> float:
    # Whoever writes to the pool can put any number there, also one that no float can be.
    return float(value) if isinstance(value, (int, float)) and abs(value) < MOST_SECONDS else 0.0
