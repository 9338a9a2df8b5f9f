"""Disks that are really full: a small file system in memory for scratch directory, spool and pool, each in turn."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from picas.budgets import Budgets
from picas.errors import InfrastructureError, PoolUnavailable
from picas.pilot import courier, inbox, supply
from picas.pilot.loop import Pilot
from picas.pool import Pool, open_pool
from picas.spool.spool import Spool
from picas.tokens import State

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERVER = "https://couchdb.example.org/pool"

PATIENCE = 120.0
"""Seconds after which what should happen counts as not happening."""

UNTIL_THERE_IS_SPACE = "until echo fine > x; do sleep 0.05; done; cat x"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    place = tmp_path / "small"
    place.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root on Linux may mount a file system")
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    with open_pool(f"sqlite:///{tmp_path}/pool.db") as pool:
        yield pool


@contextmanager
def filled(place: Path) -> Iterator[Path]:
    """The file system without any space left, as long as the block lasts."""
    filler = place / "filler"
    with open(filler, "wb", 0) as file:
        for size in (4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass
    try:
        yield filler
    finally:
        filler.unlink(missing_ok=True)


def wait_for(condition: Any) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.02)


class Remote:
    """A store that a pilot takes for one on a server, and that can be away."""

    url = SERVER

    def __init__(self, pool: Pool) -> None:
        self._store = pool.store
        self.away = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def replace(self, changes: Any) -> Any:
        if self.away:
            raise PoolUnavailable("the pool is away")
        return self._store.replace(changes)


def test_a_full_scratch_directory_ends_the_pilot_and_harms_no_token(
    pool: Pool, small: Path, tmp_path: Path
) -> None:
    pool.push(["true"] * 5)
    with filled(small):
        pilot = Pilot(pool, scratch=small, spool=tmp_path / "spool")
        with pytest.raises(InfrastructureError, match=f"{small}.*cannot be used: No space left"):
            pilot.run()
        assert pool.counts()[State.TODO] == 5
    assert Pilot(pool, scratch=small, spool=tmp_path / "spool").run().done == 5


def test_work_that_fills_the_scratch_directory_fails_and_the_next_has_its_space_again(
    pool: Pool, small: Path, tmp_path: Path
) -> None:
    pool.push(["head -c 3000000 /dev/zero > big", "head -c 3000000 /dev/zero", UNTIL_THERE_IS_SPACE])
    once = Budgets(infrastructure=0)
    summary = Pilot(pool, scratch=small, spool=tmp_path / "spool", budgets=once).run()
    assert (summary.done, summary.error) == (1, 2)
    for token in pool.tokens("error"):
        assert token.run["failure"] == "infrastructure"
        assert f"the disk of the scratch directory {small}" in token["error"][-1]["message"]
    log = b"".join(pool.read_attachment("token_2", "logs_token_2.out"))
    assert log == b"fine\n"


def test_results_pass_a_full_spool_by(pool: Pool, small: Path, tmp_path: Path) -> None:
    pool.push(["echo x"] * 3)
    problems: list[str] = []
    with filled(small):
        pilot = Pilot(
            Pool(Remote(pool)),  # type: ignore[arg-type]
            scratch=tmp_path,
            spool=small,
            on_event=lambda event: problems.append(event.message) if event.kind == "problem" else None,
        )
        assert (pilot.run().done, len(problems)) == (3, 1)
    assert f"the spool {small}" in problems[0]
    assert "No space left" in problems[0]


def test_a_spool_that_fills_up_keeps_what_it_has(
    pool: Pool, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "PAUSE_SECONDS", (0.02, 0.05))
    monkeypatch.setattr(inbox, "GROUP", 5)  # results that come together are kept together, or none of them
    pool.push(["head -c 60000 /dev/urandom"] * 40)
    remote = Remote(pool)
    remote.away = True
    problems: list[str] = []
    pilot = Pilot(
        Pool(remote),  # type: ignore[arg-type]
        scratch=tmp_path,
        spool=small,
        on_event=lambda event: problems.append(event.message) if event.kind == "problem" else None,
    )
    done: list[Any] = []
    thread = threading.Thread(target=lambda: done.append(pilot.run()))
    thread.start()
    wait_for(lambda: any("cannot be written" in problem for problem in problems))
    kept = Spool(small, SERVER).waiting()
    assert 1 <= kept < 40
    remote.away = False
    thread.join(PATIENCE)
    assert (done[0].done, done[0].unsent) == (40, 0)
    assert Spool(small, SERVER).waiting() == 0


def test_a_pool_that_is_full_goes_on_when_there_is_space(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "PAUSE_SECONDS", (0.02, 0.05))
    monkeypatch.setattr(supply, "PAUSE_SECONDS", (0.02, 0.05))
    problems: list[str] = []
    with open_pool(f"sqlite:///{small}/pool.db") as pool:
        pool.push(["head -c 20000 /dev/urandom"] * 8)
        with filled(small) as filler:
            with pytest.raises(PoolUnavailable, match=f"{small}/pool.db.*full|{small}/pool.db cannot be"):
                pool.push([f"more {n}" for n in range(5000)])
            pilot = Pilot(
                pool,
                scratch=tmp_path,
                spool=tmp_path / "spool",
                on_event=lambda event: problems.append(event.message) if event.kind == "problem" else None,
            )
            done: list[Any] = []
            thread = threading.Thread(target=lambda: done.append(pilot.run()))
            thread.start()
            wait_for(lambda: problems)
            assert f"{small}/pool.db" in problems[0]
            filler.unlink()
            thread.join(PATIENCE)
        assert (done[0].done, done[0].unsent) == (8, 0)
        assert pool.counts()[State.DONE] == 8
