"""Making text for people: what comes from outside made harmless, and numbers, times and columns readable."""

from __future__ import annotations

import re
import time
import unicodedata
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# C0 and C1 controls, DEL, what reorders or breaks lines (Unicode's bidirectional controls, LINE and PARAGRAPH
# SEPARATOR), half surrogates. A terminal may act on any of these.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")

_NAMES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

ELLIPSIS = "…"


def visible(text: str, keep: str = "") -> str:
    """The text with every character that a terminal could act on written out as Python writes it.

    Everything that comes from a token, a log or a file passes through here on its way to people.

    Args:
        keep: characters that are let through all the same, such as line ends.
    """
    return _UNSAFE.sub(lambda found: found[0] if found[0] in keep else _written_out(found[0]), text)


def _written_out(letter: str) -> str:
    code = ord(letter)
    return _NAMES.get(letter) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


def one_line(value: Any) -> str:
    """Any value of a token's field on one safe line: strings as they are, everything else as JSON."""
    from picas.text import deepjson  # noqa: PLC0415 - start-up

    return visible(value if isinstance(value, str) else deepjson.dumps(value, ensure_ascii=False))


# --- Columns -----------------------------------------------------------------------------------------


def width_of(text: str) -> int:
    """How many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 1 + (unicodedata.east_asian_width(letter) in "WF")
        for letter in text
    )


def cut(text: str, width: int) -> str:
    """The text in at most so many columns; one that is cut ends in ``…``."""
    if width_of(text) <= width:
        return text
    kept, used = [], 0
    for letter in text:
        used += width_of(letter)
        if used > width - 1:
            break
        kept.append(letter)
    return "".join(kept) + ELLIPSIS


def pad(text: str, width: int) -> str:
    """The text, with blanks up to the width."""
    return text + " " * (width - width_of(text))


def columns(rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Rows of cells as aligned lines.

    Args:
        right: the columns that are aligned to the right.
    """
    table = [list(row) for row in rows]
    if not table:
        return []
    widths = [max(width_of(row[place]) for row in table) for place in range(len(table[0]))]
    lines = []
    for row in table:
        cells = [
            " " * (width - width_of(cell)) + cell if place in right else pad(cell, width)
            for place, (cell, width) in enumerate(zip(row, widths))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


# --- Numbers and times -------------------------------------------------------------------------------


def number(count: int) -> str:
    """``12,345``."""
    return f"{count:,}"


def counted(count: int, thing: str) -> str:
    """``1 token``, ``5,000 tokens``."""
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def duration(seconds: float) -> str:
    """A stretch of time with the two figures that matter: ``0.42s``, ``1.5s``, ``12s``, ``3m05s``, ``2h05m``, ``4d06h``, ``10m``."""
    if seconds < 9.95:
        return f"{max(0.0, seconds):.{2 if seconds < 0.995 else 1}f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return _two(whole, 60, "m", 1, "s")
    if whole < 86400:
        return _two(whole, 3600, "h", 60, "m")
    return _two(whole, 86400, "d", 3600, "h")


def _two(whole: int, length: int, unit: str, part: int, smaller: str) -> str:
    rest = whole % length // part
    return f"{whole // length}{unit}" + (f"{rest:02}{smaller}" if rest else "")


def age(then: float | None, now: float | None = None) -> str:
    """How long ago a Unix time was; ``-`` for none."""
    if then is None:
        return "-"
    return duration(max(0.0, (time.time() if now is None else now) - then))


def clock(then: float) -> str:
    """A Unix time as local date and time, to the second."""
    try:
        return datetime.fromtimestamp(then, timezone.utc).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return f"{then:g}"


def size(count: int) -> str:
    """Bytes: ``512 B``, ``1.5 kB``, ``16 MB``."""
    if count < 1000:
        return f"{count} B"
    amount = float(count)
    for unit in ("kB", "MB", "GB", "TB"):
        amount /= 1000
        if amount < 999.5 or unit == "TB":
            break
    return f"{amount:.3g} {unit}" if amount < 999.5 else f"{amount:,.0f} {unit}"


def rate(number: float) -> str:
    """A number of tokens in a time: ``0.257``, ``31.4``, ``1,070``."""
    return f"{number:.3g}" if number < 99.95 else f"{number:,.0f}"
