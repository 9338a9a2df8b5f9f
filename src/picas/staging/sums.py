"""Checksums as people write them, as servers tell them, and of files."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import zlib
from typing import TYPE_CHECKING

from picas.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LENGTHS = {"adler32": 8, "md5": 32, "sha256": 64}
"""The algorithms that are known, each with the number of its hexadecimal digits."""

USUAL = "sha256"
"""What is noted of a file that was brought away if nothing else is asked for."""

CHUNK_BYTES = 1 << 20

_NAMES = {"adler32": "adler32", "md5": "md5", "sha-256": "sha256", "sha256": "sha256"}
_HEX = re.compile(r"[0-9a-f]+")


def parse(text: object, *, bare: bool = False) -> str:
    """A checksum as ``algorithm:digits``, in small letters.

    Args:
        bare: the algorithm's name alone will do.

    Raises:
        InvalidInput: it is none.
    """
    known = ", ".join(LENGTHS)
    form = f"Write it as algorithm:digits, in hexadecimal; the algorithms are {known}."
    if not isinstance(text, str):
        raise InvalidInput(f"{text!r} is no checksum", form)
    name, colon, digits = text.strip().lower().partition(":")
    name = _NAMES.get(name, name)
    if bare and not colon and name in LENGTHS:
        return name
    if name == "adler32":
        digits = digits.zfill(LENGTHS[name]) if digits else ""
    if name not in LENGTHS or len(digits) != LENGTHS[name] or not _HEX.fullmatch(digits):
        raise InvalidInput(f"{text[:100]!r} is no checksum", form)
    return f"{name}:{digits}"


def of_file(path: Path, algorithm: str) -> str:
    """The checksum of a file, with its algorithm's name.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        if algorithm == "adler32":
            value = 1
            while chunk := file.read(CHUNK_BYTES):
                value = zlib.adler32(chunk, value)
            return f"adler32:{value:08x}"
        # For files that came over a wire, not against those who forge them.
        digest = hashlib.md5(usedforsecurity=False) if algorithm == "md5" else hashlib.sha256()
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return f"{algorithm}:{digest.hexdigest()}"


def told_by(headers: Mapping[str, str]) -> dict[str, str]:
    """The checksums that a server tells of a whole file (RFC 3230, RFC 9530), each under its algorithm's name."""
    found = {}
    for header in ("Digest", "Repr-Digest"):
        for part in headers.get(header, "").split(","):
            name, _, value = part.strip().partition("=")
            algorithm = _NAMES.get(name.lower(), "")
            digits = _digits(algorithm, value.strip().strip(":"))
            if digits:
                found[algorithm] = f"{algorithm}:{digits}"
    return found


def _digits(algorithm: str, value: str) -> str:
    """A value of a digest header in hexadecimal; "" if it is none."""
    length = LENGTHS.get(algorithm, 0)
    digits = value.lower().zfill(length) if algorithm == "adler32" else value.lower()
    if len(digits) == length and _HEX.fullmatch(digits):
        return digits
    try:
        plain = base64.b64decode(value, validate=True).hex()
    except (ValueError, binascii.Error):
        return ""
    return plain if len(plain) == length else ""
