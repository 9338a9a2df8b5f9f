"""What is done to a CouchDB server now and then rather than by pilots: who am I, a new database, a new password.

The requests are CouchDB's: https://docs.couchdb.org/en/stable/api/
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from picas.errors import InvalidInput, PicasError, PoolRefused, PoolUnavailable
from picas.stores.couch.http import Server

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from picas.settings.config import Access
    from picas.settings.credentials import Login
    from picas.stores.couch.http import Answer

ADMIN = "_admin"
"""The role of those who may do everything on a server."""

MAY_NOT = (401, 403)

PAUSES_SECONDS = (0.0, 0.5, 2.0)
"""Before each try of the new password: a server takes a moment to know it. After five wrong ones it locks us out."""


@dataclass(frozen=True)
class User:
    """Who the server takes us for.

    Attributes:
        name: None for nobody in particular.
    """

    name: str | None
    roles: tuple[str, ...]

    @property
    def is_admin(self) -> bool:
        """Whether this user may do everything on the server."""
        return ADMIN in self.roles


def who_am_i(server: Server) -> User:
    """Log in, and see as whom.

    Raises:
        PoolRefused: the server does not know user and password.
        PoolUnavailable: it does not answer.
    """
    answer = server.request("GET", "_session")
    context = answer.value.get("userCtx") if isinstance(answer.value, dict) else None
    if not isinstance(context, dict):
        raise PoolRefused(f"{server.url} is no CouchDB: it tells nobody who they are", "Check the URL.")
    return User(context.get("name"), tuple(context.get("roles") or ()))


def create_database(server: Server, database: str) -> bool:
    """Make a database, with as many copies and shards as the server makes by itself; False if it is there.

    Raises:
        PoolRefused: its name is none for a database, or we may not.
    """
    answer = server.request("PUT", quote(database, safe=""), expect=(400, 412, *MAY_NOT))
    if answer.status in MAY_NOT:
        raise PoolRefused(
            f"{server.url}: only a server administrator can make the database {database}",
            "Ask one to run: picas init --create --member YOUR_NAME",
        )
    if answer.status == 400:
        raise PoolRefused(
            f"{server.url}: '{database}' is no name for a database",
            "It begins with a small letter; small letters, digits and _ $ ( ) + - / may follow.",
        )
    return answer.status != 412


def set_security(server: Server, database: str, admins: Iterable[str], members: Iterable[str]) -> None:
    """Say who may use a database, and who may change its design documents, beside those who may already.

    Args:
        admins: names of users, or of roles with an ``@`` before them.
        members: the same.

    Raises:
        PoolRefused: we may not.
    """
    path = f"{quote(database, safe='')}/_security"
    found = server.request("GET", path).value or {}
    for kind, added in (("admins", admins), ("members", members)):
        group: dict[str, Any] = dict(found.get(kind) or {})
        for name in added:
            key, plain = ("roles", name[1:]) if name.startswith("@") else ("names", name)
            group[key] = [*dict.fromkeys([*(group.get(key) or []), plain])]
        found[kind] = group
    server.request("PUT", path, found)


def is_database_admin(user: User, security: Any) -> bool:
    """Whether a database's ``_security`` lets this user write design documents."""
    admins = security.get("admins") if isinstance(security, dict) else None
    group = admins if isinstance(admins, dict) else {}
    return (
        user.is_admin
        or user.name in (group.get("names") or ())
        or bool(set(user.roles) & set(group.get("roles") or ()))
    )


# --- Passwords ---------------------------------------------------------------------------------------


def change_password(server: Server, user: User, username: str, password: str) -> None:
    """Give a user a new password: an administrator in the configuration of every node, anybody else in ``_users``.

    Args:
        user: who asks.
        username: whose password it is.

    Raises:
        PoolRefused: there is no such user, or we may not change it.
        InvalidInput: the server has rules for passwords.
    """
    if user.is_admin and _change_administrator(server, username, password):
        return
    path = f"_users/{quote('org.couchdb.user:' + username, safe='')}"
    answer = server.request("GET", path, expect=(404, *MAY_NOT))
    if answer.status in MAY_NOT:  # the default of CouchDB 3
        raise PoolRefused(
            f"{server.url} lets only its administrators change passwords",
            f"Ask one to run: picas passwd {username}",
        )
    if answer.status == 404:
        raise PoolRefused(
            f"{server.url} has no user {username}, or does not show it to {user.name}",
            "You can change your own password, and a server administrator that of others.",
        )
    written = server.request("PUT", path, {**answer.value, "password": password}, expect=(400,))
    _check_taken(server, written)


def exchange_password(server: Server, user: User, new: Login, access: Access, staged: Path | None) -> None:
    """Change a password, and forget the old one only when the server has taken the new one.

    Args:
        user: who asks.
        new: whose password it becomes, and which.
        staged: a file with the new one that is to be put in the place of one with the old one, if there is
            any. It is removed if the old one still holds.

    Raises:
        PoolRefused, InvalidInput: as for `change_password`; or nobody knows which one holds, and both are
            where they were.
    """
    try:
        change_password(server, user, new.username, new.password)
    except PoolUnavailable as error:
        raise _uncertain(server, new.username, error, staged) from error
    except PicasError:
        if staged is not None:
            staged.unlink()
        raise
    try:
        _try(server, new, access)
    except PicasError as error:
        raise _uncertain(server, new.username, error, staged) from error


def _try(server: Server, new: Login, access: Access) -> None:
    """Log in with the new password.

    Raises:
        PoolRefused, PoolUnavailable: that did not work.
    """
    for pause in PAUSES_SECONDS:
        time.sleep(pause)
        with closing(Server(server.url, new, access)) as again:
            try:
                who_am_i(again)
            except PoolRefused:
                if pause == PAUSES_SECONDS[-1]:
                    raise
            else:
                return


def _uncertain(server: Server, name: str, error: PicasError, staged: Path | None) -> PicasError:
    """What to say if nobody knows which password the server has now: neither has been forgotten here."""
    places = f"The old one is where it was, the new one in {staged}. " if staged else ""
    return PoolRefused(
        f"it is not certain which password of {name} {server.url} has now: {error.message}",
        f"{places}Try both, and picas passwd again.",
    )


def _change_administrator(server: Server, username: str, password: str) -> bool:
    """Change it on every node; False if the user is no administrator of the server's own configuration."""
    path = f"_config/admins/{quote(username, safe='')}"
    if server.request("GET", f"_node/_local/{path}", expect=(404,)).status == 404:
        return False
    nodes = server.request("GET", "_membership").value["cluster_nodes"]
    for node in nodes:
        written = server.request("PUT", f"_node/{quote(node, safe='@')}/{path}", password, expect=(400,))
        _check_taken(server, written)
    return True


def _check_taken(server: Server, answer: Answer) -> None:
    if answer.status == 400:
        reason = answer.value.get("reason") if isinstance(answer.value, dict) else None
        raise InvalidInput(
            f"{server.url} does not take this password: {reason or 'it does not say why'}",
            "Nothing was changed. Plain letters, digits and signs are taken everywhere.",
        )
