"""Knowing that memory ran out: what the kernel counts, and what programs say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from picas.work import outofmemory
from picas.work.outofmemory import Kills, counters, says_so

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _fresh_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outofmemory, "MARK_SECONDS", -1.0)


def counter(path: Path, number: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"low 0\nhigh 7\nmax 912\noom 3\noom_kill {number}\noom_group_kill 9\n")
    return path


@pytest.mark.parametrize(
    "line",
    [
        "MemoryError",
        "MemoryError: cannot hold it",
        "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 7.28 TiB for an array",
        "bash: fork: Cannot allocate memory",
        "OSError: [Errno 12] Cannot allocate memory",
        "  what():  std::bad_alloc",
        'Exception in thread "main" java.lang.OutOfMemoryError: Java heap space',
        "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB",
        "Error: cannot allocate vector of size 74.5 Gb",
        "Out of memory!",
    ],
)
def test_last_words_of_programs_that_had_no_memory(line: str) -> None:
    assert says_so(["", line])


@pytest.mark.parametrize(
    "line", ["", "exit code 1", "in-memory table is broken", "MemoryErrors.log was written", "out of range"]
)
def test_other_last_words(line: str) -> None:
    assert not says_so([line])


def test_a_kill_is_put_down_to_one_attempt(tmp_path: Path) -> None:
    files = [counter(tmp_path / name, 4) for name in ("group", "machine")]
    kills = Kills(files)
    first, second = kills.mark(), kills.mark()
    assert not kills.claim_one(first)
    for file in files:
        counter(file, 5)
    assert kills.claim_one(first)
    assert not kills.claim_one(second)
    for file in files:
        counter(file, 7)
    assert [kills.claim_one(second) for _ in range(3)] == [True, True, False]


def test_kills_before_an_attempt_began_are_not_its_own(tmp_path: Path) -> None:
    file = counter(tmp_path / "group", 0)
    kills = Kills([file])
    counter(file, 3)  # something that is none of ours
    mark = kills.mark()
    assert not kills.claim_one(mark)
    counter(file, 4)
    assert kills.claim_one(mark)


def test_what_is_counted_for_the_machine_alone_counts_too(tmp_path: Path) -> None:
    group, machine = counter(tmp_path / "group", 1), counter(tmp_path / "machine", 1)
    kills = Kills([group, machine])
    mark = kills.mark()
    counter(machine, 2)
    assert kills.claim_one(mark)
    assert not kills.claim_one(mark)


def test_where_nothing_is_counted_nothing_is_known(tmp_path: Path) -> None:
    for kills in (Kills([]), Kills([tmp_path / "gone"])):
        assert not kills.claim_one(kills.mark())


@pytest.mark.parametrize(
    ("groups", "there", "found"),
    [
        ("0::/slurm/job_7\n", ["sys/slurm/job_7/memory.events"], ["sys/slurm/job_7/memory.events"]),
        ("0::/user.slice\n", ["sys/memory.events"], ["sys/memory.events"]),  # in a container
        (
            "9:cpu,cpuacct:/x\n4:memory:/slurm/uid_1\n0::/\n",
            ["sys/memory/slurm/uid_1/memory.oom_control", "sys/memory/memory.oom_control"],
            ["sys/memory/slurm/uid_1/memory.oom_control"],
        ),
        ("4:memory:/docker/abc\n", ["sys/memory/memory.oom_control"], ["sys/memory/memory.oom_control"]),
        (
            "4:hugetlb,memory:/a\n0::/b\n",
            ["sys/hugetlb,memory/a/memory.oom_control", "sys/unified/b/memory.events"],
            ["sys/hugetlb,memory/a/memory.oom_control", "sys/unified/b/memory.events"],
        ),
        ("0::/gone\n", [], []),
        ("", [], []),
    ],
)
def test_the_counters_of_ones_own_control_group_are_found(
    tmp_path: Path, groups: str, there: list[str], found: list[str]
) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(groups)
    for name in there:
        counter(tmp_path / name, 0)
    machine = counter(tmp_path / "proc/vmstat", 2)
    wanted = [*(tmp_path / name for name in found), machine]
    assert counters(tmp_path / "proc", tmp_path / "sys") == wanted


def test_a_system_without_any_counters(tmp_path: Path) -> None:
    assert counters(tmp_path / "proc", tmp_path / "sys") == []
