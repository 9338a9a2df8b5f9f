"""``picas init``: try the way to a pool, and keep it in the configuration file."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import click

from picas.cli import options, output, pools, text
from picas.cli.group import verb
from picas.errors import InvalidInput, PoolRefused
from picas.settings import config, configfile
from picas.settings.credentials import KEYRING, NETRC, Source, from_netrc, to_keyring
from picas.stores import connect, path_of
from picas.stores.couch.admin import create_database, set_security, who_am_i
from picas.stores.couch.designs import Designs
from picas.stores.couch.reach import is_here

if TYPE_CHECKING:
    from collections.abc import Iterator

    from picas.settings.configfile import Setting
    from picas.settings.credentials import Login
    from picas.stores.couch.http import Server

_HELP = """Ask for a pool's server, user and password, try them, and keep them in the configuration file.

What is given by options or in the environment is not asked for; without a terminal nothing is. The password is
read from the terminal, from standard input with --password-stdin, or from PICAS_PASSWORD.
"""


@dataclass
class Start:
    """What was found out and done.

    Attributes:
        kept_in: where the password is; "" if there is none.
        designs: what became of the design documents, by name.
    """

    pool: str
    file: str
    user: str | None = None
    kept_in: str = ""
    created: bool = False
    designs: dict[str, str] = field(default_factory=dict)


class InitView(output.View):
    """What was set up."""

    def __init__(self, found: Start) -> None:
        self.found = found

    def data(self) -> dict[str, Any]:
        """See docs/reference/json.md."""
        found = self.found
        return {
            "pool": found.pool,
            "user": found.user,
            "file": found.file,
            "password_in": found.kept_in or None,
            "created": found.created,
            "designs": found.designs,
        }

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """What was made and written, and what to do next."""
        found = self.found
        if found.created:
            yield "made the database"
        for name, outcome in found.designs.items():
            yield f"design document {text.visible(name)}: {outcome}"
        yield f"the pool is {text.visible(found.pool)}" + (
            f", for user {text.visible(found.user)}" if found.user else ""
        )
        yield f"wrote {text.visible(found.file)}"
        if found.kept_in and found.kept_in != found.file:
            yield f"the password is in: {found.kept_in}"
        if os.environ.get(config.POOL_VARIABLE, found.pool) != found.pool:
            yield f"{config.POOL_VARIABLE} is set to another pool, and goes before the file"
        yield "picas check looks closer; picas push FILE puts tokens in"


@verb("init", help=_HELP)
@click.option("--user", metavar="NAME", help="The user; else PICAS_USERNAME, else it is asked for.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.option("--auth", type=click.Choice(config.AUTHENTICATIONS), help="How to tell who asks; basic.")
@click.option("--keyring", is_flag=True, help="Keep the password in the system's keyring, not in the file.")
@click.option("--create", is_flag=True, help="Make the database; this needs a server administrator.")
@click.option("--member", "members", multiple=True, metavar="NAME", help="Who may use it; @NAME is a role.")
@click.option(
    "--admin", "admins", multiple=True, metavar="NAME", help="Who may change its views too; @NAME is a role."
)
@click.option(
    "--guard", is_flag=True, help="With --create: rules by which members change no locks of others."
)
@options.pass_call
def command(
    call: options.Call,
    /,
    *,
    user: str | None,
    password_stdin: bool,
    auth: str | None,
    keyring: bool,
    create: bool,
    guard: bool,
    **given: tuple[str, ...],
) -> output.View:
    """Set up a pool; the help is `_HELP`."""
    members, admins = given["members"], given["admins"]
    if (members or admins or guard) and not create:
        raise InvalidInput("--member, --admin and --guard say who may use a new database", "Add --create.")
    call.given["auth"] = auth
    file = config.config_path()
    url = _url(call, config.load(environ={}, path=file).pool)
    settings = config.load(url, path=file, given=call.given)
    pools.warn(call, call.pool, settings)
    found = Start(settings.pool, str(file))
    if not found.pool.startswith(("http://", "https://")):
        if create or user or password_stdin or keyring:
            raise InvalidInput(f"{found.pool} is on no server", "It has no users, and picas push makes it.")
        path_of(found.pool)  # says what is wrong with it
        configfile.change(file, {"pool": found.pool})
        return InitView(found)
    if found.pool.startswith("http:") and not is_here(urlsplit(found.pool).hostname or ""):
        output.warn("without https whoever is in between can read the password", as_json=call.as_json)
    typed = Source("picas init", user, output.read_secret() if password_stdin else None)
    access = replace(settings.access, sources=_asked(settings, typed, str(file)))
    server, database = connect(found.pool, access)
    with closing(server):
        found.user = who_am_i(server).name
        _see_to_database(found, server, database, create=create)
        if members or admins:
            set_security(server, database, admins, members)
        if guard:
            made = Designs(server, quote(database, safe="")).create_guard()
            found.designs[made.name] = made.outcome
    found.kept_in = _keep_password(server, str(file), keyring=keyring)
    configfile.change(file, {"pool": found.pool, **_settings(access, server.login, found)})
    return InitView(found)


# --- What is asked -----------------------------------------------------------------------------------


def _url(call: options.Call, kept: str) -> str:
    """The pool's URL, as an option or the environment gives it, or as it is answered."""
    given = call.pool or os.environ.get(config.POOL_VARIABLE)
    if given:
        return given
    is_kept = kept.startswith(("http://", "https://"))
    if not output.can_ask():
        if is_kept:
            return kept
        raise InvalidInput(
            "there is nobody to ask which pool it is", "Give --pool https://host:port/database, and --user."
        )
    server, _, database = kept.rpartition("/") if is_kept else ("", "", "")
    server = output.ask("Server, such as https://couchdb.example.org:6984", server)
    if "://" not in server:
        server = f"https://{server}"
    return f"{server.rstrip('/')}/{quote(output.ask('Database', database), safe='')}"


def _asked(settings: config.Settings, typed: Source, file: str) -> tuple[Source, ...]:
    """The places that may have the login, the first of them what is now typed, if there is somebody to ask.

    What the configuration file has is proposed, since it may be what has to be changed.
    """
    sources = (typed, *settings.access.sources)
    if not output.can_ask():
        return sources
    given = [source for source in sources if source.name != file]
    is_named = settings.access.auth != "jwt"
    username = next((source.username for source in given if source.username), None)
    if username is None and is_named:
        proposed = next((source.username for source in sources if source.username), "")
        username = output.ask("User, if there is one", proposed or "")
        if not username:
            return ()
    if any(source.password and source.username in (None, username) for source in given):
        return (Source("picas init", username), *sources)
    if from_netrc(settings.pool, username):
        return (Source("picas init", username), *given)
    is_kept = any(source.password and source.username == username for source in sources)
    what = f"Password of {text.visible(username)}" if username else "Token"
    answer = output.ask_secret(what + (" (the one that is kept, if empty)" if is_kept else ""))
    return (Source("picas init", username, answer or None), *sources)


# --- What is done ------------------------------------------------------------------------------------


def _see_to_database(found: Start, server: Server, database: str, *, create: bool) -> None:
    """Look that the database is there and ours to use, and make it where that is wanted."""
    path = quote(database, safe="")
    if not create and server.request("GET", path, expect=(404,)).status == 404:
        if not output.can_ask() or not output.confirm(f"There is no database {database}. Make it?"):
            raise PoolRefused(
                f"there is no database {database} on {server.url}", "picas init --create makes it."
            )
        create = True
    if create:
        found.created = create_database(server, database)
        found.designs = {made.name: made.outcome for made in Designs(server, path).create_own()}


def _keep_password(server: Server, file: str, *, keyring: bool) -> str:
    """Where the password is kept from now on: where it is already, or in the keyring, or in the file."""
    login = server.login
    if login is None:
        return ""
    if keyring:
        to_keyring(server.url, login)
        return KEYRING
    return login.source if login.source in (NETRC, KEYRING) else file


def _settings(access: config.Access, login: Login | None, found: Start) -> dict[str, Setting]:
    """What ``[couchdb]`` of the configuration file is to say; None for what it is not to have."""
    values: dict[str, Setting] = {
        "username": (login.username or None) if login else None,
        "password": login.password if login and found.kept_in == found.file else None,
        "auth": None if access.auth == "basic" else access.auth,
        "insecure": access.insecure or None,
        **{
            name: os.path.abspath(path) if path else None
            for name, path in (
                ("ca", access.ca),
                ("client-cert", access.client_cert),
                ("client-key", access.client_key),
            )
        },
    }
    return {f"couchdb.{name}": value for name, value in values.items()}
