"""What conditions are made of, each part answered in Python, SQL and JavaScript."""

from __future__ import annotations

import json
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

from picas.errors import InvalidInput
from picas.settings.config import parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_ROW = 30
"""Conditions joined in a row in SQL: each makes the expression deeper by one, and SQLite has a limit."""

Literal = Union[str, int, float, bool]

ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
"""The comparisons for which values need an order."""

STRING_TESTS: dict[str, Callable[[str, str], bool]] = {
    "startswith": str.startswith,
    "endswith": str.endswith,
    "contains": str.__contains__,
}
"""What can be asked of a text."""

_JAVASCRIPT_INHERITED = frozenset(
    "constructor hasOwnProperty isPrototypeOf propertyIsEnumerable toLocaleString toString toSource "
    "valueOf watch unwatch eval".split()
)
"""Names that any JavaScript object answers to without having the field."""

JAVASCRIPT_FIELD = """\
// A field by its path; undefined unless every step is an object's own property.
function field(value) {
  for (var i = 1; i < arguments.length; i++) {
    if (Object.prototype.toString.call(value) !== "[object Object]") return undefined;
    if (!Object.prototype.hasOwnProperty.call(value, arguments[i])) return undefined;
    value = value[arguments[i]];
  }
  return value;
}"""
"""The function that `Selection.javascript` reads nested and oddly named fields with."""

SQL_SIZE = "picas_size"
"""The SQL function that gives the bytes that a text such as ``4GB`` says; whoever opens a pool defines it by `bytes_of`."""

JAVASCRIPT_SIZE = """\
// Bytes: a number, or what a text such as "4GB" says; NaN for anything else.
function size(value) {
  if (typeof value === "number") return value;
  var found = typeof value === "string" && /^\\s*([0-9]+(?:\\.[0-9]*)?|\\.[0-9]+)\\s*(?:([kmgt])(i?))?b?\\s*$/i.exec(value);
  if (!found) return NaN;
  var power = found[2] ? " kmgt".indexOf(found[2].toLowerCase()) : 0;
  return Math.floor(parseFloat(found[1]) * Math.pow(found[3] ? 1024 : 1000, power));
}"""
"""The function that `Selection.javascript` reads sizes with."""


def bytes_of(value: object) -> float | None:
    """How many bytes a field says, as a number or as a text such as ``4GB``; None if it says no such thing."""
    if isinstance(value, str):
        try:
            return parse_size(value)
        except InvalidInput:
            return None
    return None if isinstance(value, bool) or not isinstance(value, (int, float)) else value


@dataclass(frozen=True)
class Field:
    """A place in the document: ``("input", "q")``; ``("_id",)`` is the token's id."""

    path: tuple[str, ...]

    def value(self, token_id: str, body: Mapping[str, Any]) -> Any:
        if self.path == ("_id",):
            return token_id
        found: Any = body
        for name in self.path:
            if not isinstance(found, dict) or name not in found:
                return None
            found = found[name]
        return found

    def javascript(self) -> str:
        if len(self.path) == 1 and _is_plain(self.path[0]):
            return f"doc.{self.path[0]}"
        return f"field(doc, {', '.join(json.dumps(name) for name in self.path)})"


class Node:
    """A condition that can be answered for one token, or written as SQL or JavaScript."""

    def matches(self, token_id: str, body: Mapping[str, Any]) -> bool:
        """Whether the token with this id and body fits."""
        raise TypeError(f"{type(self).__name__} answers no question")

    def sql(self, params: list[Any]) -> str:
        """An SQL expression on columns ``id`` and ``doc`` that is 0 or 1; values go to ``params``."""
        raise TypeError(f"{type(self).__name__} has no SQL")

    def javascript(self) -> str:
        """A JavaScript expression on ``doc``."""
        raise TypeError(f"{type(self).__name__} has no JavaScript")


@dataclass(frozen=True)
class Compare(Node):
    """``field == literal`` and the four orderings; ``!=`` is `Not` of this."""

    field: Field
    op: str
    literal: Literal

    def matches(self, token_id: str, body: Mapping[str, Any]) -> bool:
        value = self.field.value(token_id, body)
        if _kind(value) != _kind(self.literal):
            return False
        return bool(value == self.literal) if self.op == "==" else ORDER[self.op](value, self.literal)

    def sql(self, params: list[Any]) -> str:
        if self.field.path == ("_id",):
            if not isinstance(self.literal, str):
                return "0"
            params.append(self.literal)
            return f"(id {self.op} ?)"
        path = _sql_path(self.field)
        if isinstance(self.literal, bool):
            params.append(path)
            return f"coalesce(json_type(doc, ?) = '{'true' if self.literal else 'false'}', 0)"
        params.extend((path, path, self.literal))
        kinds = "= 'text'" if isinstance(self.literal, str) else "IN ('integer', 'real')"
        return f"coalesce(json_type(doc, ?) {kinds} AND json_extract(doc, ?) {self.op} ?, 0)"

    def javascript(self) -> str:
        read, literal = self.field.javascript(), json.dumps(self.literal)
        if self.op == "==":
            return f"{read} === {literal}"
        return f"(typeof {read} === {json.dumps(_kind(self.literal))} && {read} {self.op} {literal})"


@dataclass(frozen=True)
class IsNull(Node):
    """The field is null or not there."""

    field: Field

    def matches(self, token_id: str, body: Mapping[str, Any]) -> bool:
        return self.field.value(token_id, body) is None

    def sql(self, params: list[Any]) -> str:
        if self.field.path == ("_id",):
            return "0"
        params.append(_sql_path(self.field))
        return "(coalesce(json_type(doc, ?), 'null') = 'null')"

    def javascript(self) -> str:
        return f"{self.field.javascript()} == null"


@dataclass(frozen=True)
class StringTest(Node):
    """``startswith``, ``endswith`` and ``contains`` on a field that is a string."""

    field: Field
    test: str
    text: str

    def matches(self, token_id: str, body: Mapping[str, Any]) -> bool:
        value = self.field.value(token_id, body)
        return isinstance(value, str) and STRING_TESTS[self.test](value, self.text)

    def sql(self, params: list[Any]) -> str:
        if self.field.path == ("_id",):
            is_text, value = "1", "id"
        else:
            is_text, value = "json_type(doc, ?) = 'text'", "json_extract(doc, ?)"
            params.append(_sql_path(self.field))
        if not self.text:
            return f"coalesce({is_text}, 0)"
        if value != "id":
            params.append(_sql_path(self.field))
        params.append(self.text)
        if self.test == "contains":
            condition = f"instr({value}, ?) > 0"
        elif self.test == "startswith":
            condition = f"instr({value}, ?) = 1"
        else:
            condition = f"substr({value}, -{len(self.text)}) = ?"
        return f"coalesce({is_text} AND {condition}, 0)"

    def javascript(self) -> str:
        read, text = self.field.javascript(), json.dumps(self.text)
        size = len(self.text.encode("utf-16-le")) // 2
        condition = {
            "contains": f"{read}.indexOf({text}) !== -1",
            "startswith": f"{read}.slice(0, {size}) === {text}",
            "endswith": f"{read}.slice({-size}) === {text}" if size else "true",
        }[self.test]
        return f"(typeof {read} === 'string' && {condition})"


@dataclass(frozen=True)
class SizeTest(Node):
    """``size(field) > literal`` and the like: bytes, which the field has as a number or as a text such as ``4GB``."""

    field: Field
    op: str
    literal: float

    def matches(self, token_id: str, body: Mapping[str, Any]) -> bool:
        size = bytes_of(self.field.value(token_id, body))
        if size is None:
            return False
        return size == self.literal if self.op == "==" else ORDER[self.op](size, self.literal)

    def sql(self, params: list[Any]) -> str:
        path = _sql_path(self.field)
        params.extend((path, path, path, path, self.literal))
        # json_extract makes numbers of true and false.
        value = f"CASE json_type(doc, ?) WHEN 'text' THEN {SQL_SIZE}(json_extract(doc, ?))"
        value += " WHEN 'integer' THEN json_extract(doc, ?) WHEN 'real' THEN json_extract(doc, ?)"
        return f"coalesce(({value} END) {self.op} ?, 0)"

    def javascript(self) -> str:
        sign = "===" if self.op == "==" else self.op
        return f"(size({self.field.javascript()}) {sign} {self.literal})"


@dataclass(frozen=True)
class Not(Node):
    """The opposite."""

    inner: Node

    def matches(self, token_id: str, body: Mapping[str, Any]) -> bool:
        return not self.inner.matches(token_id, body)

    def sql(self, params: list[Any]) -> str:
        return f"(NOT {self.inner.sql(params)})"

    def javascript(self) -> str:
        return f"!({self.inner.javascript()})"


@dataclass(frozen=True)
class Both(Node):
    """All of the conditions (``and``), or any of them (``or``)."""

    joiner: str
    nodes: tuple[Node, ...]

    def matches(self, token_id: str, body: Mapping[str, Any]) -> bool:
        answers = (node.matches(token_id, body) for node in self.nodes)
        return all(answers) if self.joiner == "and" else any(answers)

    def sql(self, params: list[Any]) -> str:
        parts = [node.sql(params) for node in self.nodes]
        while len(parts) > 1:
            rows = [parts[i : i + _ROW] for i in range(0, len(parts), _ROW)]
            parts = [f"({f' {self.joiner.upper()} '.join(row)})" for row in rows]
        return parts[0]

    def javascript(self) -> str:
        sign = " && " if self.joiner == "and" else " || "
        return "(" + sign.join(node.javascript() for node in self.nodes) + ")"


def _is_plain(name: str) -> bool:
    """Whether ``doc.name`` is JavaScript for the field, and nothing else."""
    inherited = name in _JAVASCRIPT_INHERITED or name.startswith("__")
    return name.isascii() and name.isidentifier() and not inherited


def _kind(value: object) -> str:
    """The JavaScript name of a scalar's type."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    return "string" if isinstance(value, str) else "other"


def _sql_path(field: Field) -> str:
    # With the escapes that the document has: older SQLite compares names as they are written there.
    return "$" + "".join(f".{json.dumps(name)}" for name in field.path)
