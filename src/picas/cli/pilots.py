"""``picas pilots``: who works on the pool, where, at what."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from picas.cli import options, output, pools, text
from picas.cli.group import verb

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from picas.stores.base import PilotRecord

MOST_NAMED = 3
"""Running tokens that are named in a line."""

_HEAD = ("PILOT", "HOST", "JOB", "STATE", "SLOTS", "HEARD OF", "RUNNING")


class PilotsView(output.View):
    """The pilots that have a record."""

    def __init__(self, records: Sequence[PilotRecord]) -> None:
        self.records = records

    def data(self) -> list[dict[str, Any]]:
        """See docs/reference/json.md."""
        return [_shape(record) for record in self.records]

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """A line for each, and what the states mean where that is not plain."""
        if not self.records:
            yield "no pilots"
            return
        shapes = self.data()
        head, *rows = text.columns([_HEAD, *map(_cells, shapes)])
        yield screen.style(screen.fit(head), "dim")
        yield from map(screen.fit, rows)
        for shape in shapes:
            if shape["reason"]:
                yield f"{text.one_line(shape['id'])} ended: {text.one_line(shape['reason'])}"
        if any(shape["state"] == "silent" for shape in shapes):
            yield "silent: not heard of for longer than their lease; picas reap takes their tokens back"


def _shape(record: PilotRecord) -> dict[str, Any]:
    fields = record.fields
    running = fields.get("running")
    jobs = fields.get("jobs")
    return {
        "id": record.id,
        "host": fields.get("host"),
        "job": next((value for value in jobs.values() if value), None) if isinstance(jobs, dict) else None,
        "state": _state(record),
        "slots": fields.get("slots"),
        "silent": None if math.isinf(record.silent) else round(record.silent, 1),
        "lease": fields.get("lease"),
        "began": fields.get("began"),
        "version": fields.get("version"),
        "reason": fields.get("reason") or None,
        "running": [
            {"id": each.get("id"), "since": each.get("since")}
            for each in (running if isinstance(running, list) else ())
            if isinstance(each, dict)
        ],
    }


def _state(record: PilotRecord) -> str:
    from picas import machine  # noqa: PLC0415 - start-up
    from picas.fleet.reaping import lease_of  # noqa: PLC0415

    if record.fields.get("state") == "ended":
        return "ended"
    if machine.is_gone(record.fields.get("process")):
        return "dead"
    if record.silent > lease_of(record):
        return "silent"
    return "working" if record.fields.get("running") else "waiting"


def _cells(shape: dict[str, Any]) -> tuple[str, ...]:
    named = [text.one_line(each["id"] or "?") for each in shape["running"][:MOST_NAMED]]
    more = len(shape["running"]) - len(named)
    running = ", ".join(named) + (f" and {more} more" if more > 0 else "")
    silent = shape["silent"]
    return (
        text.one_line(shape["id"]),
        text.one_line(shape["host"] or "-"),
        text.one_line(shape["job"] or "-"),
        shape["state"],
        text.one_line("-" if shape["slots"] is None else str(shape["slots"])),
        "before start" if silent is None else f"{text.duration(silent)} ago",
        running or "-",
    )


@verb("pilots")
@options.pass_call
def command(call: options.Call) -> output.View:
    """Show the pilots of the pool: host, batch job, slots, when they last gave a sign of life, what they run.

    working, waiting: alive. silent: not heard of for longer than their lease. dead: it ran on this machine and is
    gone. ended: it has left, and says why.
    """
    fleet = pools.existing(call).store.fleet
    return PilotsView(fleet.pilots() if fleet is not None else [])
