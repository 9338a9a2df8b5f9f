"""Logs that a pool takes no more of: their head and tail, with a note where the middle was.

What a server, or a proxy before it, takes of a file or of a request cannot be asked; it is found by trying.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from picas.payload import Payload, Stretch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LEAST_LOG = 1 << 10
"""No log is cut to less: if so little does not fit, it is not the logs that are too large."""

SHORT_LOG = 1 << 16
"""Beside other files, which may be what is too large, no log is cut to less."""


def shorter(logs: Sequence[Payload], least: int) -> Iterator[int]:
    """Lengths to cut logs to, ever shorter, from half of the longest to ``least`` bytes."""
    cap = max((log.length for log in logs), default=0)
    while cap > least:
        cap = max(cap // 2, least)
        yield cap


def cut(logs: Sequence[Payload], cap: int) -> tuple[tuple[Payload, ...], tuple[str, ...]]:
    """Logs of at most about ``cap`` bytes each, and a note on each that had more."""
    kept, notes = [], []
    for log in logs:
        left_out = log.length - cap
        if left_out <= 0:
            kept.append(log)
            continue
        note = f"\n[picas: {left_out} bytes left out here: the pool takes no more]\n".encode()
        head, tail = cap // 2, cap - cap // 2
        parts = (*_part_of(log, 0, head), note, *_part_of(log, log.length - tail, tail))
        kept.append(Payload(log.name, log.content_type, parts))
        notes.append(
            f"{log.name}: {left_out:,} of {log.length:,} bytes in the middle were left out: the pool takes no more"
        )
    return tuple(kept), tuple(notes)


def _part_of(log: Payload, start: int, length: int) -> Iterator[bytes | Stretch]:
    """The parts of these bytes of a log."""
    for part in log.parts:
        size = len(part) if isinstance(part, bytes) else part.length
        first, last = max(start, 0), min(start + length, size)
        if first < last:
            if isinstance(part, bytes):
                yield part[first:last]
            elif isinstance(part, Stretch):
                yield Stretch(part.path, part.offset + first, last - first)
        start -= size
