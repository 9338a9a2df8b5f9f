"""The Slurm that tests run on, for all of the tests: one in each process of a test run, started when it is first used.

Where it is not installed these tests are skipped, and fail in CI; scripts/system-deps.sh installs it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from tests.slurm.cluster import SlurmCluster, missing

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def _slurm() -> Iterator[SlurmCluster]:
    if lacking := missing():
        problem = f"there is no Slurm here, it lacks {', '.join(lacking)}: run scripts/system-deps.sh"
        if "CI" in os.environ:
            pytest.fail(problem)
        pytest.skip(problem)
    with SlurmCluster() as cluster:
        yield cluster


@pytest.fixture
def slurm(_slurm: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmCluster]:
    """A Slurm without jobs, whose commands the test can use."""
    for name, value in _slurm.environment.items():
        monkeypatch.setenv(name, value)
    _slurm.revive()
    yield _slurm
    _slurm.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A test that failed shows what Slurm wrote last."""
    report = yield
    cluster = getattr(item, "funcargs", {}).get("slurm")
    if report.failed and cluster is not None:  # type: ignore[attr-defined]
        for daemon in cluster.daemons:
            report.sections.append((f"the log of {daemon.name}", daemon.log_tail()))  # type: ignore[attr-defined]
    return report
