"""Which pilots there are, and how those before them began."""

from __future__ import annotations

import json
from typing import Any

from tests.autopilot.plans import job, progress

from picas.autopilot.record import (
    BEGUN_SECONDS,
    MOST_JOBS,
    TOOK_NOTHING,
    Failing,
    Standing,
    failing_of,
    refused,
    seen_at_work,
    standing,
    updated,
)
from picas.stores.base import PilotRecord
from picas.tokens import Token


def test_pilots_are_counted_by_kind_and_phase() -> None:
    found = [
        progress(job("A", 5), queued=3, running=2),
        progress(job("A", 5, 200.0), unknown=5),
        progress(job("B", 5), running=1, ended=3, failed=1),
        progress(job("gone", 2), queued=1, running=1),
        progress(job("", 3), queued=1, running=2),
    ]
    assert standing(["A", "B", "C"], found, 7, {}) == Standing({"A": 8, "B": 0}, {"A": 2, "B": 1}, 2, 3, 7)
    assert (standing(["A"], found, 7, {}).all_queued, standing(["A"], found, 7, {}).alive) == (10, 16)


def test_who_was_heard_of_is_known_by_the_batch_jobs_id() -> None:
    pilots = [
        PilotRecord("p", {"jobs": {"slurm_job_id": "12_3"}}, 1.0),
        PilotRecord("q", {"jobs": {"wms_job_id": None}}, 1.0),
        PilotRecord("r", {"jobs": "odd"}, 1.0),
    ]
    tokens = [Token("t", {"pbs_job_id": "77.server"}), Token("u", {"slurm_job_id": 5}), Token("v", {})]
    assert seen_at_work(pilots, tokens) == {"12_3", "77.server"}


def after(
    record: dict[str, Any], *found: Any, seen: set[str] = frozenset(), now: float = 1000.0
) -> dict[str, Any]:  # type: ignore[assignment]
    """What is remembered, by way of the JSON in which it is kept."""
    remembered: dict[str, Any] = json.loads(json.dumps(updated(record, found, seen, now)))
    return remembered


def test_pilots_that_failed_before_they_were_heard_of_are_counted_once() -> None:
    first = job("A", 5, 100.0, "12")
    record = after({}, progress(first, "2 FAILED", running=3, failed=2), now=500.0)
    assert failing_of(record, "A") == Failing(2, 500.0, "2 FAILED")
    record = after(record, progress(first, "3 FAILED", running=2, failed=3), now=600.0)
    record = after(record, progress(first, "3 FAILED", running=2, failed=3), now=610.0)
    assert failing_of(record, "A") == Failing(3, 600.0, "3 FAILED")
    record = after(record, progress(job("A", 1, 200.0, "13"), "FAILED", failed=1), now=700.0)
    assert failing_of(record, "A").count == 4
    assert failing_of(record, "B") == Failing()


def test_a_pilot_that_was_heard_of_has_begun_well() -> None:
    first, second = job("A", 5, 100.0, "12"), job("A", 5, 200.0, "13")
    record = after({}, progress(first, "FAILED", failed=5))
    assert failing_of(record, "A").count == 5
    assert failing_of(after(record, progress(second, queued=5), seen={"13_4"}), "A") == Failing()
    assert failing_of(after(record, progress(second, queued=5), seen={"131"}), "A").count == 5
    record = after(record, progress(second, queued=5), seen={"13"})
    third = progress(job("A", 1, 300.0, "14"), "FAILED", failed=1)
    assert failing_of(after(record, third), "A").count == 1, "what was before it does not count any more"


def test_a_pilot_that_has_run_for_a_while_has_begun_well() -> None:
    first = job("A", 1, 100.0, "12")
    record = after({}, progress(first, running=1), now=500.0)
    soon = after(record, progress(first, "FAILED", failed=1), now=500.0 + BEGUN_SECONDS - 1)
    assert failing_of(soon, "A").count == 1
    late = after(record, progress(first, "FAILED", failed=1), now=500.0 + BEGUN_SECONDS)
    assert failing_of(late, "A").count == 0


def test_pilots_that_took_nothing_of_what_waits_have_failed_too() -> None:
    first = progress(job("A", 5, 10_000.0, "12"), ended=5)
    assert failing_of(updated({}, [first], set(), 20_000.0), "A") == Failing(), "nothing waited"
    assert failing_of(updated({}, [first], set(), 20_000.0, {"B": 0.0}), "A") == Failing()
    assert failing_of(updated({}, [first], set(), 20_000.0, {"A": 9_900.0}), "A") == Failing(), (
        "one has ended"
    )
    record = updated({}, [first], {"12"}, 20_000.0, {"A": 9_000.0})
    assert failing_of(record, "A") == Failing(5, 20_000.0, TOOK_NOTHING)
    works = progress(job("A", 5, 10_000.0, "12"), running=1, ended=4)
    assert failing_of(updated({}, [works], set(), 20_000.0, {"A": 0.0}), "A") == Failing()


def test_a_batch_system_that_refuses_counts_as_a_failed_start() -> None:
    record = refused({}, "A", "sbatch: error: no such partition", 100.0)
    record = refused(record, "A", "x" * 10_000, 200.0)
    failing = failing_of(record, "A")
    assert (failing.count, failing.at, len(failing.why)) == (2, 200.0, 500)
    assert (
        failing_of(after(record, progress(job("A", 1, 300.0, "9"), running=1), seen={"9"}), "A") == Failing()
    )


def test_pilots_that_were_submitted_by_hand_are_nobodys_failure() -> None:
    assert after({}, progress(job("", 1), "FAILED", failed=1)) == {"profiles": {}}


def test_what_is_remembered_is_bounded_and_may_be_anything_odd() -> None:
    record: dict[str, Any] = {"profiles": "odd"}
    for n in range(3 * MOST_JOBS):
        record = after(record, progress(job("A", 1, float(n)), "FAILED", failed=1))
    assert len(record["profiles"]["A"]) == MOST_JOBS
    assert failing_of(record, "A").count == MOST_JOBS
