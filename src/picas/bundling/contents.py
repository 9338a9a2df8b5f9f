"""What goes into a bundle: picas and the installed packages that it needs, their modules in pure Python."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from picas.bundling import PICAS_OLDEST
from picas.bundling.fetching import fetch
from picas.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

OWN = "picas"

_LEFT_OUT = ("testing/",)
"""Folders of picas that no pilot has a use for."""

_COMPILED = re.compile(r"(\.[^/.]*)?\.(so|pyd|dylib)$")
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*\(?([^;)]*)\)?\s*(?:;(.*))?")
_BEFORE = re.compile(r"\(?\s*python(?:_full)?_version\s*(<=?)\s*['\"]3\.(\d+)[^'\"]*['\"]\s*\)?")
_AT_LEAST = re.compile(r">=?\s*3\.(\d+)|~=\s*3\.(\d+)")


@dataclass(frozen=True)
class Package:
    """One distribution in a bundle.

    Attributes:
        name: as it is installed.
        version: of it.
        oldest: the oldest Python that it runs on.
        files: its content by the place in the bundle.
    """

    name: str
    version: str
    oldest: tuple[int, int]
    files: dict[str, bytes]


@dataclass(frozen=True)
class Requirement:
    """What a package needs.

    Attributes:
        name: of another one.
        versions: of it that will do, such as ``>=8.1,<9``.
        before: only Pythons before this one need it; None if all do.
        certain: whether it is needed wherever it is installed or not.
    """

    name: str
    versions: str
    before: tuple[int, int] | None = None
    certain: bool = True

    @classmethod
    def parse(cls, text: str) -> Requirement | None:
        """The requirement in a line of a package's metadata; None if it is one of an extra."""
        found = _REQUIREMENT.fullmatch(text)
        if found is None:
            return None
        name, versions, marker = found[1], found[2].strip(), (found[3] or "").strip()
        if re.search(r"\bextra\b", marker):
            return None
        before = _BEFORE.fullmatch(marker)
        if before:
            return cls(name, versions, (3, int(before[2]) + (before[1] == "<=")))
        return cls(name, versions, certain=not marker)


def assemble(wanted: Sequence[str], oldest: tuple[int, int] | None) -> list[Package]:
    """Picas and these packages with all that they need, in versions that run on a Python.

    What is installed is taken if it does, else others are fetched.

    Args:
        wanted: names of further packages.
        oldest: the oldest Python that the bundle is for; None for what the installed versions need.

    Raises:
        InvalidInput: one is not there, or is not pure Python, or has no version that runs there.
    """
    try:
        found = gather(wanted, oldest)
        if oldest is None or not _too_new(found, oldest):
            return found
    except NotInstalled:
        if oldest is None:
            raise
    with tempfile.TemporaryDirectory(prefix="picas-bundle-") as folder:
        needs = requirements(metadata.distribution(OWN))
        texts = [need.name + need.versions for need in needs if not need.before or oldest < need.before]
        fetch([*texts, *wanted], oldest, Path(folder))
        found = gather(wanted, oldest, Path(folder))
    if _too_new(found, oldest):
        raise InvalidInput(
            f"{_too_new(found, oldest)} does not run on Python {oldest[0]}.{oldest[1]}",
            "There may be an older version that does: pip install it, then try again.",
        )
    return found


def _too_new(packages: Iterable[Package], oldest: tuple[int, int]) -> str:
    return ", ".join(f"{package.name} {package.version}" for package in packages if package.oldest > oldest)


def gather(wanted: Iterable[str], oldest: tuple[int, int] | None, place: Path | None = None) -> list[Package]:
    """Picas and these packages with all that they need, as they are installed.

    Args:
        wanted: names of further packages.
        oldest: the oldest Python that the bundle is for; None for what can be had.
        place: a folder to look in before this installation.

    Raises:
        InvalidInput: one is not there, or is not pure Python.
    """
    found = {OWN: _own()}
    needs = [*requirements(metadata.distribution(OWN)), *(Requirement(name, "") for name in wanted)]
    while needs:
        need = needs.pop()
        key = _key(need.name)
        if key in found or (need.before and oldest and oldest >= need.before):
            continue
        distribution = _installed(need.name, place)
        if distribution is not None:
            found[key] = _package(distribution)
            needs += requirements(distribution)
        elif need.before and oldest is None:  # where it is not needed it has not been installed
            found[OWN] = replace(found[OWN], oldest=max(found[OWN].oldest, need.before))
        elif need.certain:
            raise NotInstalled(need.name)
    return sorted(found.values(), key=lambda package: package.name)


class NotInstalled(InvalidInput):
    """A package that has to go into the bundle is not there."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the package {name} is not installed", f"pip install {name}")


def requirements(distribution: metadata.Distribution) -> list[Requirement]:
    """What a distribution needs, without what only its extras need."""
    parsed = map(Requirement.parse, distribution.requires or ())
    return [requirement for requirement in parsed if requirement is not None]


def _key(name: str) -> str:
    """The form in which names of packages are compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _installed(name: str, place: Path | None) -> metadata.Distribution | None:
    if place is not None:
        for each in metadata.distributions(path=[str(place)]):
            if _key(_told(each, "Name")) == _key(name):
                return each
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None


def _own() -> Package:
    """Picas as it runs now: also from a checkout, of whose files no installation knows."""
    root = Path(__file__).resolve().parent.parent
    if not root.is_dir():
        raise InvalidInput(
            "this picas is a bundle itself", "Make another one with a picas that is installed."
        )
    files = {}
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root).as_posix()
        if path.is_file() and "__pycache__" not in path.parts and not inside.startswith(_LEFT_OUT):
            files[f"{OWN}/{inside}"] = path.read_bytes()
    distribution = metadata.distribution(OWN)
    files.update(_legal(distribution))
    return Package(OWN, distribution.version, PICAS_OLDEST, files)


def _package(distribution: metadata.Distribution) -> Package:
    """A distribution's modules and data.

    Raises:
        InvalidInput: they are not pure Python, or not where packages are installed.
    """
    name = _told(distribution, "Name")
    files = {}
    compiled = []
    for entry in distribution.files or ():
        place = entry.as_posix()
        if place.startswith(("..", "/")) or "__pycache__" in entry.parts or ".dist-info/" in place:
            continue
        if _COMPILED.search(place):
            compiled.append(place)
        elif not place.endswith((".pyc", ".pth")):
            files[place] = Path(str(distribution.locate_file(entry))).read_bytes()
    if not files and not compiled:
        raise InvalidInput(
            f"the package {name} is installed in a way that does not tell its files",
            "Name its folder instead: picas bundle FOLDER.",
        )
    for place in compiled:
        # A faster double of a module in Python, as mypyc makes them, is left out, and so is what they share.
        if f"{_COMPILED.sub('', place)}.py" not in files and "__mypyc" not in place:
            raise InvalidInput(
                f"the package {name} is not pure Python: {place} is made for this kind of machine alone",
                "A bundle takes pure Python only. It can be installed where the pilots run; what the bundle has "
                "not got is looked for there.",
            )
    files.update(_legal(distribution))
    return Package(name, distribution.version, _oldest(distribution), files)


def _legal(distribution: metadata.Distribution) -> dict[str, bytes]:
    """Metadata and licence of a distribution, which have to go where it goes."""
    files = {}
    for entry in distribution.files or ():
        place = entry.as_posix()
        name = place.partition(".dist-info/")[2]
        if name == "METADATA" or re.match(r"(licenses/|LICEN[CS]E|COPYING|NOTICE|AUTHORS)", name):
            files[place] = Path(str(distribution.locate_file(entry))).read_bytes()
    return files


def _oldest(distribution: metadata.Distribution) -> tuple[int, int]:
    bounds = _AT_LEAST.findall(_told(distribution, "Requires-Python"))
    return max([(3, int(minor)) for pair in bounds for minor in pair if minor], default=PICAS_OLDEST)


def _told(distribution: metadata.Distribution, name: str) -> str:
    """A line of its metadata; "" if it has none of this name, which newer Pythons make an error of."""
    return str(distribution.metadata[name]) if name in distribution.metadata else ""
