"""Versions of packages for another Python than the one that runs, got with pip or uv."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from typing import TYPE_CHECKING

from picas.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FETCH_SECONDS = 600.0
"""How long that may take; a package index that is far away takes its time."""

_ADVICE = (
    "Make the bundle where the package index can be reached, or with a picas that is installed under that Python. "
    "Wheels in a folder are taken with PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER (of uv: UV_NO_INDEX, UV_FIND_LINKS)."
)


def fetch(requirements: Sequence[str], python: tuple[int, int], folder: Path) -> None:
    """Put packages in pure Python, with what they need, into a folder.

    Args:
        requirements: names with the versions that will do, such as ``click>=8.1,<9``.
        python: the Python that they have to run on.

    Raises:
        InvalidInput: they cannot be got.
    """
    version = f"{python[0]}.{python[1]}"
    try:
        ended = subprocess.run(
            [*_installer(folder), "--quiet", "--python-version", version, *requirements],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=FETCH_SECONDS,
            check=False,
        )
        code, said = ended.returncode, ended.stdout
    except subprocess.TimeoutExpired as error:
        code, said = 1, error.stdout or b"it took too long"
    if code != 0:
        text = said.decode("utf-8", "replace").strip()
        raise InvalidInput(f"packages that run on Python {version} cannot be got:\n{text}", _ADVICE)
    _unpack(folder)


def _installer(folder: Path) -> list[str]:
    if find_spec("pip") is not None:
        # Not `pip install --target`: that takes wheels from a folder whatever Python they are for.
        return [
            *(sys.executable, "-m", "pip", "download", "--no-input", "--only-binary", ":all:"),
            *("--implementation", "py", "--abi", "none", "--platform", "any", "--dest", str(folder)),
        ]
    uv = shutil.which("uv")
    if uv is not None:
        return [uv, "pip", "install", "--only-binary", ":all:", "--target", str(folder)]
    raise InvalidInput("there is neither pip nor uv to get packages for another Python with", _ADVICE)


def _unpack(folder: Path) -> None:
    """What pip leaves are wheels: of pure Python, so that unpacking is all that installing means."""
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as opened:
            opened.extractall(folder)
