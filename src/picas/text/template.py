"""Text with fields in it: ``run {input} -q {q}`` becomes a token's input, or an argument of its command.

- ``{name}`` is the value of that field, ``{input.q}`` a field within an object (or ``{list.0}`` within a
  list), ``{id}`` the token's id. A string stands as it is, null as nothing, anything else as JSON.
- ``{{name}}`` is the text ``{name}``, and ``{{{name}}}`` the value in braces: around a name, braces are
  halved as in Python's ``str.format``.
- Everything else stays as it is, other braces too, so that awk's ``{print $1}``, find's ``{}`` and JSON need
  no quoting.
- A name that the token does not have is an error, never an empty string: a command with a hole in it can do
  harm.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from picas.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ID_NAMES = frozenset(("id", "_id"))
"""Under these names a template finds the token's id."""

MAX_NAMES_SHOWN = 20
"""Fields listed in an error message."""

_NAME = r"[^\W\d][\w-]*(?:\.[\w-]+)*"
_PLACE = re.compile(r"(?<!\{)(\{+)(" + _NAME + r")(\}+)")
_WHOLE_NAME = re.compile(_NAME)
_MISSING = object()


class Template:
    """A template that is read once and filled in many times.

    Args:
        text: see the module's description; every text is a template.
    """

    __slots__ = ("_pieces", "_tail", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        # a literal text and the name that follows it, … and the text after the last name
        pieces: list[tuple[str, str]] = []
        literal, at = "", 0
        for place in _PLACE.finditer(text):
            opening, name, closing = place.groups()
            depth = min(len(opening), len(closing))
            literal += text[at : place.start()] + "{" * (len(opening) - depth + depth // 2)
            if depth % 2:
                pieces.append((literal, name))
                literal = ""
            else:
                literal += name
            literal += "}" * (len(closing) - depth + depth // 2)
            at = place.end()
        self._pieces = tuple(pieces)
        self._tail = literal + text[at:]

    @property
    def names(self) -> tuple[str, ...]:
        """The names that are replaced, each once, in their order."""
        return tuple(dict.fromkeys(name for _, name in self._pieces))

    def render(self, fields: Mapping[str, Any], token_id: str | None = None) -> str:
        """The text for one token.

        Args:
            fields: the token's fields by name.
            token_id: its id; None before it has one, and then ``{id}`` can only be a field of that name.

        Raises:
            InvalidInput: a name is none of the fields.
        """
        parts: list[str] = []
        for literal, name in self._pieces:
            value = fields.get(name, _MISSING)
            if value is _MISSING or name in ID_NAMES:
                value = self._look_up(name, fields, token_id)
            parts.append(literal)
            parts.append(value if type(value) is str else as_text(value))
        parts.append(self._tail)
        return "".join(parts)

    def _look_up(self, name: str, fields: Mapping[str, Any], token_id: str | None) -> Any:
        if name in ID_NAMES and token_id is not None:
            return token_id
        if name in fields:
            return fields[name]
        found: Any = fields
        for step in name.split("."):
            if isinstance(found, list) and step.isdecimal() and int(step) < len(found):
                found = found[int(step)]
            elif not isinstance(found, list) and hasattr(found, "keys") and step in found:
                found = found[step]
            else:
                raise InvalidInput(
                    f"'{{{name}}}' in {self.text!r} is no field of the token", _help(name, fields)
                )
        return found


def _help(name: str, fields: Mapping[str, Any]) -> str:
    known = sorted(fields)[:MAX_NAMES_SHOWN]
    more = ", …" if len(fields) > len(known) else ""
    early = (
        " A token that is being pushed has no id yet, unless the file names one." if name in ID_NAMES else ""
    )
    listed = ", ".join(known) + more if known else "none"
    return f"Its fields are: {listed}.{early} For the text {{{name}}} itself write {{{{{name}}}}}."


def as_text(value: Any) -> str:
    """A field's value as a command sees it: a string as it is, null as ``""``, anything else as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    # what JSON makes of them, in a tenth of the time
    if type(value) is int or type(value) is float:
        return repr(value)
    return json.dumps(value, ensure_ascii=False)


@lru_cache(maxsize=1024)
def compiled(text: str) -> Template:
    """The template of this text, from a cache: the same few come again for every token."""
    return Template(text)


def render(template: str, fields: Mapping[str, Any], token_id: str | None = None) -> str:
    """Fill in a template; see `Template.render`.

    Example:
        >>> render("run -q {q} {input.file}", {"q": 0.5, "input": {"file": "a.fits"}})
        'run -q 0.5 a.fits'

    Raises:
        InvalidInput: a name is none of the fields.
    """
    return compiled(template).render(fields, token_id)


def render_argv(argv: Sequence[str], fields: Mapping[str, Any], token_id: str | None = None) -> list[str]:
    """Fill in each argument of a command. An argument stays one argument, whatever its value has in it.

    Raises:
        InvalidInput: a name is none of the fields.
    """
    return [compiled(argument).render(fields, token_id) for argument in argv]


def names(template: str) -> tuple[str, ...]:
    """The names that a template replaces, each once, in their order."""
    return compiled(template).names


def is_name(text: str) -> bool:
    """Whether a field of this name can stand in a template."""
    return _WHOLE_NAME.fullmatch(text) is not None
