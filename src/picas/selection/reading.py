"""Reads conditions: Python's syntax tree of one becomes ours, as far as it is in the grammar."""

from __future__ import annotations

import ast
import re
import warnings

from picas.errors import SelectionError
from picas.selection.parts import (
    ORDER,
    STRING_TESTS,
    Both,
    Compare,
    Field,
    IsNull,
    Literal,
    Node,
    Not,
    SizeTest,
    StringTest,
    bytes_of,
)

MAX_SAFE_INTEGER = 2**53 - 1
"""Beyond this JavaScript's numbers are not exact, so a selection could differ between stores."""

MAX_LENGTH = 10_000
"""Characters in a condition; more is a mistake, and would only exhaust the parser's stack."""

MAX_NESTING = 12
"""``not``, ``and`` and ``or`` in each other; the stack of SQLite's parser is small."""

_MIRROR = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
_OPERATORS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
_UNFIT = re.compile("[\0\ud800-\udfff]")

_HELP = "Write conditions like: cores == 4 and site in ('a', 'b') and input.q > 0.5"


def read(text: str) -> Node:
    """Read a condition.

    Raises:
        SelectionError: it is not one; the message shows where.
    """
    if len(text) > MAX_LENGTH:
        raise SelectionError(f"the condition is longer than {MAX_LENGTH} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "\d" in a string is for Python's programs to be warned of
            tree = ast.parse(text, mode="eval")
        return _Reader(text).node(tree.body)
    except SyntaxError as error:
        line, column = error.lineno or 1, (error.offset or 1) - 1
        raise _not_understood(text, line, column, "this is not a condition") from None
    except (ValueError, RecursionError, MemoryError):
        raise SelectionError(f"the condition cannot be read: {text[:80]!r}", _HELP) from None


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
        if isinstance(literal, bool) and sign in ORDER:
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
        if name not in STRING_TESTS or len(tree.args) != 2 or tree.keywords:
            known = ", ".join(f"{test}(field, 'text')" for test in STRING_TESTS)
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
