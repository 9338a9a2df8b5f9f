"""The code of all modules in a bundle, and the data beside them, for each Python on this machine that can run it.

This file is also a program: run by a Python with ``code`` and the path of an archive, it writes that Python's code to its
standard output; with ``name``, the name that this code has in a bundle.
"""

from __future__ import annotations

import json
import marshal
import os
import re
import subprocess
import sys
import warnings
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

COMPILE_SECONDS = 120.0
"""How long a Python may take for it; one that takes longer is no Python of ours."""

SELDOM = (
    "click/_winconsole.py",
    "click/shell_completion.py",
    "click/testing.py",
    "picas/autopilot/",
    "picas/bundling/archive.py",
    "picas/bundling/compiling.py",
    "picas/bundling/contents.py",
    "picas/bundling/fetching.py",
    "picas/bundling/userfiles.py",
    "picas/cli/submit",
    "picas/launchers/",
    "picas/tokenfile/",
    "platformdirs/android.py",
    "platformdirs/macos.py",
    "platformdirs/windows.py",
    "urllib3/contrib/",
    "urllib3/http2/connection.py",
)
"""Modules that no pilot uses, whose code would only make bundles larger; other verbs compile what they need of them."""

_NAME = re.compile(r"python3(\.\d+)?")


def pythons(oldest: tuple[int, int]) -> Iterator[str]:
    """The Pythons that may be meant: the one that runs this, and those on the PATH by their names."""
    yield sys.executable
    seen = {os.path.realpath(sys.executable)}
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        with suppress(OSError):
            for name in sorted(os.listdir(folder)):
                path = os.path.join(folder, name)  # noqa: PTH118 - many of them
                if not _NAME.fullmatch(name) or not os.access(path, os.X_OK):
                    continue
                minor = name.partition(".")[2]
                if os.path.realpath(path) not in seen and (not minor or int(minor) >= oldest[1]):
                    seen.add(os.path.realpath(path))
                    yield path


def compiled(archive: Path, oldest: tuple[int, int]) -> dict[str, bytes]:
    """What each Python makes of the modules in an archive, by the names of `picas.bundling.loader.code_name`."""
    wanted = [str(archive), *map(str, oldest)]
    found = list(pythons(oldest))
    names = _answers([[python, "name", *wanted] for python in found])
    kinds = {
        name: python for python, name in reversed(list(zip(found, names))) if name
    }  # the first of a kind
    codes = _answers([[python, "code", *wanted] for python in kinds.values()])
    return {name.decode("ascii"): code for name, code in zip(kinds, codes) if code}


def _answers(calls: Sequence[Sequence[str]]) -> list[bytes]:
    """What this program writes when these Pythons run it, all at a time, each with its arguments; nothing if it fails."""
    program = str(Path(__file__).resolve())
    running = [
        subprocess.Popen(
            [python, "-I", "-S", program, *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        for python, *args in calls
    ]
    answers = []
    for process in running:
        try:
            written, _ = process.communicate(timeout=COMPILE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            written, _ = process.communicate()
        answers.append(written if process.returncode == 0 else b"")
    return answers


def code_of(archive: str) -> dict[str, bytes]:
    """This Python's code of the modules in an archive, without those that it does not understand; and data beside them."""
    from picas.bundling.loader import MANIFEST, shown_name  # noqa: PLC0415 - from the archive, in the program

    warnings.simplefilter("ignore")
    with zipfile.ZipFile(archive) as opened:
        manifest = json.loads(opened.read(MANIFEST))
        code = {place: opened.read(place) for place in manifest["data"]}
        for place in manifest["modules"]:
            if place.startswith(SELDOM):
                continue
            with suppress(SyntaxError, ValueError):
                made = compile(opened.read(place), shown_name(place), "exec", dont_inherit=True)
                code[place] = marshal.dumps(made)
    return code


def _program(what: str, archive: str, *oldest: str) -> None:
    if sys.version_info[:2] < tuple(map(int, oldest)):
        sys.exit(1)
    sys.path.insert(0, archive)
    from picas.bundling.loader import code_name  # noqa: PLC0415 - from the archive

    sys.stdout.buffer.write(
        code_name().encode("ascii") if what == "name" else marshal.dumps(code_of(archive))
    )


if __name__ == "__main__":
    _program(*sys.argv[1:])
