"""Certificates for a proxy that is reached by https, made with the openssl command."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_CONFIG = """\
[ca]
default_ca = own
[own]
dir = {folder}
database = {folder}/index
serial = {folder}/serial
new_certs_dir = {folder}
default_md = sha256
policy = any
copy_extensions = copy
[any]
commonName = supplied
[req]
distinguished_name = any
"""


@dataclass(frozen=True)
class Certificate:
    """A certificate that signed itself, with its key: who trusts it names the file `trust` as its CA."""

    folder: Path

    @property
    def trust(self) -> Path:
        return self.folder / "certificate.pem"

    def context(self) -> ssl.SSLContext:
        """For the server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.trust, self.folder / "key.pem")
        return context


def has_openssl() -> bool:
    """Whether certificates can be made here."""
    return shutil.which("openssl") is not None


def make_certificate(
    folder: Path, *, host: str = "IP:127.0.0.1", start: str = "20200101000000Z", end: str = "20991231235959Z"
) -> Certificate:
    """Make one in this folder.

    Args:
        folder: is created, and must not be there yet.
        host: whom it is for, as OpenSSL writes it, e.g. ``DNS:example.org``.
        start: from when it is good, ``YYYYMMDDHHMMSSZ``.
        end: until when.
    """
    folder.mkdir()
    config = folder / "openssl.cnf"
    config.write_text(_CONFIG.format(folder=folder))
    (folder / "index").touch()
    (folder / "serial").write_text("01\n")
    _openssl(
        *("req", "-new", "-config", config, "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=picas-test"),
        *("-addext", f"subjectAltName={host}", "-keyout", folder / "key.pem", "-out", folder / "request.pem"),
    )
    _openssl(
        *("ca", "-batch", "-selfsign", "-notext", "-config", config, "-keyfile", folder / "key.pem"),
        *("-startdate", start, "-enddate", end),
        *("-in", folder / "request.pem", "-out", folder / "certificate.pem"),
    )
    return Certificate(folder)


def subject_hash(certificate: Certificate) -> str:
    """What a certificate's file is called in a folder of authorities."""
    return _openssl("x509", "-in", certificate.trust, "-noout", "-subject_hash").strip()


def encrypted_key(certificate: Certificate, path: Path) -> Path:
    """The certificate's key with a pass phrase, in a file of its own."""
    _openssl("rsa", "-aes128", "-passout", "pass:phrase", "-in", certificate.folder / "key.pem", "-out", path)
    return path


def _openssl(*arguments: object) -> str:
    done = subprocess.run(
        ["openssl", *map(str, arguments)],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
