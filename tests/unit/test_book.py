"""The jobs that were submitted, noted on disk."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from picas.errors import LaunchError
from picas.launchers import book as book_module
from picas.launchers.book import KEPT_SECONDS, Book

if TYPE_CHECKING:
    from pathlib import Path

URL = "https://couch.example.org/pool"


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(URL, tmp_path)


def submitted(book: Book, *ids: str) -> None:
    job = book.ask("slurm", pilots=3, name="picas", profile="gpu")
    book.submitted(job, ids, f"{job.script}/picas.sh")


def test_a_pool_without_jobs_has_none(book: Book) -> None:
    assert book.jobs() == []
    assert not book.path.exists()


def test_a_job_is_known_to_others_as_soon_as_it_is_submitted(book: Book, tmp_path: Path) -> None:
    submitted(book, "12", "13")
    (job,) = Book(URL, tmp_path).jobs()
    assert (job.launcher, job.ids, job.pilots, job.name, job.profile) == (
        "slurm",
        ("12", "13"),
        3,
        "picas",
        "gpu",
    )
    assert job.script.endswith("/picas.sh")
    assert job.ended is None


def test_each_pool_has_jobs_of_its_own(book: Book, tmp_path: Path) -> None:
    submitted(book, "12")
    assert Book(URL + "2", tmp_path).jobs() == []


def test_a_login_in_the_url_makes_no_other_pool_and_is_not_written(book: Book, tmp_path: Path) -> None:
    submitted(Book(URL.replace("//", "//me:secret@"), tmp_path), "12")
    assert [job.ids for job in book.jobs()] == [("12",)]
    assert b"secret" not in book.path.read_bytes()


def test_a_submission_without_an_answer_is_seen(book: Book) -> None:
    book.ask("slurm", pilots=3, name="picas")
    assert [(job.ids, job.pilots) for job in book.jobs()] == [((), 3)]


def test_a_submission_that_was_refused_is_none(book: Book) -> None:
    book.refused(book.ask("slurm", pilots=3, name="picas"))
    assert book.jobs(ended=True) == []


def test_a_job_that_is_over_is_only_listed_on_request(book: Book) -> None:
    submitted(book, "12")
    (job,) = book.jobs()
    book.ended(job, "3 COMPLETED")
    assert book.jobs() == []
    assert [job.outcome for job in book.jobs(ended=True)] == ["3 COMPLETED"]


@pytest.mark.parametrize(
    "damage", [b'{"event": "subm', b"\xff\x00", b"[1]", b'{"event": "asked", "key": "x"}']
)
def test_what_a_crash_left_in_the_book_costs_only_itself(book: Book, damage: bytes) -> None:
    submitted(book, "12")
    with book.path.open("ab") as file:
        file.write(damage)
    submitted(book, "13")
    assert [job.ids for job in book.jobs()] == [("12",), ("13",)]


def test_scripts_and_book_are_nobody_elses_to_read(book: Book) -> None:
    job = book.ask("slurm", pilots=1, name="picas")
    assert book.directory.stat().st_mode & 0o077 == 0
    assert (book.directory / job.key).stat().st_mode & 0o077 == 0


def test_processes_that_write_at_the_same_time_lose_nothing(book: Book, tmp_path: Path) -> None:
    program = (
        "import sys, pathlib\n"
        "from picas.launchers.book import Book\n"
        "book = Book(sys.argv[1], pathlib.Path(sys.argv[2]))\n"
        "for number in range(20):\n"
        "    job = book.ask('slurm', pilots=1, name='picas')\n"
        "    book.submitted(job, [f'{sys.argv[3]}{number}'], 'x')\n"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program, URL, str(tmp_path), letter]) for letter in "abc"
    ]
    assert [process.wait(60) for process in started] == [0, 0, 0]
    ids = sorted(each for job in book.jobs() for each in job.ids)
    assert ids == sorted(f"{letter}{number}" for letter in "abc" for number in range(20))


def test_what_ended_long_ago_is_left_out_with_its_scripts(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book_module, "TIDY_LINES", 5)
    submitted(book, "old")
    (old,) = book.jobs()
    book.ended(old, "")
    submitted(book, "alive")
    later = time.time() + KEPT_SECONDS + 3600
    monkeypatch.setattr(book_module.time, "time", lambda: later)
    submitted(book, "new")
    assert [job.ids for job in book.jobs(ended=True)] == [("alive",), ("new",)]
    assert not (book.directory / old.key).exists()
    assert len([entry for entry in book.directory.iterdir() if entry.is_dir()]) == 2


def test_a_book_that_cannot_be_written_stops_the_submission(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LaunchError) as refused:
        Book(URL, tmp_path / "file").ask("slurm", pilots=1, name="picas")
    assert "book.jsonl cannot be written: Not a directory" in refused.value.message
    assert "nothing was" in refused.value.advice
