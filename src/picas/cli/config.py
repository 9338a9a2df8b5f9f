"""``picas config``: the configuration file; what it says is asked for by `picas init`, or taken over from 1.x."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from picas.cli import output, text
from picas.cli.group import VERBS, VerbGroup
from picas.errors import InvalidInput
from picas.settings import classicfile, config, configfile
from picas.settings.credentials import KEYRING, Login, split_login, to_keyring

if TYPE_CHECKING:
    from collections.abc import Iterator


class ImportView(output.View):
    """What was taken over, and where it is now."""

    def __init__(self, source: str, file: str, pool: str, user: str, kept_in: str) -> None:
        self.source = source
        self.file = file
        self.pool = pool
        self.user = user
        self.kept_in = kept_in

    def data(self) -> dict[str, Any]:
        """See docs/reference/json.md."""
        return {
            "source": self.source,
            "file": self.file,
            "pool": self.pool,
            "user": self.user,
            "password_in": self.kept_in,
        }

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """What was written, and how to go on."""
        yield f"the pool is {text.visible(self.pool)}, for user {text.visible(self.user)}"
        yield f"wrote {text.visible(self.file)}, from {text.visible(self.source)}, which stays as it is"
        if self.kept_in != self.file:
            yield f"the password is in: {self.kept_in}"
        yield "picas check looks whether it works"


@click.group(
    "config",
    cls=VerbGroup,
    short_help=VERBS["config"],
    help="The configuration file. `picas init` asks for what it says; here it is taken over from 1.x.",
    no_args_is_help=False,
)
def command() -> None:
    """Only the verbs below do something."""


@command.command("import", short_help="Take over the configuration of PiCaS 1.x.")
@click.argument("file", required=False, metavar="[FILE]", type=click.Path(path_type=Path))
@click.option(
    "--key",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The key of its password; key.dat in ~/.config/picas.",
)
@click.option("--keyring", is_flag=True, help="Keep the password in the system's keyring, not in the file.")
@click.option(
    "--force", is_flag=True, help="Also if the configuration file has another pool or user already."
)
def take_over(*, file: Path | None, key: Path | None, keyring: bool, force: bool) -> output.View:
    """Make the configuration file from that of PiCaS 1.x, ~/.config/picas/conf.yml, or FILE.

    Server, database, user and the decrypted password are taken over; the file of 1.x stays as it is.
    """
    source = file or classicfile.config_path()
    try:
        old = classicfile.read(source)
    except FileNotFoundError:
        raise InvalidInput(
            f"there is no file {source}",
            "Name another: picas config import FILE; or make a new one: picas init.",
        ) from None
    pool = split_login(config.check_url(old.pool, str(source)))[0]
    login = Login(old.username, classicfile.password_of(old, key or classicfile.key_path()))
    target = config.config_path()
    _check_free(target, pool, login, force=force)
    if keyring:
        to_keyring(pool.rpartition("/")[0], login)
    configfile.change(
        target,
        {
            "pool": pool,
            "couchdb.username": login.username,
            "couchdb.password": None if keyring else login.password,
        },
    )
    return ImportView(str(source), str(target), pool, login.username, KEYRING if keyring else str(target))


def _check_free(target: Path, pool: str, login: Login, *, force: bool) -> None:
    """Leave a configuration that says something else as it is, unless that is meant.

    Raises:
        InvalidInput: it says something else.
    """
    if force or not target.exists():
        return
    kept = config.parse(target, target.read_text("utf-8"))
    user = kept.get("couchdb", {}).get("username", login.username)
    if kept.get("pool", pool) != pool or user != login.username:
        raise InvalidInput(
            f"{target} is about {split_login(str(kept.get('pool', pool)))[0]}, user {user}, and not {pool}",
            "To have it replaced, add --force.",
        )
