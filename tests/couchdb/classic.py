"""picasclient 1.x, installed by ``scripts/classic.sh`` apart from ours, and a database as its users have them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent

PILOT = _HERE / "classic_pilot.py"
"""A pilot of 1.x as a program of its own."""

_CONNECT = """
import json, sys
from urllib.parse import urlsplit
from picas.clients import CouchDB
from picas.documents import Task
parts = urlsplit(sys.argv[1])
db = CouchDB(
    url=f"http://{parts.hostname}:{parts.port}", db=parts.path.strip("/"),
    username=parts.username, password=parts.password,
)
"""

_STATES = {
    "todo": "doc.lock == 0 && doc.done == 0",
    "locked": "doc.lock > 0 && doc.done == 0",
    "done": "doc.lock > 0 && doc.done > 0 && parseInt(doc.exit_code) == 0",
    "error": "doc.lock > 0 && doc.done > 0 && parseInt(doc.exit_code) != 0",
}


def python() -> Path | None:
    """The Python that has picasclient 1.x; None if it is not installed."""
    program = _HERE / ".classic" / "bin" / "python"
    return program if program.exists() and (_HERE / ".classic" / ".made").exists() else None


def ask(url: str, code: str) -> str:
    """What a program of 1.x prints that has its database as ``db``."""
    done = subprocess.run(
        [str(python()), "-I", "-c", _CONNECT + code, url],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def monitor() -> dict[str, Any]:
    """The design document ``Monitor``, written anew from what its views mean."""
    views: dict[str, dict[str, str]] = {
        state: {"map": f"function(doc) {{ if (doc.type == 'token' && {test}) emit(doc._id, doc._id); }}"}
        for state, test in _STATES.items()
    }
    tests = " ".join(f"if ({test}) emit('{state}', 1);" for state, test in _STATES.items())
    views["overview_total"] = {
        "map": f"function(doc) {{ if (doc.type == 'token') {{ {tests} }} }}",
        "reduce": "_sum",
    }
    return {"language": "javascript", "views": views}


def token(number: int, **fields: Any) -> dict[str, Any]:
    """A token document as scripts of 1.x write it."""
    return {
        "_id": f"token_{number}",
        "type": "token",
        "lock": 0,
        "done": 0,
        "hostname": "",
        "scrub_count": 0,
        "exit_code": "",
        **fields,
    }
