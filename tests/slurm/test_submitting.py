"""`picas submit slurm` on a real Slurm: what is submitted runs, and is followed and cancelled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.slurm.conftest import Site


@pytest.mark.any_pool
def test_an_array_of_six_pilots_runs_three_hundred_tokens(site: Site) -> None:
    site.push(*(f"echo {number}" for number in range(300)))
    (job,) = site.submit("--pilots", "6")
    site.until_over()
    assert site.states() == ["done"] * 300
    assert {token["slurm_job_id"] for token in site.tokens()} <= {f"{job}_{element}" for element in range(6)}
