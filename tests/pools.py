"""Tests that run on either kind of pool: an embedded one, and one on CouchDB.

What asks for the fixture ``pool_url``, by itself or through ``picas``, ``pool`` or ``bench``, runs on an
embedded pool. With ``@pytest.mark.any_pool`` it runs on both, and with ``--pool-kind couchdb`` everything
runs on CouchDB but what is marked ``embedded``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

KINDS = ("sqlite", "couchdb")


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--pool-kind``."""
    parser.addoption("--pool-kind", choices=KINDS, help="run tests that have a pool on this kind alone")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what is marked ``any_pool`` on each kind."""
    if "pool_kind" in metafunc.fixturenames and not metafunc.config.getoption("--pool-kind"):
        markers = {mark.name for mark in metafunc.definition.iter_markers()}
        if "any_pool" in markers and "embedded" not in markers:
            metafunc.parametrize("pool_kind", KINDS, scope="module")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what has no meaning on CouchDB, if all is to run there."""
    if config.getoption("--pool-kind") != "couchdb":
        return
    kept = [item for item in items if not item.get_closest_marker("embedded")]
    config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("embedded")])
    items[:] = kept


@pytest.fixture(scope="module")
def pool_kind(request: pytest.FixtureRequest) -> str:
    """``sqlite`` or ``couchdb``."""
    return str(request.config.getoption("--pool-kind") or KINDS[0])


@pytest.fixture
def pool_url(request: pytest.FixtureRequest, pool_kind: str, tmp_path: Path) -> str:
    """The URL of an empty pool of the kind that is asked for, with credentials where there are any."""
    if pool_kind == "sqlite":
        return f"sqlite:///{tmp_path}/pool.db"
    url: str = request.getfixturevalue("database")
    return url
