"""Whether an attempt failed for want of memory: by what the kernel has counted, and by what programs say.

Where memory runs out, of the machine or of the control group that a batch system has put the pilot into, the kernel
kills the process that has most of it, and counts that: for each control group, and for the machine. A limit that
a process has for itself (``ulimit -v``) makes its requests fail, and programs say so in their last words.
"""

from __future__ import annotations

import re
import signal
import threading
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

EXIT_KILLED = 128 + signal.SIGKILL
"""Exit code of what the kernel has killed, and of a shell whose command it has."""

LAST_WORDS = 3
"""So many lines at the end of the error output are looked at."""

MARK_SECONDS = 1.0
"""A mark may be so old: to read the counters for each of many short attempts takes more time than theirs."""

_WORDS = re.compile(
    r"MemoryError\b"  # Python, and numpy's _ArrayMemoryError
    r"|\b[Cc]annot allocate memory\b"  # strerror(ENOMEM)
    r"|\bbad_alloc\b"  # C++
    r"|\bOutOfMemoryError\b"  # Java, CUDA by way of PyTorch
    r"|\bcannot allocate vector of size\b"  # R
    r"|\b[Oo]ut of memory\b"
)


def says_so(lines: Iterable[str]) -> bool:
    """Whether one of these lines, the last ones of a program that failed, says that memory was wanting."""
    return any(_WORDS.search(line) for line in lines)


class Kills:
    """How often the kernel has killed something here because there was no memory left; for any thread.

    Args:
        files: where it counts them, each a file with lines ``oom_kill <number>``. Those of this system by default.
    """

    def __init__(self, files: Iterable[Path] | None = None) -> None:
        self._files = list(counters() if files is None else files)
        self._lock = threading.Lock()
        self._known = self._read()  # kills up to these numbers have been put down to somebody
        self._mark = time.monotonic(), self._known

    def mark(self) -> list[int]:
        """What the counters show, or showed a moment ago; for `claim_one`."""
        if time.monotonic() - self._mark[0] > MARK_SECONDS:
            self._mark = time.monotonic(), self._read()
        return self._mark[1]

    def _read(self) -> list[int]:
        return [_count(file) for file in self._files]

    def claim_one(self, since: list[int]) -> bool:
        """Whether there was a kill after this mark that nobody else has claimed; if so, it is now claimed."""
        with self._lock:
            before = [max(pair) for pair in zip(since, self._known)]
            found = [now > then for now, then in zip(self._read(), before)]
            # A kill counts in several of the files.
            self._known = [then + rose for then, rose in zip(before, found)]
        return any(found)


@cache
def kills() -> Kills:
    """Those that all pilots in this process share, so that no kill is put down to two attempts."""
    return Kills()


def counters(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> list[Path]:
    """The files in which the kernel counts such kills: of our control group, and of the whole machine.

    Source: the kernel's cgroup-v2.rst (``memory.events``, which counts all groups below too) and
    cgroup-v1/memory.rst (``memory.oom_control``); proc(5) on cgroups and vmstat.
    """
    found = []
    try:
        lines = (proc / "self/cgroup").read_text("utf-8", "replace").splitlines()
    except OSError:  # not Linux
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            places, name = (groups, groups / "unified"), "memory.events"
        elif "memory" in controllers.split(","):
            places, name = (groups / controllers, groups / "memory"), "memory.oom_control"
        else:
            continue
        # In a container our group may be mounted as if it were the topmost one.
        files = [place / group / name for group in (path.lstrip("/"), "") for place in places]
        found += [file for file in files if _count(file) >= 0][:1]
    machine = proc / "vmstat"
    return [*found, machine] if _count(machine) >= 0 else found


def _count(file: Path) -> int:
    """What a file says of kills; -1 if it says nothing."""
    try:
        with open(file, "rb") as text:
            number = re.search(rb"^oom_kill (\d+)$", text.read(), re.MULTILINE)
    except OSError:
        return -1
    return int(number[1]) if number else -1
