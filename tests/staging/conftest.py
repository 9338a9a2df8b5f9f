"""What carries files to and from the server of `tests.web`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from picas.staging.access import Access
from picas.staging.http import Http
from picas.staging.plan import Item
from picas.staging.transfer import Means

if TYPE_CHECKING:
    from pathlib import Path


class Carriage:
    """Carries files by HTTP, at once where others would pause."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.said: list[str] = []
        self.environ: dict[str, str] = {"NETRC": str(path / "netrc")}

    def means(self, tries: int = 5) -> Means:
        carrier = Http(Access(self.environ))
        return Means(lambda place: carrier, tries, self.said.append, (0.0, 0.0))

    def fetch(self, url: str, *, tries: int = 5, **item: Any) -> bytes:
        part = self.path / "part"
        self.means(tries).fetch(Item(url, "here", **item), part)
        return part.read_bytes()

    def bring(self, data: bytes, url: str, *, tries: int = 5, **item: Any) -> dict[str, object]:
        source = self.path / "made"
        source.write_bytes(data)
        return self.means(tries).deliver(Item(url, "made", **item), url, source)


@pytest.fixture
def carriage(tmp_path: Path) -> Carriage:
    """What carries files by HTTP."""
    return Carriage(tmp_path)
