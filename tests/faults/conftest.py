"""What the fault suite takes from the tests of CouchDB, and where its report goes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.couchdb.conftest import _cluster, cluster, cluster_database, proxied
from tests.faults.fleets import Report

__all__ = ["_cluster", "cluster", "cluster_database", "proxied"]

# Read here: the tests themselves see no PICAS_ variable of their caller.
_REPORT = os.environ.get("PICAS_FAULT_REPORT")


@pytest.fixture(scope="session")
def report() -> Report:
    """Where the long runs say how they went: the file that ``PICAS_FAULT_REPORT`` names."""
    return Report(Path(_REPORT).resolve() if _REPORT else None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is slow here takes minutes."""
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.long)
