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

import ast
import json
import operator
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

from picas.errors import InvalidInput, SelectionError
from picas.settings.config import parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_SAFE_INTEGER = 2**53 - 1
"""Beyond this JavaScript's numbers are not exact, so a selection could differ between stores."""

MAX_LENGTH = 10_000
"""Characters in a condition; more is a mistake, and would only exhaust the parser's stack."""

MAX_NESTING = 12
"""``not``, ``and`` and ``or`` in each other; the stack of SQLite's parser is small."""

_ROW = 30
"""Conditions joined in a row in SQL: each makes the expression deeper by one, and SQLite has a limit."""

Literal = Union[str, int, float, bool]

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_MIRROR = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
_OPERATORS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
_STRING_TESTS: dict[str, Callable[[str, str], bool]] = {
    "startswith": str.startswith,
    "endswith": str.endswith,
    "contains": str.__contains__,
}


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
        return bool(value == self.literal) if self.op == "==" else _ORDER[self.op](value, self.literal)

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
        return isinstance(value, str) and _STRING_TESTS[self.test](value, self.text)

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
        return size == self.literal if self.op == "==" else _ORDER[self.op](size, self.literal)

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
        if len(text) > MAX_LENGTH:
            raise SelectionError(f"the condition is longer than {MAX_LENGTH} characters")
        text = text.strip()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "\d" in a string is for Python's programs to be warned of
                tree = ast.parse(text, mode="eval")
            return cls(text, _Reader(text).node(tree.body))
        except SyntaxError as error:
            line, column = error.lineno or 1, (error.offset or 1) - 1
            raise _not_understood(text, line, column, "this is not a condition") from None
        except (ValueError, RecursionError, MemoryError):
            raise SelectionError(f"the condition cannot be read: {text[:80]!r}", _HELP) from None

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


_JAVASCRIPT_INHERITED = frozenset(
    "constructor hasOwnProperty isPrototypeOf propertyIsEnumerable toLocaleString toString toSource "
    "valueOf watch unwatch eval".split()
)
"""Names that any JavaScript object answers to without having the field."""

_UNFIT = re.compile("[\0\ud800-\udfff]")

_HELP = "Write conditions like: cores == 4 and site in ('a', 'b') and input.q > 0.5"


class _Reader:
    """Turns Python's syntax tree into ours, refusing whatever is not in the grammar."""

    def __init__(self, text: str) -> None:
        self.text = text

        self.depth = 0

    def refuse(self, at: ast.expr, why: str) -> SelectionError:
        line = self.text.split("\n")[at.lineno - 1].encode()
        column = len(line[: at.col_offset].decode())  # the parser counts bytes
        return _not_understood(self.text, at.lineno, column, why)

    def node(self, tree: ast.expr) -> Node:
        if self.depth == MAX_NESTING:
            raise self.refuse(tree, f"more than {MAX_NESTING} conditions are nested in each other")
        self.depth += 1
        node = self.condition(tree)
        self.depth -= 1
        return node

    def condition(self, tree: ast.expr) -> Node:
        if isinstance(tree, ast.BoolOp):
            joiner = "and" if isinstance(tree.op, ast.And) else "or"
            return Both(joiner, tuple(self.node(value) for value in tree.values))
        if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.Not):
            return Not(self.node(tree.operand))
        if isinstance(tree, ast.Compare):
            return self.comparison(tree)
        if isinstance(tree, ast.Call):
            return self.call(tree)
        return Compare(self.field(tree), "==", True)

    def comparison(self, tree: ast.Compare) -> Node:
        sides = [tree.left, *tree.comparators]
        nodes = [self.pair(sides[i], op, sides[i + 1]) for i, op in enumerate(tree.ops)]
        return nodes[0] if len(nodes) == 1 else Both("and", tuple(nodes))

    def pair(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Node:
        if isinstance(op, (ast.In, ast.NotIn)):
            if not isinstance(right, (ast.Tuple, ast.List, ast.Set)) or not right.elts:
                raise self.refuse(right, "after 'in' comes a list, such as ('a', 'b')")
            options = tuple(self.pair(left, ast.Eq(), option) for option in right.elts)
            node = options[0] if len(options) == 1 else Both("or", options)
            return Not(node) if isinstance(op, ast.NotIn) else node
        if isinstance(op, (ast.Is, ast.IsNot)) or _is_none(right):
            if not _is_none(right) or not isinstance(op, (ast.Is, ast.IsNot, ast.Eq, ast.NotEq)):
                raise self.refuse(right, "'is' goes with None only")
            null = IsNull(self.field(left))
            return Not(null) if isinstance(op, (ast.IsNot, ast.NotEq)) else null
        sign = _OPERATORS[type(op)]
        if self.literal(left) is not None:
            left, right, sign = right, left, _MIRROR[sign]
        literal = self.literal(right)
        if isinstance(left, ast.Call) and isinstance(left.func, ast.Name) and left.func.id == "size":
            size = self.size(left, right, "==" if sign == "!=" else sign, literal)
            return Not(size) if sign == "!=" else size
        if literal is None:
            raise self.refuse(right, "a field is compared with a number, a string, True or False")
        if isinstance(literal, bool) and sign in _ORDER:
            raise self.refuse(right, "True and False have no order")
        compare = Compare(self.field(left), "==" if sign == "!=" else sign, literal)
        return Not(compare) if sign == "!=" else compare

    def size(self, tree: ast.Call, right: ast.expr, sign: str, literal: Literal | None) -> Node:
        limit = None if isinstance(literal, bool) else bytes_of(literal)
        if len(tree.args) != 1 or tree.keywords or limit is None:
            raise self.refuse(right, "size(field) is compared with bytes, such as 4000000000 or '4GB'")
        return SizeTest(self.field(tree.args[0]), sign, limit)

    def call(self, tree: ast.Call) -> Node:
        name = tree.func.id if isinstance(tree.func, ast.Name) else ""
        if name not in _STRING_TESTS or len(tree.args) != 2 or tree.keywords:
            known = ", ".join(f"{test}(field, 'text')" for test in _STRING_TESTS)
            raise self.refuse(tree, f"the functions are {known}, and size(field)")
        text = self.literal(tree.args[1])
        if not isinstance(text, str):
            raise self.refuse(tree.args[1], f"{name} takes a string here")
        return StringTest(self.field(tree.args[0]), name, text)

    def field(self, tree: ast.expr) -> Field:
        path: list[str] = []
        place = tree
        while True:
            if isinstance(place, ast.Attribute):
                path.append(place.attr)
                place = place.value
            elif isinstance(place, ast.Subscript):
                key = self.literal(place.slice)
                if not isinstance(key, str) or '"' in key or not key:
                    raise self.refuse(place, 'a field with an odd name is written doc["odd name"]')
                path.append(key)
                place = place.value
            elif isinstance(place, ast.Name):
                break
            else:
                raise self.refuse(place, "here a field's name is expected")
        if place.id != "doc" or not path:
            path.append(place.id)
        path.reverse()
        if path[0].startswith("_") and path != ["_id"]:
            raise self.refuse(tree, "names with a leading '_' belong to the database; there is only _id")
        return Field(("_id",) if path in (["id"], ["_id"]) else tuple(path))

    def literal(self, tree: ast.expr) -> Literal | None:
        sign = 1
        if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, (ast.USub, ast.UAdd)):
            sign = -1 if isinstance(tree.op, ast.USub) else 1
            tree = tree.operand
            if isinstance(tree, ast.Constant) and isinstance(tree.value, (bool, str)):
                raise self.refuse(tree, "a sign goes before a number")
        if not isinstance(tree, ast.Constant) or not isinstance(tree.value, (bool, int, float, str)):
            return None
        value = tree.value
        if isinstance(value, (bool, str)):
            if isinstance(value, str) and _UNFIT.search(value):
                raise self.refuse(tree, "a string cannot hold a NUL character or half a surrogate pair")
            return value
        if not -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
            raise self.refuse(tree, "the number is beyond 2^53 - 1, where stores no longer compare exactly")
        return sign * value


def _not_understood(text: str, line: int, column: int, why: str) -> SelectionError:
    shown = text.split("\n")[min(line, text.count("\n") + 1) - 1]
    pointer = " " * max(0, column) + "^"
    return SelectionError(f"the condition is not understood: {why}\n    {shown}\n    {pointer}", _HELP)


def _is_none(tree: ast.expr) -> bool:
    return isinstance(tree, ast.Constant) and tree.value is None


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
