"""How jobs end on a real Slurm: at their time limit, cancelled, requeued, with their node. No token is lost by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.slurm.cluster import NODE
from tests.slurm.conftest import Site

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.slurm.cluster import SlurmCluster

CHECKPOINTED = """\
trap 'echo half > state.new; mv state.new state; exit 1' USR1
if [ -e state ]; then echo "went on from $(cat state)"; exit 0; fi
echo begun
while :; do sleep 0.1; done
"""
"""Work that never ends by itself, unless it has a state to go on from."""

HELD = "echo begun >> {mark}; while [ -e {mark} ]; do sleep 0.1; done"
"""Work that goes on as long as a file is there."""


@pytest.fixture
def mark(site: Site) -> Path:
    """A file that is there as soon as `HELD` runs, and while it is to go on."""
    return site.picas.path("mark")


def _begun(mark: Path) -> int:
    """How often the work has begun."""
    return mark.read_text().count("begun") if mark.exists() else 0


def begin_to_run_out(site: Site) -> str:
    """Submit a job whose time is up in a minute; its id."""
    site.picas.write("work.sh", CHECKPOINTED)
    site.push(f"bash {site.picas.path('work.sh')}")
    (job,) = site.submit("--time", "1m", "--signal", "USR1@30", "--", "--collect", "state")
    site.until(lambda: site.states() == ["locked"])
    return job


def check_that_the_next_job_goes_on(site: Site, first: str) -> None:
    site.until(lambda: site.states() == ["todo"])
    token = site.token()
    assert "slurm_job_id" not in token.body
    assert token.checkpoint == ("state",)
    [attempt] = token.history
    assert (attempt["failure"], attempt["job"]) == ("preempted", {"slurm_job_id": first})
    assert attempt["wall"] < 45  # half a minute before the end, and not at it
    (second,) = site.submit()
    site.until_over()
    assert site.states() == ["done"]
    assert site.token()["slurm_job_id"] == second


@pytest.fixture(scope="module")
def running_out(_slurm: SlurmCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, str]]:
    """Such a job, which runs while other tests do: half a minute is long."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _slurm.environment.items():
            patch.setenv(name, value)
        _slurm.revive()
        site = Site(_slurm, tmp_path_factory.mktemp("running-out"))
        job = begin_to_run_out(site)
        _slurm.spared.add(job)
        yield site, job
        _slurm.spared.remove(job)


@pytest.mark.usefixtures("running_out")
def test_the_tokens_of_a_cancelled_job_go_back_at_once(site: Site, mark: Path) -> None:
    site.push(HELD.format(mark=mark))
    (job,) = site.submit()
    site.until(lambda: _begun(mark))
    assert site.picas("submit", "cancel").out == f"cancelled {job}\n"
    site.until_over()
    assert site.states() == ["todo"], site.printed()
    assert site.alive() == 0
    assert "error" not in site.token().body


def test_a_requeued_job_takes_its_tokens_again(site: Site, mark: Path) -> None:
    site.push(HELD.format(mark=mark))
    (job,) = site.submit()
    site.until(lambda: _begun(mark))
    site.slurm.ask("scontrol", "requeue", job)
    site.until(lambda: _begun(mark) == 2)
    mark.unlink()
    site.until_over()
    assert site.states() == ["done"], site.printed()
    attempts = [*site.token().history, site.token().run]
    assert [attempt["job"]["slurm_job_id"] for attempt in attempts] == [job, job]


def test_before_its_time_is_up_a_token_goes_back_with_its_checkpoint_and_the_next_job_finishes_it(
    running_out: tuple[Site, str], slurm: SlurmCluster
) -> None:
    check_that_the_next_job_goes_on(*running_out)


def test_the_tokens_of_a_node_that_is_set_down_run_on_it_again_when_it_is_back(
    site: Site, mark: Path
) -> None:
    site.push(HELD.format(mark=mark))
    (job,) = site.submit()
    site.until(lambda: _begun(mark))
    site.slurm.ask("scontrol", "update", f"NodeName={NODE}", "State=DOWN", "Reason=test")
    site.until(lambda: site.states() == ["todo"])
    site.slurm.revive()
    site.until(lambda: _begun(mark) == 2)
    mark.unlink()
    site.until_over()
    assert site.states() == ["done"], site.printed()
    attempts = [*site.token().history, site.token().run]
    assert [attempt["job"]["slurm_job_id"] for attempt in attempts] == [job, job]


@pytest.mark.slow
def test_that_is_so_with_a_pool_on_a_server(slurm: SlurmCluster, tmp_path: Path, database: str) -> None:
    site = Site(slurm, tmp_path, database)
    check_that_the_next_job_goes_on(site, begin_to_run_out(site))


@pytest.mark.slow
def test_the_tokens_of_a_node_that_crashes_run_again_when_it_is_back(site: Site, mark: Path) -> None:
    site.push(HELD.format(mark=mark))
    (job,) = site.submit()
    site.until(lambda: _begun(mark))
    site.slurm.crash_node()
    assert site.states() == ["locked"]
    site.slurm.ask("scontrol", "update", f"NodeName={NODE}", "State=DOWN", "Reason=test")
    site.slurm.revive()
    site.until(lambda: _begun(mark) == 2)
    mark.unlink()
    site.until_over()
    assert site.states() == ["done"], site.printed()
    assert [attempt["failure"] for attempt in site.token().history] == ["lost"]
    assert site.token()["slurm_job_id"] == job
