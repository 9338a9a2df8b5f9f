"""What PiCaS writes into design documents, as data: its own lean views, and the five classic ones.

Each document carries under ``picas`` the version of what wrote it and a digest of its views, so that one that
somebody has edited since can be told from one of another version. What the rows of a view look like never
changes under its name, and a newer document has all views of an older one: so programs of any age share them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from picas.errors import PicasError
from picas.selection import JAVASCRIPT_FIELD, JAVASCRIPT_SIZE, Selection
from picas.stores.scripts import script
from picas.tokens import RESERVED_FIELDS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    Document = dict[str, Any]

VERSION = 1
"""Goes up with any change of what is written here."""

MAIN = "picas"
"""Claiming and counting: two views that the server brings up to date together."""

PUSH = "picas-push"
"""Push keys, apart: only pushing reads them, so no claim pays for them."""

FIELDS = "picas-fields"
"""Begins the names of those that count tokens by what is in some of their fields: see `by_fields`."""

GUARD = "picas-guard"
"""What members may do to tokens: a function that the server asks at each write."""

PILOT_ROLE = "picas-pilot"
"""The role of accounts that the guard lets run tokens, and do nothing else."""

CLASSIC = "Monitor"
"""The design document that every PiCaS program knows, of all tokens."""

NEXT = "-next"
"""At the end of the name under which new views are built, before they take the place of the old ones."""

_LISTS = {
    "todo": "doc.lock == 0 && doc.done == 0",
    "locked": "doc.lock > 0 && doc.done == 0",
    "done": "doc.lock > 0 && doc.done > 0 && parseInt(doc.exit_code) == 0",
    "error": "(doc.lock > 0 && doc.done > 0 && parseInt(doc.exit_code) != 0) || (doc.lock == -1 && doc.done == -1)",
}
"""The classic views that list tokens, and for which they do; ``parseInt`` of what is no number is not 0."""

TOTALS = "overview_total"

CLASSIC_VIEWS = (*_LISTS, TOTALS)


@dataclass(frozen=True)
class Judged:
    """What a design document is to us.

    Attributes:
        kind: ``own``: ours, for claiming; ``fields``: ours, for autopilot; ``guard``: ours, which says who may write what; ``classic``: the five classic views; ``building``: views that are
            to take the place of others; ``other``: what has nothing to do with PiCaS.
        ours: whether PiCaS has written it.
        standing: of ours ``current``, ``older``, ``newer`` (than this program) or ``edited`` by somebody else.
        where: the condition of a classic one of ours; empty for all tokens.
    """

    kind: str
    ours: bool = False
    standing: str = ""
    where: str = ""


def own() -> dict[str, Document]:
    """Our own design documents by name."""
    return {
        MAIN: _marked(
            {
                "tokens": {"map": _script("tokens", "state"), "reduce": "_count"},
                "finished": {"map": _script("finished", "state"), "reduce": "_sum"},
            }
        ),
        # Nobody waits for push keys but who pushes: the server need not keep them up to date.
        PUSH: {**_marked({"keys": {"map": _script("push_keys")}}), "autoupdate": False},
    }


def by_fields(fields: Sequence[Sequence[str]]) -> tuple[str, Document]:
    """Name and content of the design document that counts tokens by what is in these fields.

    Args:
        fields: each as a path.
    """
    paths = json.dumps([list(path) for path in fields])
    name = f"{FIELDS}-{hashlib.sha256(paths.encode()).hexdigest()[:8]}"
    script = _script("fields", "state").replace("FIELDS", paths)
    return name, _marked({"count": {"map": script, "reduce": "_count"}})


def guard() -> Document:
    """The design document that says what members may do to tokens."""
    written = json.dumps(sorted(RESERVED_FIELDS - {"type"}))
    function = _script("guard").replace('"fields that pilots write"', written)
    doc = {"language": "javascript", "validate_doc_update": function}
    return {**doc, "picas": {"version": VERSION, "digest": _text_digest(function)}}


def classic(where: Selection | None = None) -> Document:
    """The five classic views, of all tokens or of those that fit."""
    return _marked(_classic_views(where), where.text if where else "")


def judge(name: str, doc: Mapping[str, Any]) -> Judged:
    """What the design document of this name is."""
    mark = _mark(doc)
    if name.endswith(NEXT) and mark:
        return Judged("building", ours=True)
    if name == GUARD:
        return Judged("guard", ours=bool(mark), standing=_standing_of_guard(doc, mark))
    if name.startswith(FIELDS) and mark:
        return Judged(
            "fields", ours=True, standing="current" if digest(doc) == mark.get("digest") else "edited"
        )
    wanted = own().get(name)
    if wanted is not None:
        return Judged("own", ours=True, standing=_standing(doc, mark, wanted, None))
    if not set(CLASSIC_VIEWS) <= _views(doc).keys():
        return Judged("other")
    if not mark:
        return Judged("classic")
    where = str(mark.get("where", ""))
    try:
        wanted = classic(Selection.parse(where) if where else None)
    except PicasError:  # a condition of a later version
        wanted = None
    return Judged("classic", ours=True, standing=_standing(doc, mark, wanted, CLASSIC_VIEWS), where=where)


def is_readable(name: str, doc: Mapping[str, Any]) -> bool:
    """Whether the views that we read in our own design document of this name are what they should be."""
    wanted = own()[name]
    needed = wanted["views"]
    if digest(doc, needed) == digest(wanted, needed):
        return True
    mark = _mark(doc)
    return (
        mark.get("version", VERSION) > VERSION
        and mark.get("digest") == digest(doc)
        and needed.keys() <= _views(doc).keys()
    )


def known_list(view: object) -> str | None:
    """Which of the classic views, of all tokens, a view is that programs of 1.x write; None for any other.

    They differ by blanks, quotes and semicolons from each other, and from ours by nothing that counts.
    """
    if not isinstance(view, dict) or not isinstance(view.get("map"), str):
        return None
    text = _plain(view["map"])
    if text.startswith(_HEAD) and text.endswith("}}"):
        body = text[len(_HEAD) : -2]
        for name, test in _TESTS.items():
            if body in (f"if({test}){{{_EMIT}}}", f"if({test}){_EMIT}"):
                return name
        if _plain(view.get("reduce") or "") not in _SUMS:
            return None
        totals = [f'if({test}){{emit("{name}",1)}}' for name, test in _TESTS.items()]
        return TOTALS if body == "".join(totals) else None
    return None


def _plain(text: str) -> str:
    return "".join(text.split()).replace("'", '"').replace(";", "")


_HEAD = 'function(doc){if(doc.type=="token"){'
_EMIT = "emit(doc._id,doc._id)"
_TESTS = {name: "".join(test.split()) for name, test in _LISTS.items()}
_TESTS["error"] = "doc.lock>0&&doc.done>0&&parseInt(doc.exit_code)!=0"
_SUMS = ("_sum", "function(key,values,rereduce){returnsum(values)}")


def slow_reduce(doc: Mapping[str, Any]) -> bool:
    """Whether the totals are summed in JavaScript, which costs five times what the server's own sum does."""
    total = _views(doc).get(TOTALS)
    reduce = total.get("reduce") if isinstance(total, dict) else None
    return isinstance(reduce, str) and not reduce.startswith("_")


def digest(doc: Mapping[str, Any], names: Collection[str] | None = None) -> str:
    """Tells apart design documents whose views, or those of these names, give other rows."""
    views = _views(doc)
    content = {
        "language": doc.get("language", "javascript"),
        "options": doc.get("options") or {},
        "views": views if names is None else {name: views.get(name) for name in sorted(names)},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _standing(
    doc: Mapping[str, Any],
    mark: Mapping[str, Any],
    wanted: Document | None,
    names: Collection[str] | None,
) -> str:
    found = digest(doc, names)
    if wanted is not None and found == digest(wanted, names):
        return "current"
    if found != mark.get("digest"):
        return "edited"
    return "newer" if mark["version"] > VERSION else "older"


def _standing_of_guard(doc: Mapping[str, Any], mark: Mapping[str, Any]) -> str:
    function = doc.get("validate_doc_update")
    if function == guard()["validate_doc_update"]:
        return "current"
    if not mark or mark.get("digest") != _text_digest(str(function)):
        return "edited"
    return "newer" if mark["version"] > VERSION else "older"


def _text_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _mark(doc: Mapping[str, Any]) -> dict[str, Any]:
    """What we note of ourselves in a design document; empty in one of others."""
    mark = doc.get("picas")
    return mark if isinstance(mark, dict) and type(mark.get("version")) is int else {}


def _marked(views: Document, where: str = "") -> Document:
    doc = {"language": "javascript", "views": views}
    mark: Document = {"version": VERSION, "digest": digest(doc, views)}
    if where:
        mark["where"] = where
    return {**doc, "picas": mark}


def _views(doc: Mapping[str, Any]) -> dict[str, Any]:
    views = doc.get("views")
    return views if isinstance(views, dict) else {}


def _classic_views(where: Selection | None) -> Document:
    head = ["function (doc) {"]
    if where is not None:
        condition = where.javascript()
        shown = " ".join(where.text.encode("unicode_escape").decode("ascii").split())
        head.append(f"  // Tokens where {shown}")
        if "field(" in condition:
            head += _indented(JAVASCRIPT_FIELD)
        if "size(" in condition:
            head += _indented(JAVASCRIPT_SIZE)
        refused = f'doc.type !== "token" || !({condition})'
    else:
        refused = 'doc.type !== "token"'
    head.append(f"  if ({refused}) return;")
    views: Document = {
        state: {"map": "\n".join([*head, f"  if ({test}) emit(doc._id, doc._id);", "}"])}
        for state, test in _LISTS.items()
    }
    totals = [f'  if ({test}) emit("{state}", 1);' for state, test in _LISTS.items()]
    views[TOTALS] = {"map": "\n".join([*head, *totals, "}"]), "reduce": "_sum"}
    return views


def _script(name: str, *helpers: str) -> str:
    """A map function as the server takes it, with the functions that it calls within it.

    The server takes one function expression for each view, without a comment before it.
    """
    head, _, body = _source(name).partition("\n")
    inner = [line for helper in helpers for line in _indented(_source(helper))]
    return "\n".join([head, *inner, body])


def _source(name: str) -> str:
    text = script(f"views/{name}.js")
    return text[text.index("function") :].strip()


def _indented(text: str) -> list[str]:
    return [f"  {line}".rstrip() for line in text.splitlines()]
