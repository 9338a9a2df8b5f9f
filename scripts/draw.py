"""Draw boxes and arrows from a text file as SVG: ``python scripts/draw.py TEXT SVG``. The form is told in docs/images/layers.txt."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

LETTER = 7.4  # pixels that a letter of this size is wide, at most on average
LINE = 20.0
MARGIN = 16.0
BESIDE = 110.0  # between two columns, for the words on an arrow
BELOW = 52.0  # between two rows


@dataclass
class Box:
    """A heading with lines below it, at a place of the grid."""

    column: int
    row: int
    lines: list[str] = field(default_factory=list)

    @property
    def width(self) -> float:
        """Pixels that its longest line needs."""
        return max(len(line) for line in self.lines) * LETTER + 2 * MARGIN

    @property
    def height(self) -> float:
        """Pixels that its lines need."""
        return len(self.lines) * LINE + 1.5 * MARGIN


@dataclass
class Arrow:
    """From one box to another in the same row or column."""

    start: str
    end: str
    lines: list[str] = field(default_factory=list)


@dataclass
class Picture:
    """What a text file tells."""

    title: str = ""
    boxes: dict[str, Box] = field(default_factory=dict)
    arrows: list[Arrow] = field(default_factory=list)


def read(text: str) -> Picture:
    """The picture that a text describes.

    Raises:
        ValueError: a line means nothing.
    """
    picture = Picture()
    lines: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if line[0] == " ":
            lines.append(line.strip())
            continue
        word, *rest = line.split()
        lines = []
        if word == "title":
            picture.title = " ".join(rest)
        elif word == "box" and len(rest) == 3:
            picture.boxes[rest[0]] = Box(int(rest[1]), int(rest[2]), lines)
        elif word == "arrow" and len(rest) == 2:
            picture.arrows.append(Arrow(rest[0], rest[1], lines))
        else:
            raise ValueError(f"line {number}: {line}")
    return picture


def places(sizes: dict[int, float], between: float) -> tuple[dict[int, float], float]:
    """Where each column, or row, of these sizes begins, and where the last one ends."""
    begins: dict[int, float] = {}
    at = MARGIN
    for index in sorted(sizes):
        begins[index] = at
        at += sizes[index] + between
    return begins, at - between + MARGIN


def draw(picture: Picture) -> str:
    """The picture as SVG."""
    widths: dict[int, float] = {}
    heights: dict[int, float] = {}
    for box in picture.boxes.values():
        widths[box.column] = max(widths.get(box.column, 0), box.width)
        heights[box.row] = max(heights.get(box.row, 0), box.height)
    left, width = places(widths, BESIDE)
    top, height = places(heights, BELOW)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img"'
        f' font-family="sans-serif" font-size="14" fill="#222">',
        f"<title>{escape(picture.title)}</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="9" markerHeight="9" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="#555"/></marker></defs>',
        '<rect width="100%" height="100%" rx="8" fill="#fff"/>',
    ]
    for box in picture.boxes.values():
        x, y, wide = left[box.column], top[box.row], widths[box.column]
        parts.append(
            f'<rect x="{x:.0f}" y="{y:.0f}" width="{wide:.0f}" height="{heights[box.row]:.0f}" rx="6"'
            ' fill="#eef3f8" stroke="#4a6a8a"/>'
        )
        for number, line in enumerate(box.lines, 1):
            weight = ' font-weight="bold"' if number == 1 else ""
            parts.append(
                f'<text x="{x + wide / 2:.0f}" y="{y + MARGIN / 2 + number * LINE:.0f}" text-anchor="middle"{weight}>'
                f"{escape(line)}</text>"
            )
    for arrow in picture.arrows:
        start, end = picture.boxes[arrow.start], picture.boxes[arrow.end]
        if start.column == end.column:
            x = left[start.column] + widths[start.column] / 4
            y, to = top[start.row] + heights[start.row], top[end.row]
            path, words = f"M{x:.0f} {y:.0f}V{to:.0f}", (x + 10, (y + to) / 2 + 5, "start")
        else:
            y = top[start.row] + heights[start.row] / 2
            x, to = left[start.column] + widths[start.column], left[end.column]
            path, words = f"M{x:.0f} {y:.0f}H{to:.0f}", ((x + to) / 2, y - 8, "middle")
        parts.append(f'<path d="{path}" stroke="#555" stroke-width="1.5" marker-end="url(#tip)"/>')
        for number, line in enumerate(arrow.lines):
            parts.append(
                f'<text x="{words[0]:.0f}" y="{words[1] + number * LINE:.0f}" text-anchor="{words[2]}"'
                f' font-style="italic">{escape(line)}</text>'
            )
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(draw(read(Path(sys.argv[1]).read_text("utf-8"))), "utf-8")
