"""Values that nobody expects: any JSON, and what looks like a token, a record or an order and is not quite one."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

HUGE = 10**400
"""A number that no float can be."""

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([HUGE, -HUGE, 2**63, -(2**63) - 1, 1e308, -1e308, 1e-300, -0.0, 0.5, 99, 2_000_000_000]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.sampled_from(["", "0", "\x1b[2J", "../x", "token", "\u202e", "a\nb", "1e999", "0x", "é" * 300]),
)
NAMES = st.one_of(
    st.sampled_from(
        "claim logs attempt failure started ended lease pilot superseded scratch host claimed wall cpu max_rss kept "
        "notes also user wrote exit_code id since running process where why at input".split()
    ),
    st.text(max_size=3),
)
ANY = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=6,
)
OBJECTS = st.dictionaries(NAMES, ANY, max_size=4)


def sometimes(usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Most often what is usual, else anything."""
    return st.one_of(usual, usual, usual, ANY)


NUMBERS = sometimes(st.integers(0, 5))
TIMES = sometimes(st.sampled_from([0, 99, 1_700_000_000, 1.7e9]))

RUNS = st.fixed_dictionaries(
    {},
    optional={
        "claim": sometimes(st.sampled_from(["aa", "bb"])),
        "pilot": sometimes(st.sampled_from(["gone", "alive"])),
        "host": sometimes(st.just("far")),
        "attempt": NUMBERS,
        "claimed": TIMES,
        "lease": sometimes(st.just(60.0)),
        "scratch": sometimes(st.just("/nowhere/aa")),
        "started": TIMES,
        "ended": TIMES,
        "exit_code": NUMBERS,
        "failure": sometimes(st.sampled_from(["lost", "application", "cancelled"])),
        "superseded": sometimes(st.just(True)),
        "logs": sometimes(st.lists(sometimes(st.just("logs_odd.out")), max_size=3)),
        "wall": TIMES,
        "max_rss": NUMBERS,
        "notes": sometimes(st.lists(st.text(max_size=3), max_size=2)),
        "also": sometimes(st.lists(OBJECTS, max_size=2)),
        "user": ANY,
        "kept": ANY,
    },
)
OURS = st.fixed_dictionaries(
    {},
    optional={
        "push": ANY,
        "signature": ANY,
        "attempt": NUMBERS,
        "scrub_base": NUMBERS,
        "spent": sometimes(st.dictionaries(st.sampled_from(["lost", "preempted", "unseen", "x"]), NUMBERS)),
        "not_before": TIMES,
        "checkpoint": sometimes(st.lists(sometimes(st.just("saved")), max_size=2)),
        "run": sometimes(RUNS),
        "history": sometimes(st.lists(sometimes(RUNS), max_size=3)),
    },
)
STATES = st.sampled_from([(0, 0, ""), (5, 0, ""), (5, 6, 0), (5, 6, 1), (99, 99, 137)])


@st.composite
def bodies(draw: st.DrawFn) -> dict[str, Any]:
    """The fields of what may be a token."""
    lock, done, code = draw(STATES)
    usual = {"type": "token", "lock": lock, "done": done, "exit_code": code, "hostname": "", "scrub_count": 0}
    odd = st.fixed_dictionaries(
        {"picas": sometimes(OURS)},
        optional={
            "input": ANY,
            "output": ANY,
            "error": sometimes(st.lists(sometimes(OBJECTS), max_size=2)),
            "uploads": ANY,
            "priority": ANY,
            "cores": NUMBERS,
            "walltime": ANY,
            "scrub_count": NUMBERS,
            "hostname": ANY,
            "exit_code": ANY,
            "slurm_job_id": ANY,
            "note": ANY,
        },
    )
    return {**usual, **draw(odd)}


RECORDS = st.fixed_dictionaries(
    {},
    optional={
        "host": ANY,
        "process": sometimes(st.fixed_dictionaries({"boot": ANY, "namespace": ANY, "user": ANY, "pid": ANY})),
        "jobs": sometimes(OBJECTS),
        "scratch": ANY,
        "lease": NUMBERS,
        "interval": NUMBERS,
        "began": TIMES,
        "running": sometimes(st.lists(sometimes(OBJECTS), max_size=3)),
        "state": sometimes(st.just("ended")),
        "reason": ANY,
        "slots": ANY,
        "version": ANY,
    },
)
PAUSES = st.fixed_dictionaries(
    {}, optional={"where": sometimes(st.just("cores == 2")), "why": ANY, "at": TIMES}
)
CONTROLS = st.fixed_dictionaries(
    {},
    optional={
        "paused": sometimes(st.lists(sometimes(PAUSES), max_size=3)),
        "stop": sometimes(st.dictionaries(st.sampled_from(["*", "p", "q"]), TIMES)),
        "cancel": sometimes(st.dictionaries(st.sampled_from(["aa", "bb"]), TIMES)),
        "barred": sometimes(st.dictionaries(st.sampled_from(["h", "i"]), sometimes(PAUSES))),
        "other": ANY,
    },
)
