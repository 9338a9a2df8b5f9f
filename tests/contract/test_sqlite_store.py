"""The embedded pool keeps the contract of all stores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from picas.testing import StoreContract

if TYPE_CHECKING:
    from pathlib import Path


class TestSqliteStore(StoreContract):
    def store_url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/a pool%2520with größe.db"
