"""How many examples the random tests in this directory try.

``PICAS_FAULTS=20`` in the environment has them try twenty times as many, each machine with longer stories, from other
beginnings in every run: so does ``nox -s faults``.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

FACTOR = int(os.environ.get("PICAS_FAULTS") or 1)


def examples(short: int, steps: int = 30) -> settings:
    """Settings for so many examples, of so many steps, in the short form.

    In the short form the examples are the same in every run, so that what it says of a change is of that change.
    """
    return settings(
        max_examples=short * FACTOR,
        stateful_step_count=steps if FACTOR == 1 else 2 * steps,
        derandomize=FACTOR == 1,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@contextmanager
def directory() -> Iterator[Path]:
    """A directory for a pool, in memory where that can be had: a disk makes what is tested here no other, only slow."""
    memory = Path("/dev/shm")
    place = Path(tempfile.mkdtemp(prefix="picas-faults-", dir=memory if os.access(memory, os.W_OK) else None))
    try:
        yield place
    finally:
        shutil.rmtree(place)
