"""What is to be staged for a token, as its fields and the pilot's owner say, and whether they may.

Whoever writes tokens could else have the pilot read and write any file that its user can, with that user's credentials.
So a token may name any place only where it says itself what is run on the machine, or where a trusted key has signed it.
Otherwise it may name what is at the sites that the pilot's owner has named. Credentials are for those sites alone.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from picas.errors import InfrastructureError, InvalidInput
from picas.programs import find
from picas.staging import IN, OUT, places, sums
from picas.text import template

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from picas.staging.places import Place
    from picas.tokens import Token

TRIES = 5
"""How often one file is tried before its attempt has failed; tries that brought it on do not count."""

MOST_FILES = 10_000
"""More than that is a list that somebody got wrong."""

PAUSES = (0.5, 30.0)
"""Shortest and longest pause between two tries, seconds."""

COMMAND_FIELDS = frozenset(("source", "destination", "source_url", "destination_url"))
"""What stands in braces in a user's own copying command."""

_WILD = ("*", "?", "[")
_FORM = 'Write a URL, {"url": …, "path": …, "checksum": …} or a list of these.'


@dataclass(frozen=True)
class Item:
    """One file, or with a pattern as its path several, to be fetched or brought away.

    Attributes:
        url: from where or to where.
        path: in the token's working directory.
        checksum: as of `picas.staging.sums`; what is brought away may have an algorithm's name alone; "" for none.
        known: the place is of a site of the pilot's owner, which may see the user's credentials.
        within: of files of this machine, the directory that they are in behind all links; "" for anywhere.
    """

    url: str
    path: str
    checksum: str = ""
    known: bool = False
    within: str = ""

    @property
    def is_pattern(self) -> bool:
        """Whether the path may stand for several files."""
        return any(letter in self.path for letter in _WILD)


class Staging:
    """What the pilot's owner wants staged, and allows.

    Args:
        stage_in, stage_out: for every token: ``PATH=URL``, a URL whose last part is the path, or a mapping as in tokens;
            with ``{field}`` in it.
        sites: places that tokens may name and that get this user's credentials: URLs and absolute paths, which
            hold for what is below them.
        command: copies in place of what is built in, such as ``rclone copyto {source} {destination}``.
        tries: how often one file is tried.
        pauses: shortest and longest pause between two tries, seconds.

    Raises:
        InvalidInput: one of them cannot be used.
    """

    def __init__(
        self,
        stage_in: Sequence[str | Mapping[str, str]] = (),
        stage_out: Sequence[str | Mapping[str, str]] = (),
        sites: Sequence[str] = (),
        command: str | None = None,
        tries: int = TRIES,
        pauses: tuple[float, float] = PAUSES,
    ) -> None:
        if tries < 1:
            raise InvalidInput(f"--stage-tries is {tries}; it must be at least 1")
        self.command = _command(command) if command else []
        self.tries = tries
        self.pauses = pauses
        self._foreign = bool(command)
        self._sites = [places.parse(site, foreign=self._foreign) for site in sites]
        self._rules = {IN: self._read_rules(IN, stage_in), OUT: self._read_rules(OUT, stage_out)}

    @property
    def for_all(self) -> bool:
        """Whether something is staged for every token."""
        return bool(self._rules[IN] or self._rules[OUT])

    def items(self, token: Token, direction: str, *, trusted: bool) -> list[Item]:
        """What is to be staged for a token.

        Args:
            direction: `IN` or `OUT`.
            trusted: the token may name any place.

        Raises:
            InfrastructureError: the token's fields cannot be meant, or name a place that they may not.
        """
        try:
            found = [
                self._rendered(rule, token, direction, trusted=trusted) for rule in self._rules[direction]
            ]
            found += [
                self._item(entry, direction, None, trusted=trusted)
                for entry in _entries(token.body.get(direction))
            ]
        except InvalidInput as error:
            raise InfrastructureError(
                f"the token's {direction} cannot be used: {error.message}", error.advice, of_token=True
            ) from error
        if direction == IN:
            _check_distinct(found)
        return found

    def _rendered(self, rule: Mapping[str, str], token: Token, direction: str, *, trusted: bool) -> Item:
        entry = {name: template.render(text, token.body, token.id) for name, text in rule.items()}
        return self._item(entry, direction, rule["url"], trusted=trusted)

    def _item(self, entry: Mapping[str, Any], direction: str, rule: str | None, *, trusted: bool) -> Item:
        """An item that is allowed.

        Args:
            rule: the URL as the pilot's owner wrote it, with fields in it; None for a token's own.

        Raises:
            InvalidInput: it cannot be meant.
            InfrastructureError: it is not allowed.
        """
        unknown = entry.keys() - {"url", "path", "checksum"}
        if unknown:
            raise InvalidInput(f"it has '{min(unknown):.50}', which means nothing", _FORM)
        place = places.parse(entry.get("url"), foreign=self._foreign)
        path = _checked_path(entry.get("path") or place.name)
        checksum = sums.parse(entry["checksum"], bare=direction == OUT) if entry.get("checksum") else ""
        item = Item(place.url, path, checksum)
        if item.is_pattern and direction == IN:
            raise InvalidInput(f"'{path}' is a pattern; what is fetched has one name", "Name each file.")
        if direction == OUT and place.is_folder and not item.is_pattern:
            item = Item(place.url + PurePosixPath(path).name, path, checksum)
        if item.is_pattern and not place.is_folder:
            raise InvalidInput(
                f"several files would go to one place, {places.shown(place.url)}", "End it in '/'."
            )
        if place.is_folder and direction == IN:
            raise InvalidInput(f"{places.shown(place.url)} is a folder", "Stage files, one by one.")
        if item.is_pattern and item.checksum.find(":") > 0:
            raise InvalidInput("several files have one checksum", "Name the algorithm alone.")
        return self._allowed(item, place, direction, rule, trusted=trusted)

    def _allowed(self, item: Item, place: Place, direction: str, rule: str | None, *, trusted: bool) -> Item:
        sites = list(self._sites)
        if rule is not None and not template.names(rule):
            return Item(item.url, item.path, item.checksum, known=True)
        if rule is not None:
            sites += self._site_of(rule)
        for site in sites:
            if places.is_within(place, site):
                within = site.path if place.scheme == places.FILE and not trusted else ""
                return Item(item.url, item.path, item.checksum, known=True, within=within)
        if trusted:
            return item
        raise InfrastructureError(
            f"the token's {direction} names {places.shown(place.url)}, which is at no site that this pilot's owner has named",
            "Start the pilot with --stage-site PLACE, or push the token signed.",
        )

    def _site_of(self, rule: str) -> list[Place]:
        """The site that a URL with fields in it is at, as far as its owner wrote it: fields begin below a folder."""
        written = rule.partition("{")[0]
        written = written[: max(written.rfind("/"), written.rfind(":")) + 1]
        try:
            site = places.parse(written, foreign=self._foreign)
        except InvalidInput:
            return []
        has_host = bool(site.host) and "/" in written.partition("://")[2]
        is_path = site.scheme == places.FILE and site.path.strip("/") != ""
        return [site] if has_host or is_path or site.is_foreign else []

    def _read_rules(self, direction: str, written: Sequence[str | Mapping[str, str]]) -> list[dict[str, str]]:
        option = "--" + direction.replace("_", "-")
        try:
            rules = [_rule(each) for each in written]
            for rule in rules:
                if not any(template.names(text) for text in rule.values()):
                    self._item(rule, direction, rule["url"], trusted=True)
        except InvalidInput as error:
            raise InvalidInput(f"{option}: {error.message}", error.advice) from error
        return rules


def _entries(written: Any) -> list[Mapping[str, Any]]:
    """The entries of a token's field, each as a mapping.

    Raises:
        InvalidInput: it is something else.
    """
    if not written:
        return []
    entries = written if isinstance(written, list) else [written]
    if len(entries) > MOST_FILES:
        raise InvalidInput(
            f"it has {len(entries):,} files", f"Stage {MOST_FILES:,} at the most, or an archive."
        )
    found = [{"url": each} if isinstance(each, str) else each for each in entries]
    if not all(isinstance(each, dict) for each in found):
        raise InvalidInput("it is no list of files", _FORM)
    return found


def _rule(written: str | Mapping[str, str]) -> dict[str, str]:
    """What an owner wants staged for each token: the texts of a URL and, if they are given, a path and a checksum.

    Raises:
        InvalidInput: it is nothing that can be staged.
    """
    if isinstance(written, str) and written.startswith('{"'):
        try:
            written = json.loads(written)
        except ValueError as error:
            raise InvalidInput(f"it is no JSON: {error}", _FORM) from None
    if isinstance(written, str):
        path, separator, url = written.partition("=")
        # A URL may have one in its query.
        if not separator or ":" in path or path.startswith("/"):
            return {"url": written}
        return {"url": url, "path": path}
    if not isinstance(written, dict) or not all(isinstance(text, str) for text in written.values()):
        raise InvalidInput(f"{written!r} cannot be staged", _FORM)
    if "url" not in written:
        raise InvalidInput("it has no 'url'", _FORM)
    return dict(written)


def _checked_path(path: object) -> str:
    """A path that stays in the token's working directory.

    Raises:
        InvalidInput: it does not.
    """
    steps = path.split("/") if isinstance(path, str) else [".."]
    if not isinstance(path, str) or path.startswith(("/", "~")) or ".." in steps or not path.isprintable():
        raise InvalidInput(
            f"'{path}' is no path within the token's directory", "Write one that is relative: data/a.fits."
        )
    plain = PurePosixPath(path).as_posix()
    if plain == "." or path.endswith("/"):
        raise InvalidInput("it has no 'path', and its URL ends in none", _FORM)
    return plain


def _check_distinct(items: Sequence[Item]) -> None:
    seen: set[str] = set()
    for item in items:
        if item.path in seen:
            raise InfrastructureError(
                f"the token's {IN} has two files of the name {item.path}",
                "Give each a 'path' of its own.",
                of_token=True,
            )
        seen.add(item.path)


def _command(written: str) -> list[str]:
    """A user's own copying command as a list, its program found.

    Raises:
        InvalidInput: it cannot be run, or copies nothing.
    """
    try:
        argv = shlex.split(written)
    except ValueError as error:
        raise InvalidInput(f"--stage-command: {error}", "Look at its quotes.") from None
    named = {name for part in argv for name in template.names(part)}
    if not named <= COMMAND_FIELDS or not {name.partition("_")[0] for name in named} == {
        "source",
        "destination",
    }:
        raise InvalidInput(
            "--stage-command needs {source} and {destination}, and no other field",
            "Such as: --stage-command 'rclone copyto {source} {destination}'.",
        )
    return [find(argv[0]), *argv[1:]]
