"""``picas passwd``: a new password, on the server and where it is kept here."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from picas.cli import options, output, pools, text
from picas.cli.group import verb
from picas.errors import ConfigError, InvalidInput
from picas.settings import config, configfile
from picas.settings.credentials import KEYRING, Login, to_keyring
from picas.stores import connect
from picas.stores.couch.admin import exchange_password, who_am_i

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from picas.stores.couch.http import Server


class PasswordView(output.View):
    """Whose password was changed, and where.

    Args:
        changed: the place here that has the new one; "" for none.
        old: a place that still has the old one; "" for none.
    """

    def __init__(self, server: str, user: str, changed: str, old: str) -> None:
        self.server = server
        self.user = user
        self.changed = changed
        self.old = old

    def data(self) -> dict[str, Any]:
        """See docs/reference/json.md."""
        return {
            "server": self.server,
            "user": self.user,
            "password_in": self.changed or None,
            "old_in": self.old or None,
        }

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """What was changed, and what is left to do."""
        yield f"{text.visible(self.server)} has the new password of {text.visible(self.user)}, and accepts it"
        if self.changed:
            yield f"so has: {text.visible(self.changed)}"
        if self.old:
            yield f"the old one is still in {text.visible(self.old)}: change it there"
        yield "pilots that were started with the old one will be refused: start them anew"


@verb("passwd")
@click.argument("user", required=False, metavar="[USER]")
@click.option("--password-stdin", is_flag=True, help="Read the new password from standard input.")
@options.pass_call
def command(call: options.Call, user: str | None, password_stdin: bool) -> output.View:  # noqa: FBT001 - click's way
    """Change your password on the pool's server, and in the configuration file or keyring that has it.

    The old one is forgotten only when the server has accepted the new one. An administrator may change the
    password of another USER.
    """
    settings = call.settings
    if not settings.pool.startswith(("http://", "https://")):
        raise InvalidInput(f"{settings.pool} is on no server", "It has no users and no passwords.")
    pools.warn(call, call.pool, settings)
    server = connect(settings.pool, settings.access)[0]
    with closing(server):
        login = server.login
        if login is None or settings.access.auth == "jwt":
            raise InvalidInput(
                "there is no password that could be changed", "picas init asks for user and password."
            )
        myself = who_am_i(server)
        name = user or login.username
        new = Login(name, _new_password(name, from_stdin=password_stdin))
        own = name == login.username
        staged = _stage(login, new) if own else None
        exchange_password(server, myself, new, settings.access, staged)
    changed, old = _keep(server, login, new, staged) if own else ("", "")
    return PasswordView(server.url, name, changed, old)


def _new_password(name: str, *, from_stdin: bool) -> str:
    if from_stdin:
        password = output.read_secret()
    elif output.can_ask():
        password = output.ask_secret(f"New password of {text.visible(name)}")
        if password and output.ask_secret("The same again") != password:
            raise InvalidInput("the two passwords differ", "Nothing was changed.")
    else:
        raise InvalidInput("there is nobody to ask for the new password", "Give it by --password-stdin.")
    if not password:
        raise InvalidInput("the new password is empty", "Nothing was changed.")
    return password


def _stage(login: Login, new: Login) -> Path | None:
    """Write the new password beside the configuration file, if that is where the old one is."""
    file = config.config_path()
    if login.source != str(file):
        return None
    return configfile.stage(file, {"couchdb.password": new.password})


def _keep(server: Server, login: Login, new: Login, staged: Path | None) -> tuple[str, str]:
    """Put the new password where the old one was, if that is ours to write; that place, or the other one."""
    if staged is not None:
        staged.replace(config.config_path().resolve())
        return login.source, ""
    if login.source != KEYRING:
        return "", login.source
    try:
        to_keyring(server.url, new)
    except ConfigError as error:
        raise ConfigError(
            f"{server.url} has the new password, but {error.message}", "picas init --keyring tries again."
        ) from error
    return KEYRING, ""
