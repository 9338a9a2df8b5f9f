"""``picas bundle``: a pilot in one file."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from picas.bundling import PICAS_OLDEST
from picas.bundling.loader import FILES
from picas.cli import options, output, text
from picas.cli.group import verb
from picas.errors import InvalidInput
from picas.settings.config import POOL_VARIABLE, check_url
from picas.settings.credentials import split_login

if TYPE_CHECKING:
    from collections.abc import Iterator

    from picas.bundling.archive import Bundle


_HELP = """Make one file of picas, what it needs, and your own files, which runs where only Python is.

FILEs are programs, modules, tables, or folders of them. In the pilot programs are found on the PATH, modules
where Python looks, and all in the folder $PICAS_BUNDLE_FILES:

\b
picas bundle -o pilot.pyz fit.py
python3 pilot.pyz run --call fit:main

What --pool and --ca name is what its pilots use where nothing else is said. A login never goes into a bundle.
"""


class BundleView(output.View):
    """What was made."""

    def __init__(self, made: Bundle) -> None:
        self.made = made

    def data(self) -> dict[str, Any]:
        """See docs/reference/cli.md."""
        return {**asdict(self.made), "oldest": text_of(self.made.oldest)}

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """Where it is, what is in it, what it runs on."""
        made = self.made
        files = f", {text.counted(len(made.files), 'file')} of yours" if made.files else ""
        names = ", ".join(f"{name} {version}" for name, version in made.packages.items())
        yield f"{text.visible(made.path)}: {text.size(made.size)}; {names}{files}"
        ready = f"; compiled for {', '.join(made.pythons)}" if made.pythons else ""
        yield f"runs on Python {text_of(made.oldest)} and newer{ready}"
        if made.oldest > PICAS_OLDEST:
            yield f"  as the packages installed here do; picas bundle --python {text_of(PICAS_OLDEST)} gets older ones"
        yield f"python3 {text.visible(Path(made.path).name)} run"


def text_of(version: tuple[int, int]) -> str:
    """A version of Python as people write it."""
    return f"{version[0]}.{version[1]}"


def parse_python(written: str) -> tuple[int, int]:
    """A version of Python such as ``3.9``.

    Raises:
        InvalidInput: it is none that can be.
    """
    found = re.fullmatch(r"3\.(\d{1,2})(\.\d+)?", written.strip())
    if not found or int(found[1]) < PICAS_OLDEST[1]:
        raise InvalidInput(
            f"'{written}' is no version of Python that picas runs on",
            f"Write {text_of(PICAS_OLDEST)} or a later one.",
        )
    return 3, int(found[1])


@verb("bundle", help=_HELP)
@click.option(
    "-o", "--output", "target", default="pilot.pyz", metavar="FILE", help="What it is called; pilot.pyz."
)
@click.option(
    "--python",
    "oldest",
    callback=options.parsed(parse_python),
    metavar="VERSION",
    help="The oldest Python that it has to run on, such as 3.9.",
)
@click.option(
    "--package",
    "packages",
    multiple=True,
    metavar="NAME",
    help="Another installed package, pure Python, with what it needs; may be given several times.",
)
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE]...")
@options.pass_call
def command(
    call: options.Call,
    /,
    *,
    target: str,
    oldest: tuple[int, int] | None,
    packages: tuple[str, ...],
    files: tuple[Path, ...],
) -> output.View:
    """Make a bundle; the help is `_HELP`."""
    from picas.bundling import archive, contents, userfiles  # noqa: PLC0415 - start-up of the help

    environment, more = _defaults(call)
    own = userfiles.read([*files, *more])
    found = contents.assemble(packages, oldest)
    return BundleView(archive.write(Path(target), found, own, environment))


def _defaults(call: options.Call) -> tuple[dict[str, str], list[Path]]:
    """What the bundle says to its pilots of the pool that was named, and files that they need for that.

    Raises:
        InvalidInput: there is a login in it, which a bundle is not to hold.
    """
    environment, files = {}, []
    if call.pool:
        pool, username, password = split_login(check_url(call.pool, "--pool"))
        if username or password:
            raise InvalidInput(
                "--pool: a bundle holds no login",
                "Send it beside the bundle: see PICAS_CONFIG, PICAS_USERNAME.",
            )
        environment[POOL_VARIABLE] = pool
    if call.given.get("ca"):
        files.append(Path(call.given["ca"]))
        environment["PICAS_CA"] = FILES + files[0].name
    return environment, files
