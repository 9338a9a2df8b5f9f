"""Views of an embedded pool that are functions in JavaScript: a library from PyPI runs them.

On a CouchDB the server does.
"""

from __future__ import annotations

import json
from importlib import import_module
from typing import TYPE_CHECKING, Any

from picas.errors import InvalidInput, MissingExtra

from .view_query import Emitted, built_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .view_query import Reduce

ENGINE = "dukpy"
"""The library that runs JavaScript."""

_PROGRAM = """\
var picas_rows;
function emit(key, value) {
  picas_rows.push([key === undefined ? null : key, value === undefined ? null : value]);
}
function sum(values) {
  var total = 0;
  for (var i = 0; i < values.length; i++) total += values[i];
  return total;
}
function isArray(value) { return Array.isArray(value); }
function toJSON(value) { return JSON.stringify(value); }
function log() {}
function picas_map(docs) {
  var all = [];
  for (var i = 0; i < docs.length; i++) {
    picas_rows = [];
    // As in CouchDB: a document that the function fails at is in no row.
    try { picas_given_map(docs[i]); } catch (error) { picas_rows = []; }
    all.push(picas_rows);
  }
  return all;
}
"""
"""What CouchDB has for map and reduce functions to call."""


class JavaScriptView:
    """A view that is given by functions.

    Args:
        name: what it is called in messages.
        map_fun: the map function.
        reduce_fun: the reduce function, one of CouchDB's own or in JavaScript; empty for none.

    Raises:
        MissingExtra: there is nothing to run it with.
        InvalidInput: it is no function.
    """

    def __init__(self, name: str, map_fun: str, reduce_fun: str = "") -> None:
        self._name = name
        self._engine = _engine(name)
        self._run(_PROGRAM + _function("picas_given_map", map_fun))
        self.reduce: Reduce | None = None
        if reduce_fun:
            self.reduce = built_in(reduce_fun.strip()) or self._reduce
            if self.reduce == self._reduce:
                self._run(_function("picas_given_reduce", reduce_fun))

    def map(self, docs: Sequence[dict[str, Any]]) -> list[list[Emitted]]:
        """The rows of each document."""
        found = self._run("picas_map(dukpy['docs'])", docs=docs)
        return [[Emitted(key, doc["_id"], value) for key, value in rows] for doc, rows in zip(docs, found)]

    def _reduce(self, keys: Sequence[Any], values: Sequence[Any]) -> Any:
        return self._run(
            "[picas_given_reduce(dukpy['keys'], dukpy['values'], false)]", keys=keys, values=values
        )[0]

    def _run(self, program: str, **given: Any) -> Any:
        try:
            return self._engine.evaljs(program + "\n;", **given)
        except Exception as error:  # the library has one of its own
            raise InvalidInput(
                f"the function of the view {self._name} cannot be run: {str(error).strip()}",
                "It is one function expression in JavaScript: function(doc) { emit(doc._id, 1); }",
            ) from error


def _engine(name: str) -> Any:
    try:
        return import_module(ENGINE).JSInterpreter()
    except ImportError as error:
        raise MissingExtra(
            f"the view {name} is a function in JavaScript, which needs {ENGINE} in an embedded pool",
            "Install it: pip install 'picas[javascript]'. The classic five views need none, and a pool on CouchDB.",
        ) from error


def _function(name: str, text: str) -> str:
    # Evaluated apart, so that what is not one expression is an error and not a part of our own program.
    expression = json.dumps(f"({text.strip().rstrip(';')})")
    check = f"if (typeof {name} !== 'function') throw new TypeError('it is a ' + typeof {name});"
    return f"var {name} = (0, eval)({expression}); {check}"
