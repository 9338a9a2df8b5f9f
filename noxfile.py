"""The checks on several Pythons: ``nox -l`` lists them. ``make test`` runs those of one Python, faster."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2024.10"
nox.options.sessions = ["lint", "imports", "types", "tests", "docs", "wheel"]
nox.options.error_on_missing_interpreters = True

PYTHONS = ["3.9", "3.11", "3.13"]
LOCKED = "requirements/dev.txt"
GROUPS = nox.project.load_toml("pyproject.toml")


def _find_pyenv_pythons() -> None:
    """Put pyenv's interpreters on the PATH where `PYTHONS` are not there under their own names.

    pyenv's shims have the names too, but refuse to run a version that is not switched on.
    """
    roots = [Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()]
    roots += [
        Path(entry).parent for entry in os.environ["PATH"].split(os.pathsep) if entry.endswith("/shims")
    ]
    for version in PYTHONS:
        known = shutil.which(f"python{version}")
        if known is not None and "/shims/" not in known:
            continue
        for root in roots:
            found = sorted(root.glob(f"versions/{version}.*/bin/python{version}"), key=_numbers)
            if found:
                os.environ["PATH"] = f"{found[-1].parent}{os.pathsep}{os.environ['PATH']}"
                break


def _numbers(path: Path) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", path.parts[-3])]


_find_pyenv_pythons()


def _install(session: nox.Session, *groups: str) -> None:
    """PiCaS from the checkout and these dependency groups, in the versions of the lock file."""
    wanted = [name for group in groups for name in nox.project.dependency_groups(GROUPS, group)]
    session.install("--constraint", LOCKED, "--editable", ".", *wanted)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """All the tests but those that take many minutes; what follows ``--`` goes to pytest."""
    _install(session, "test")
    session.run("pytest", "-m", "not long", *session.posargs)


@nox.session(python="3.13", default=False)
def couchdb(session: nox.Session) -> None:
    """Everything about command line and pilots on CouchDB, of which `tests` runs a part there."""
    _install(session, "test")
    named = any(Path(word.partition("::")[0]).exists() for word in session.posargs)
    where = [] if named else ["tests/cli", "tests/pilot", "tests/unit/test_pool.py"]
    session.run("pytest", "--pool-kind", "couchdb", *where, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style."""
    _install(session, "lint")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session(python=["3.9", "3.13"])
def types(session: nox.Session) -> None:
    """Types: with the last mypy that knows Python 3.9, and with the current one."""
    _install(session, "dev")
    session.run("mypy", "--python-version", str(session.python))


@nox.session(python="3.13")
def imports(session: nox.Session) -> None:
    """Who may import whom, see .importlinter."""
    _install(session, "lint")
    session.run("lint-imports")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation, into site/; a broken link is an error."""
    _install(session, "docs")
    session.run("mkdocs", "build", "--strict", "--site-dir", "site")


@nox.session(python=PYTHONS)
def wheel(session: nox.Session) -> None:
    """The built wheel in an empty environment runs the demo."""
    session.install("--constraint", LOCKED, "build", "editables", "hatchling")
    session.run("scripts/wheel-demo.sh", external=True)


@nox.session(default=False)
def cluster(session: nox.Session) -> None:
    """The tests on a cluster of three nodes with 2,000 tokens each, which takes a quarter of an hour."""
    _install(session, "test")
    session.run(
        "pytest",
        "tests/couchdb/test_cluster.py",
        "-o",
        "faulthandler_timeout=1800",
        *session.posargs,
        env={"PICAS_CLUSTER_TOKENS": "2000"},
    )


@nox.session(default=False)
def faults(session: nox.Session) -> None:
    """Crashes at every write, full disks, fleets, servers and networks that fail; `tests` runs a short form of it.

    It takes about an hour, and writes how the fleets went into benchmarks/results/faults.md.
    """
    _install(session, "test")
    session.run(
        "pytest",
        "tests/faults",
        "-o",
        "faulthandler_timeout=3600",
        *session.posargs,
        env={"PICAS_FAULT_REPORT": "benchmarks/results/faults.md", "PICAS_FAULTS": "20"},
    )


@nox.session(python="3.11", default=False)
def grid(session: nox.Session) -> None:
    """Job descriptions, sandboxes and startpilot.sh under the real client of DIRAC, which needs Python 3.11."""
    _install(session, "test")
    session.run("scripts/dirac.sh", str(shutil.which("python3.11")), external=True)
    session.run("pytest", "tests/grid", *session.posargs)


@nox.session(python="3.11", default=False)
def htcondor(session: nox.Session) -> None:
    """Submit files read by HTCondor itself, by the last bindings that make jobs of them without a server."""
    _install(session, "test")
    session.install("htcondor>=24,<24.1")
    session.run("pytest", "tests/launchers/test_htcondor_reads.py", *session.posargs)


@nox.session(default=False)
def benchmarks(session: nox.Session) -> None:
    """The tables of benchmarks/, compared with other programs; what follows ``--`` chooses among them."""
    _install(session, "test")
    session.run("python", "-m", "benchmarks", *session.posargs)
