"""The design documents of our own in a CouchDB database: lean views for claiming, counting and pushing.

They are compared before they are written, since any change makes the server build the index anew, and they
are never written by a pilot that finds them: only where there are none at all.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from picas.stores.http import Server

MAIN = "picas"
"""Claiming and counting: two views that the server brings up to date together."""

PUSH = "picas-push"
"""Push keys, apart: only pushing reads them, so no claim pays for them."""


def documents() -> dict[str, dict[str, Any]]:
    """The design documents by name."""
    return {
        MAIN: {
            "language": "javascript",
            "views": {
                "tokens": {"map": _script("tokens"), "reduce": "_count"},
                "finished": {"map": _script("finished"), "reduce": "_stats"},
            },
        },
        PUSH: {
            "language": "javascript",
            "autoupdate": False,
            "views": {"keys": {"map": _script("push_keys")}},
        },
    }


def ensure(server: Server, database: str) -> None:
    """Write the design documents that are not there.

    Raises:
        PoolRefused: we may not write any.
    """
    for name, wanted in documents().items():
        path = f"{database}/_design/{name}"
        if server.request("GET", path, expect=(404,)).status == 404:
            server.request("PUT", path, wanted, expect=(409,))  # 409: another process was faster


def _script(name: str) -> str:
    """A map function as the server takes it: the file without the comment before it."""
    text = (resources.files("picas.stores") / "views" / f"{name}.js").read_text("utf-8")
    return text[text.index("function") :].strip()
