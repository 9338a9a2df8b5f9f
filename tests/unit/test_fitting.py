"""Logs that are cut: their head and tail stay, and it is said what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from picas.moving import fitting
from picas.payload import Payload, Stretch, capped_log, file_payload

if TYPE_CHECKING:
    from pathlib import Path

TEXT = "".join(f"{n}\n" for n in range(2000)).encode()


def test_head_and_tail_stay_with_a_note_between_them() -> None:
    (log,), (note,) = fitting.cut([Payload("x.out", "text/plain", (TEXT,))], 100)
    data = log.read()
    assert data.startswith(TEXT[:50] + b"\n[picas: ")
    assert data.endswith(b" the pool takes no more]\n" + TEXT[-50:])
    assert f"{len(TEXT) - 100:,} of {len(TEXT):,} bytes".encode() in note.encode()
    assert (log.name, log.content_type) == ("x.out", "text/plain")


def test_what_is_short_enough_is_left_as_it_is() -> None:
    logs = (Payload("x.out", "text/plain", (TEXT,)), Payload("x.err", "text/plain", ()))
    assert fitting.cut(logs, len(TEXT)) == (logs, ())


def test_a_file_is_cut_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(TEXT)
    (log,), _ = fitting.cut([file_payload("x.out", "text/plain", path)], 1001)
    assert [type(part) for part in log.parts] == [Stretch, bytes, Stretch]
    assert log.read().startswith(TEXT[:500])
    assert log.read().endswith(TEXT[-501:])


def test_a_log_that_was_cut_before_can_be_cut_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(TEXT)
    (log,), _ = fitting.cut([capped_log("x.out", path, 4000)], 600)
    data = log.read()
    assert data[:300] == TEXT[:300]
    assert data[-300:] == TEXT[-300:]
    assert data.count(b"[picas:") == 1


def test_lengths_to_try_halve_down_to_the_least() -> None:
    logs = [Payload("a", "", (b"x" * 10_000,)), Payload("b", "", (b"x" * 70,))]
    assert list(fitting.shorter(logs, 1024)) == [5000, 2500, 1250, 1024]
    assert list(fitting.shorter([], 10)) == []
