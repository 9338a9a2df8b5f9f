"""What is attached: pieces of bounded size, and logs that are capped with a note."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from picas.payload import CHUNK_BYTES, Payload, Stretch, capped_log, file_payload

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_a_file_comes_in_pieces_that_join_to_it(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(n % 251 for n in range(size)))
    for payload in (
        file_payload("name", "image/png", path),
        Payload("name", "image/png", (path.read_bytes(),)),
    ):
        pieces = list(payload.chunks())
        assert payload.length == size
        assert max(map(len, pieces), default=0) <= CHUNK_BYTES
        assert b"".join(pieces) == payload.read() == path.read_bytes()


def test_a_file_that_grows_is_attached_as_long_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    payload = file_payload("name", "text/plain", path)
    path.write_bytes(b"before and after")
    assert payload.read() == b"before"


def test_a_stretch_is_read_from_its_place_and_no_further_than_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    assert Payload("x", "text/plain", (Stretch(path, 3, 4),)).read() == b"3456"
    assert Payload("x", "text/plain", (Stretch(path, 8, 4), b"!")).read() == b"89!"


@pytest.mark.parametrize("cap", [100, 101, 5_000])
def test_a_log_within_the_cap_is_attached_as_it_is(tmp_path: Path, cap: int) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * 100)
    assert capped_log("log", log, cap).read() == b"x" * 100


@pytest.mark.parametrize("cap", [1, 10, 99])
def test_a_longer_log_keeps_head_and_tail_around_a_note(tmp_path: Path, cap: int) -> None:
    log = tmp_path / "log"
    content = bytes(range(100))
    log.write_bytes(content)
    payload = capped_log("log", log, cap)
    kept = payload.read()
    head, tail = cap // 2, cap - cap // 2
    assert kept.startswith(content[:head])
    assert kept.endswith(content[-tail:])
    note = kept[head : len(kept) - tail].decode()
    assert f"{100 - cap} bytes left out" in note
    assert "the log had 100" in note
    assert payload.length == len(kept)
