"""Conditions on tokens: ``cores == 4 and site == "spider"``, parsed once, answered in three languages.

The grammar is a small part of Python's expressions (parsed with `ast`, never evaluated)::

    cores == 4            cores >= 2             2 <= cores < 8        site != "spider"
    site in ("a", "b")    site not in ("a",)     input.q > 0.5         doc["odd name"] == 1
    note is None          note is not None       gpu                   not gpu
    startswith(id, "token_1")   endswith(input, ".fits")   contains(input, "run7")
    size(memory) <= "4GB"
    … and …    … or …    ( … )

What it means, in Python, SQL and JavaScript alike:

- a name is a field of the token's document, a dotted name a field within an object; ``id`` and ``_id``
  are the token's id;
- ``==`` compares type and value (``1`` is not ``"1"`` and not ``true``; ``1 == 1.0``), and is false for a
  field that is not there; ``!=`` is exactly the opposite of ``==``;
- ``<``, ``<=``, ``>``, ``>=`` are true only between two numbers or two strings; strings are ordered by
  code points (JavaScript alone puts characters beyond U+FFFF before U+E000);
- ``size(field)`` is the bytes that a number or a text such as ``4GB`` says, and is compared with such; it fits nothing
  where the field says neither;
- ``is None`` is true for a field that is null or not there; a bare name means that the field is ``true``.

A string in a document should hold no NUL character: SQLite reads it up to there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from picas.selection.parts import (
    JAVASCRIPT_FIELD,
    JAVASCRIPT_SIZE,
    SQL_SIZE,
    Both,
    Compare,
    IsNull,
    Node,
    Not,
    SizeTest,
    StringTest,
    bytes_of,
)
from picas.selection.reading import read

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["JAVASCRIPT_FIELD", "JAVASCRIPT_SIZE", "SQL_SIZE", "Selection", "bytes_of", "fields_of"]


@dataclass(frozen=True)
class Selection:
    """A parsed condition. Make one with `Selection.parse`.

    Example:
        >>> Selection.parse("cores == 4 and site in ('a', 'b')").matches("token_1", {"cores": 4, "site": "b"})
        True
    """

    text: str
    node: Node

    @classmethod
    def parse(cls, text: str) -> Selection:
        """Read a condition.

        Raises:
            SelectionError: it is not one; the message shows where.
        """
        text = text.strip()
        return cls(text, read(text))

    def matches(self, token_id: str, body: Mapping[str, Any]) -> bool:
        """Whether the token with this id and document fits."""
        return self.node.matches(token_id, body)

    def sql(self) -> tuple[str, list[Any]]:
        """An SQLite expression on the columns ``id`` and ``doc``, and the values for its ``?``."""
        params: list[Any] = []
        return self.node.sql(params), params

    def javascript(self) -> str:
        """A JavaScript expression on ``doc``; where it calls ``field`` or ``size``, put `JAVASCRIPT_FIELD` or `JAVASCRIPT_SIZE` before it."""
        return self.node.javascript()

    def __and__(self, other: Selection) -> Selection:
        return Selection(f"({self.text}) and ({other.text})", Both("and", (self.node, other.node)))


def fields_of(selection: Selection) -> set[tuple[str, ...]]:
    """The fields that a condition is about, each as a path; ``("_id",)`` is the token's id."""
    found: set[tuple[str, ...]] = set()
    nodes: list[Node] = [selection.node]
    while nodes:
        node = nodes.pop()
        if isinstance(node, Not):
            nodes.append(node.inner)
        elif isinstance(node, Both):
            nodes.extend(node.nodes)
        elif isinstance(node, (Compare, IsNull, StringTest, SizeTest)):
            found.add(node.field.path)
    return found
