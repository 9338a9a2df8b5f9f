"""Where the programs that PiCaS is compared with come from.

Python packages are installed on first use into ``benchmarks/.rivals`` (removing that folder
is the way to renew them). Programs of the distribution are only looked for: a missing one
gives a row that names the package to install.
"""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import venv

from ._harness import HERE, say

FOLDER = HERE / ".rivals"
REQUIREMENTS = HERE / "rivals.txt"
PYTHON = FOLDER / "bin" / "python"

APT_PACKAGES = {"parallel": "parallel", "redis-server": "redis-server", "xargs": "findutils"}


def program_missing(name: str) -> str:
    """Why the program `name` can't be used, or an empty string."""
    if shutil.which(name):
        return ""
    return f"not installed (apt install {APT_PACKAGES[name]})"


@functools.cache
def package_versions() -> dict[str, str]:
    """Name and version of the packages in the rivals' environment, made when it isn't there."""
    if not PYTHON.exists():
        say(f"installing {REQUIREMENTS.name} into {FOLDER.name} …")
        venv.create(FOLDER, with_pip=True, clear=True)
    install = [str(PYTHON), "-m", "pip", "install", "-qq", "-r", str(REQUIREMENTS)]
    if subprocess.run(install, check=False).returncode != 0:
        say("  pip failed: what isn't installed is reported as such")
    listing = subprocess.run(
        [str(PYTHON), "-m", "pip", "list", "--format=json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return {p["name"].lower(): p["version"] for p in json.loads(listing.stdout)}


def package_missing(name: str) -> str:
    """Why the Python package `name` can't be used, or an empty string."""
    return "" if name in package_versions() else f"not installed (pip install {name})"


def program_version(*argv: str) -> str:
    """The first line that a program prints about its version."""
    if not shutil.which(argv[0]):
        return "not installed"
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).splitlines()[0]
