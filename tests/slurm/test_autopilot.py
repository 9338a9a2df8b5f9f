"""`picas autopilot` on a real Slurm: from an empty pool to all done, and no pilot left."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.slurm.conftest import Site

PLAN = """
max-pilots = 6

[profiles.SingleCore]
launcher = "slurm"
memory = "200MB"
time = "10m"

[profiles.MultiCore]
launcher = "slurm"
cores = 4
memory = "800MB"
time = "10m"
where = "cores > 1"
"""


def push(site: Site, *tokens: dict[str, Any]) -> None:
    """Push tokens with fields."""
    path = site.picas.write("tokens.jsonl", "".join(f"{json.dumps(fields)}\n" for fields in tokens))
    assert site.picas("push", path).code == 0


@pytest.mark.any_pool
def test_from_an_empty_pool_to_all_done_and_no_pilot_left(site: Site) -> None:
    site.picas.write("autopilot.toml", PLAN)
    push(site, {"input": "true"})
    assert site.picas("delete", "token_0", "--yes").code == 0
    nothing = site.picas("autopilot", "--once", "--json")
    assert (nothing.code, nothing.json["started"], nothing.json["over"]) == (0, 0, True)
    push(
        site,
        *({"input": f"echo {n}", "memory": "100MB"} for n in range(30)),
        *({"input": f"echo {n}", "cores": 3, "memory": 600_000_000, "walltime": "5m"} for n in range(6)),
    )
    answer = site.picas("autopilot", "--every", "1", "--until-done")
    assert answer.code == 0, answer.err + answer.out
    assert site.states() == ["done"] * 36
    assert site.slurm.waiting() == []
    assert site.alive() == 0
    tokens = site.tokens()
    single, multi = (
        {str(token["slurm_job_id"]).partition("_")[0] for token in tokens if token.cores == cores}
        for cores in (1, 3)
    )
    assert single
    assert multi
    assert not single & multi, "each kind was run by pilots of its own"
    after = site.picas("autopilot", "--once", "--json").json
    assert (after["started"], after["pilots"], after["over"]) == (0, 0, True)


@pytest.mark.slow
def test_after_starts_that_fail_on_the_cluster_it_stops_and_quotes_slurm(site: Site) -> None:
    site.picas.write("autopilot.toml", PLAN.replace('"10m"', '"10m"\nsetup = "exit 7"', 1))
    push(site, *({"input": f"echo {n}"} for n in range(3)))
    assert site.picas("autopilot", "--once", "--json").json["started"] == 3
    site.until_over()
    found = site.picas("autopilot", "--once", "--json")
    single = found.json["profiles"][0]
    assert (found.code, single["start"], single["wanted"], single["failed"]) == (1, 0, 3, 3)
    assert "3 pilots in a row failed: FAILED (NonZeroExitCode)" in single["why"]
    assert site.states() == ["todo"] * 3
    site.picas.write("autopilot.toml", PLAN)
    assert site.picas("autopilot", "--every", "1", "--until-done", "--retry").code == 0
    assert site.states() == ["done"] * 3


def test_what_slurm_refuses_is_quoted(site: Site) -> None:
    site.picas.write("autopilot.toml", PLAN.replace('"10m"', '"10m"\npartition = "none"', 1))
    push(site, {"input": "true"})
    found = site.picas("autopilot", "--once", "--json")
    assert found.code == 1
    assert "invalid partition specified: none" in found.json["profiles"][0]["refused"]
    assert site.states() == ["todo"]
