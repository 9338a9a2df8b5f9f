"""A machine on which there is nothing but Python, and the programs that are sent there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from picas.bundling.loader import MANIFEST

PATIENCE_SECONDS = 120
VERSION = sys.version_info[:2]

FIT = """
from pathlib import Path

def main(token):
    numbers = (Path(__file__).parent / "tables" / "numbers.txt").read_text().split()
    return {"sum": sum(map(int, numbers)) * int(token.input)}
"""
MEASURE = '#!/bin/sh\necho "$1 $(cat "$PICAS_BUNDLE_FILES/tables/numbers.txt")"\n'
ACTOR = """
import sys
from picas.actors import RunActor
from picas.clients import CouchDB
from picas.executers import execute
from picas.iterators import TaskViewIterator
from picas.modifiers import BasicTokenModifier

class Actor(RunActor):
    def __init__(self, db):
        super().__init__(db, view="todo")

    def process_task(self, token):
        proc, code, out, err = execute(["bash", "-c", token["input"]])
        token["exit_code"] = code
        token.put_attachment("logs_" + token["_id"] + ".out", out)
        BasicTokenModifier().close(token)
        print(sys.argv[0], token["_id"], out.decode().strip(), token.__class__.__name__)

server, name = sys.argv[1:3]
user, password = sys.argv[3:] or (None, "")
Actor(CouchDB(server, name, user, password)).run()
"""
STATE = """
import json, sys
from picas.cli.main import run
code = run(sys.argv[1:])
loader = sys.meta_path[0]
print(json.dumps({"code": code, "prepared": loader.prepared, "compiled": loader.compiled}), file=sys.stderr)
"""


@dataclass(frozen=True)
class Node:
    """A machine on which there is nothing but Python: no environment, no site-packages, an empty home.

    Attributes:
        bundle: the pilot's file.
        directory: where it is started.
        environment: all the variables that there are.
        python: the Python, with its options.
    """

    bundle: Path
    directory: Path
    environment: dict[str, str] = field(default_factory=dict)
    python: tuple[str, ...] = (sys.executable, "-I", "-S")

    @property
    def home(self) -> Path:
        return Path(self.environment["HOME"])

    def start(self, *args: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.python, str(self.bundle), *args],
            cwd=self.directory,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
        with self.start(*args, **environment) as process:
            try:
                out, err = process.communicate(timeout=PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def unpacked(node: Node) -> list[Path]:
    """What is in the cache of a node."""
    return sorted((node.home / ".cache" / "picas" / "bundles").iterdir())


def told(text: str) -> Any:
    """What the program `STATE` says."""
    return json.loads(text.splitlines()[-1])


def content(bundle: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(bundle) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def ancient(version: str) -> str | None:
    """A Python that is really of this version, where there is one."""
    root = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    candidates = [
        *map(str, root.glob(f"versions/{version}.*/bin/python")),
        shutil.which(f"python{version}") or "",
    ]
    check = f"import sys; sys.exit(sys.version_info[:2] != {tuple(map(int, version.split('.')))})"
    for each in filter(None, candidates):
        if subprocess.run([each, "-c", check], check=False, capture_output=True).returncode == 0:
            return each
    return None


def oldest_of(bundle: Path) -> int:
    """The oldest Python 3 that a bundle says it runs on."""
    with zipfile.ZipFile(bundle) as opened:
        minor: int = json.loads(opened.read(MANIFEST))["oldest"][1]
    return minor
