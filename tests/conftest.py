"""Settings for the whole test run. Fixtures stand beside the tests that use them."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest_plugins = ["tests.couchdb.fixtures", "tests.pools", "tests.web", "tests.slurm.fixtures"]

# A shared machine is sometimes slow: that is no failure. In CI the examples are the same in every run.
settings.register_profile("picas", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("picas")


@pytest.fixture(autouse=True, scope="session")
def _interruptible() -> None:
    """Children start as from a terminal: a job in a script's background, as CI may be, has INT ignored for all."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _nobodys_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Neither the user's configuration nor their environment reaches a test."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("PICAS_") or name.lower().endswith("_proxy") or name == "NETRC":
                patch.delenv(name)
        for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
            patch.setenv(name, str(tmp_path_factory.mktemp(name.lower())))
        # tests read what bash says, so it has to say it in English
        patch.setenv("LC_ALL", "C.UTF-8")
        yield
