"""Signed tokens: who vouches for what a token says is to be done.

Whoever can write to a pool has commands run by its pilots. Where that is too much, who pushes tokens signs them, and
pilots run only those that a key has signed which they trust. A signature is Ed25519 (RFC 8032) over the token's id and
all of its fields but those that pilots write; it lies in the token as::

    "picas": {"signature": {"key": "9f86d081884c7d65", "signed": "…base64…"}}

What it does not cover: attachments, what pilots write (``output``, ``error`` …), how often a token is run, and in
which pool.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from picas.errors import InvalidInput, MissingExtra
from picas.text import jsontext
from picas.tokens import RESERVED_FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from picas.tokens import Token

FIELD = "signature"
"""The name under ``picas`` in a token."""

KIND = "picas-ed25519"
"""What the line of a public key begins with."""

KEY_BYTES = 32
"""Length of an Ed25519 public key."""

_DOMAIN = b"PiCaS token 1\n"
"""Before all that is signed: a signature made for anything else is none of a token."""

_EXACT = 2**53
"""Whole numbers up to this are the same whether they are written ``1`` or ``1.0``, as programs that only know one
kind of number write them back."""


@dataclass(frozen=True)
class PublicKey:
    """A key that signatures are checked with.

    Attributes:
        raw: its `KEY_BYTES` bytes.
        name: what people call it.
    """

    raw: bytes
    name: str = ""

    @property
    def id(self) -> str:
        """What tells it from others in signatures and lists: the beginning of its SHA-256."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    @property
    def line(self) -> str:
        """The key as it is handed to others, on one line."""
        return f"{KIND} {base64.b64encode(self.raw).decode('ascii')} {self.name}".rstrip()

    @classmethod
    def parse(cls, line: str) -> PublicKey:
        """The key on a line.

        Raises:
            InvalidInput: there is none on it.
        """
        kind, _, rest = line.strip().partition(" ")
        text, _, name = rest.strip().partition(" ")
        try:
            raw = base64.b64decode(text.encode("ascii"), validate=True)
        except (ValueError, binascii.Error):
            raw = b""
        if kind != KIND or len(raw) != KEY_BYTES:
            raise InvalidInput(
                f"'{line.strip():.80}' is no public key of PiCaS",
                f"It is one line: {KIND}, the key, a name; picas keys list shows yours.",
            )
        return cls(raw, " ".join(name.split()))


class Signer:
    """Signs tokens.

    Args:
        pem: the private key in PEM (PKCS #8), unencrypted.
        name: what people call it.

    Raises:
        InvalidInput: it is no such key.
        MissingExtra: the package for it is not installed.
    """

    def __init__(self, pem: bytes, name: str = "") -> None:
        serialization = _crypto("serialization")
        try:
            self._key = serialization.load_pem_private_key(pem, password=None)
            raw = self._key.public_key().public_bytes_raw()
            self._key.sign(b"")
        except (AttributeError, TypeError, ValueError) as error:
            raise InvalidInput(
                f"the key {name or 'to sign with'} is no unencrypted Ed25519 key in PEM",
                "picas keys new makes one.",
            ) from error
        self.public = PublicKey(raw, name)

    @classmethod
    def generate(cls, name: str = "") -> tuple[Signer, bytes]:
        """A new key, and its PEM to be kept where only its owner can read it."""
        serialization = _crypto("serialization")
        key = _crypto("asymmetric.ed25519").Ed25519PrivateKey.generate()
        pem: bytes = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return cls(pem, name), pem

    def __call__(self, token_id: str, fields: Mapping[str, Any]) -> dict[str, str]:
        """The signature of a token.

        Args:
            fields: its document; what is not signed is passed over.

        Raises:
            InvalidInput: the fields cannot be written as JSON.
        """
        signed = self._key.sign(message(token_id, fields))
        return {"key": self.public.id, "signed": base64.b64encode(signed).decode("ascii")}


class Verifier:
    """Says which tokens are signed by a key that is trusted.

    Raises:
        InvalidInput: no key is given.
        MissingExtra: the package for it is not installed.
    """

    def __init__(self, keys: Iterable[PublicKey]) -> None:
        public = _crypto("asymmetric.ed25519").Ed25519PublicKey
        self._keys = {key.id: public.from_public_bytes(key.raw) for key in keys}
        if not self._keys:
            raise InvalidInput(
                "signed tokens are required, and no key is trusted",
                "picas keys trust FILE adds the public key of who pushes them; picas keys list shows yours.",
            )
        self._mismatch = import_module("cryptography.exceptions").InvalidSignature

    def problem(self, token: Token) -> str:
        """Why the token is not to be run; "" if it may be."""
        signature = token.picas.get(FIELD)
        if not isinstance(signature, dict):
            return "it is not signed"
        key_id, text = signature.get("key"), signature.get("signed")
        key = self._keys.get(key_id) if isinstance(key_id, str) else None
        if key is None:
            return f"it is signed with a key that is not trusted here: {str(key_id)[:40]}"
        try:
            signed = base64.b64decode(text.encode("ascii"), validate=True) if isinstance(text, str) else b""
            key.verify(signed, message(token.id, token.body))
        except self._mismatch:
            return "it is not as it was when it was signed"
        except (ValueError, InvalidInput):  # binascii.Error is one too
            return "its signature cannot be checked"
        return ""


def message(token_id: str, fields: Mapping[str, Any]) -> bytes:
    """What is signed of a token.

    Raises:
        InvalidInput: the fields cannot be written as JSON.
    """
    signed = {
        name: value for name, value in fields.items() if name not in RESERVED_FIELDS and name[:1] != "_"
    }
    try:
        return _DOMAIN + jsontext.canonical([token_id, _plain(signed)]).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"the fields of token {token_id} cannot be signed: they are no JSON") from error


def _plain(value: Any) -> Any:
    """The value with every whole number written in one way."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT:
        return int(value)
    return value


def _crypto(name: str) -> Any:
    """A module of the library that knows the keys. It is optional, and not loaded where nothing is signed."""
    try:
        return import_module(f"cryptography.hazmat.primitives.{name}")
    except ImportError:
        raise MissingExtra(
            "the package for signatures is not installed", "pip install 'picas[signing]'"
        ) from None
