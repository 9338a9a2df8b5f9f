"""The index by which a file counts many tokens by what is in their fields."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from picas.pool import open_pool
from picas.stores.sqlite import tally as sqlite_tally
from picas.stores.sqlite.tally import PREFIX

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from picas.pool import Pool

FIELDS = [("cores",), ("site",)]


def indexes(path: Path) -> list[str]:
    with sqlite3.connect(path) as db:
        names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'index'")]
    db.close()
    return [name for name in names if name.startswith(PREFIX)]


def counted(pool: Pool) -> int:
    return sum(each.count for each in pool.store.tally(FIELDS))


def test_an_index_is_made_for_many_tokens_and_dropped_when_few_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_tally, "MANY", 50)
    monkeypatch.setattr(sqlite_tally, "FEW", 10)
    path = tmp_path / "pool.db"
    with open_pool(f"sqlite:///{path}") as pool:
        pool.push([{"input": n, "cores": n % 3} for n in range(49)])
        assert (counted(pool), indexes(path)) == (49, [])
        pool.push([{"input": n, "site": "a"} for n in range(11)])
        assert counted(pool) == 60
        (first,) = indexes(path)
        assert counted(pool) == 60
        assert indexes(path) == [first]
        assert sum(each.count for each in pool.store.tally([("cores",)])) == 60
        (second,) = indexes(path)
        assert second != first, "one for other fields takes its place"
        assert counted(pool) == 60
        pool.delete(list(pool.tokens())[:49])
        assert (counted(pool), indexes(path)) == (11, [first]), "it stays while it is there and of use"
        pool.delete(list(pool.tokens())[:1])
        assert (counted(pool), indexes(path)) == (10, [])
        assert counted(pool) == 10
