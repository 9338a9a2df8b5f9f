"""Writes a bundle: one zip archive that Python runs."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import tempfile
import zipfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from picas.bundling import compiling
from picas.bundling.loader import FILES, MANIFEST
from picas.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from picas.bundling.contents import Package
    from picas.bundling.userfiles import UserFile

SHEBANG = b"#!/usr/bin/env python3\n"

_EARLIEST = (1980, 1, 1, 0, 0, 0)
"""The date of every entry: the same content makes the same bundle."""


@dataclass(frozen=True)
class Bundle:
    """A bundle that was written.

    Attributes:
        path: where it is.
        size: in bytes.
        oldest: the oldest Python that it runs on.
        pythons: those for which it has the code of all modules, such as ``3.11``; others compile at the first start.
        packages: what is in it, by name, with the version.
        files: the user's, by their names.
    """

    path: str
    size: int
    oldest: tuple[int, int]
    pythons: list[str]
    packages: dict[str, str]
    files: list[str]


def write(
    target: Path,
    packages: Sequence[Package],
    files: Sequence[UserFile] = (),
    environment: Mapping[str, str] | None = None,
) -> Bundle:
    """Write a bundle, in place of what is there under that name.

    Args:
        files: the user's own.
        environment: variables for the pilot, where they are not set; what begins with `picas.bundling.loader.FILES` is
            one of these files.

    Raises:
        InvalidInput: two packages have different files under one name.
        OSError: it cannot be written.
    """
    oldest = max(package.oldest for package in packages)
    entries = _joined(packages)
    modules = sorted(place for place in entries if place.endswith(".py"))
    data = [
        place for place in entries if not place.endswith((".py", ".typed")) and ".dist-info/" not in place
    ]
    versions = {package.name: package.version for package in packages}
    manifest = {
        "packages": versions,
        "oldest": oldest,
        "modules": modules,
        "data": sorted(data),
        "files": [(file.name, len(file.content), file.mode) for file in files],
        "environment": dict(environment or {}),
        "digest": _digest(
            [*entries.items(), *((f"{FILES}{file.mode:o}/{file.name}", file.content) for file in files)]
        ),
    }
    entries["__main__.py"] = _start(oldest)
    entries[MANIFEST] = json.dumps(manifest, indent=1).encode("ascii")
    new = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with new.open("wb") as stream:
            stream.write(SHEBANG)
            code = _code(entries, oldest)
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as opened:
                for place, content in sorted({**entries, **code}.items()):
                    _add(opened, place, content)
                for file in files:
                    _add(opened, FILES + file.name, file.content, file.mode)
        new.chmod(0o777 & ~_umask())
        new.replace(target)
    finally:
        new.unlink(missing_ok=True)
    return Bundle(
        str(target),
        target.stat().st_size,
        oldest,
        sorted(
            (_version(name) for name in code), key=lambda version: [int(part) for part in version.split(".")]
        ),
        versions,
        [file.name for file in files],
    )


def _joined(packages: Iterable[Package]) -> dict[str, bytes]:
    entries: dict[str, bytes] = {}
    for package in packages:
        for place, content in package.files.items():
            if entries.setdefault(place, content) != content:
                raise InvalidInput(f"two packages have a file {place}: {package.name} and another one")
    return entries


def _digest(content: Iterable[tuple[str, bytes]]) -> str:
    """What tells one content from any other."""
    joined = hashlib.sha256()
    for place, each in sorted(content):
        joined.update(f"{place}\0{len(each)}\0".encode("utf-8", "surrogateescape"))
        joined.update(each)
    return joined.hexdigest()


def _start(oldest: tuple[int, int]) -> bytes:
    text = (resources.files("picas") / "bundle_main.py").read_text("utf-8")
    line = next(line for line in text.splitlines() if line.startswith("OLDEST = "))
    return text.replace(line, f"OLDEST = {oldest!r}", 1).encode("ascii")


def _code(entries: Mapping[str, bytes], oldest: tuple[int, int]) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory(prefix="picas-bundle-") as folder:
        plain = Path(folder) / "plain.zip"
        with zipfile.ZipFile(plain, "w") as opened:
            for place, content in entries.items():
                _add(opened, place, content)
        return compiling.compiled(plain, oldest)


def _add(opened: zipfile.ZipFile, place: str, content: bytes, mode: int = 0o644) -> None:
    entry = zipfile.ZipInfo(place, _EARLIEST)
    entry.external_attr = mode << 16
    entry.compress_type = opened.compression
    opened.writestr(entry, content)


def _version(name: str) -> str:
    """``3.11`` of ``bundle/code/cpython-311-a70d``."""
    digits = re.sub(r"\D", "", name.rpartition("/")[2].rpartition("-")[0])
    return f"{digits[0]}.{digits[1:]}"


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
