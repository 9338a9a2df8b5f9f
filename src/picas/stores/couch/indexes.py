"""Choosing the index of a CouchDB database by what is there and what we may write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from picas.errors import InvalidInput, PoolRefused
from picas.stores.couch.classic_index import ClassicIndex, ViewClaims
from picas.stores.couch.designs import Designs
from picas.stores.couch.map_view import MapView, split_name
from picas.stores.couch.own_index import OwnIndex
from picas.stores.design import CLASSIC, MAIN
from picas.tokens import State

if TYPE_CHECKING:
    from picas.stores.couch.http import Server
    from picas.stores.couch.index import Claimable, Index


def open_index(server: Server, database: str) -> Index:
    """Our own design documents, written where there are none; where we may not, the classic ones.

    Args:
        database: the database's name, quoted.

    Raises:
        PoolRefused: there is neither, or what is there cannot be used.
        PoolUnavailable: the server does not answer.
    """
    designs = Designs(server, database)
    if designs.ensure(MAIN):
        return OwnIndex(server, database, designs)
    if not MapView(server, database, CLASSIC, State.TODO.value).exists():
        raise PoolRefused(
            f"{server.url}/{database} has no views that tokens can be found by, and we may not write any",
            designs.how_to_get_views,
        )
    return ClassicIndex(server, database)


def open_view(server: Server, database: str, name: str) -> Claimable:
    """What claims look at that are to take only what a view lists.

    Args:
        database: the database's name, quoted.
        name: the design document and the view, such as ``SingleCore/todo``.

    Raises:
        InvalidInput: there is no such view.
    """
    view = MapView(server, database, *split_name(name))
    if not view.exists():
        missing = view.missing()
        raise InvalidInput(missing.message, missing.advice)
    return ViewClaims(server, database, view)
