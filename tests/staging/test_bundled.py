"""A pilot from a bundle, on a bare Python, stages as any other."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from picas.pool import open_pool

pytestmark = pytest.mark.slow

DATA = os.urandom(100_000)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A bundle for the Python that runs this."""
    path = tmp_path_factory.mktemp("bundle") / "pilot.pyz"
    command = [sys.executable, "-m", "picas", "bundle", "-o", str(path)]
    told = subprocess.run(
        command,
        env={**os.environ, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert told.returncode == 0, told.stderr
    return path


@pytest.fixture
def bundle(made, tmp_path):
    return Path(shutil.copy(made, tmp_path))


def run(bundle, place, *command):
    # The interpreter itself: it knows nothing of the environment that it has been set up for here.
    python = os.path.realpath(sys.executable)
    pool = f"sqlite:///{place}/pool.db"
    done = subprocess.run(
        [python, "-I", "-S", str(bundle), "run", "--pool", pool, *command],
        cwd=place,
        env={"PATH": os.defpath, "XDG_STATE_HOME": str(place / "state"), "TMPDIR": str(place)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return open_pool(pool)


def test_a_bundled_pilot_stages(bundle, tmp_path, site):
    site.files["/a"] = DATA
    site.fail("GET", "/a", {"cut": 80_000})
    with open_pool(f"sqlite:///{tmp_path}/pool.db") as pool:
        out = {"url": f"{site.url}/out", "path": "out"}
        pool.push([{"input": "sha256sum a > out", "stage_in": f"{site.url}/a", "stage_out": out}])
    with run(bundle, tmp_path) as pool:
        assert pool.counts()["done"] == 1
    assert site.files["/out"].split()[0].decode() == hashlib.sha256(DATA).hexdigest()


def test_a_bundle_that_is_gone_is_no_fault_of_the_work(bundle, tmp_path, site):
    site.files["/a"] = DATA
    with open_pool(f"sqlite:///{tmp_path}/pool.db") as pool:
        pool.push([f"rm {bundle}", {"input": "true", "stage_in": f"{site.url}/a"}])
    with run(bundle, tmp_path, "--max-tasks", "2") as pool:
        last = pool.get("token_1").history[-1]
    assert last["failure"] == "infrastructure"
    assert last["message"].startswith("picas is not there any more to stage files")
