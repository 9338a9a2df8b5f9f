"""A user who submits to a fake of DIRAC, with a pool on a server and a bundle to send along."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.grid.fake_dirac import HOME_VARIABLE, Grid

from picas.bundling import archive, contents
from picas.pool import Pool, open_pool
from picas.settings.credentials import split_login

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLE = Path(__file__).parents[2] / "examples" / "grid"


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pilot in one file, for this Python."""
    path = tmp_path_factory.mktemp("bundle") / "pilot.pyz"
    archive.write(path, contents.gather((), sys.version_info[:2]), ())
    return path


class User:
    """Somebody with a folder, a home with a configuration file, and DIRAC's commands on the PATH.

    Args:
        root: where home, folder and DIRAC are made.
        url: the pool's, with a login.
    """

    def __init__(self, root: Path, url: str) -> None:
        self.pool: Pool = open_pool(url)
        self.folder = root / "work"
        self.folder.mkdir()
        self.grid = Grid(root / "dirac").install()
        self.configuration = root / "home" / ".config" / "picas" / "config.toml"
        self.configuration.parent.mkdir(parents=True)
        address, username, password = split_login(url)
        self.configuration.write_text(
            f'pool = "{address}"\n[couchdb]\nusername = "{username}"\npassword = "{password}"\n'
        )
        self.configuration.chmod(0o600)
        self.password = str(password)
        self.environment = {
            **os.environ,
            "HOME": str(root / "home"),
            "XDG_CONFIG_HOME": str(root / "home" / ".config"),
            "XDG_STATE_HOME": str(root / "home" / "state"),
            "PATH": f"{self.grid.bin}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            HOME_VARIABLE: str(self.grid.home),
        }

    def __call__(self, *words: str, code: int = 0) -> str:
        """Run a command in the folder; what it printed, also on its error output."""
        ended = subprocess.run(
            words,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
        )
        assert ended.returncode == code, ended.stdout
        return ended.stdout

    def counts(self) -> dict[str, int]:
        """How many tokens are in which state; states without any are left out."""
        return {state.value: count for state, count in self.pool.counts().items() if state and count}

    def tokens(self) -> dict[str, dict[str, Any]]:
        """The tokens' fields, by their ids."""
        return {token.id: dict(token.body) for token in self.pool.tokens()}


@pytest.fixture
def user(tmp_path: Path, couchdb: object, database: str) -> Iterator[User]:
    """A user with an empty pool."""
    user = User(tmp_path, database)
    yield user
    user.pool.close()
