"""Exports: whole, made while others work, checked when they are read; and what is archived is in the file first."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import random
import stat
from typing import TYPE_CHECKING, Any

import pytest
from tests.couchdb.processes import ask

from picas.errors import InvalidInput, PicasError, PoolRefused, PoolUnavailable, TokenRefused
from picas.moving import archiving, exporting
from picas.moving.archiving import archive
from picas.moving.copying import BATCH, Left
from picas.moving.exportfile import Reader
from picas.moving.exporting import check, export_chosen, new_file
from picas.moving.importing import import_from
from picas.payload import CHUNK_BYTES, Payload
from picas.pool import Pool, open_pool
from picas.selection import Selection
from picas.stores.base import Change
from picas.tokens import Failure, Outcome, State, Token

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BIG = random.Random(5).randbytes(CHUNK_BYTES + 5)


@pytest.fixture
def source(pool_url: str) -> Iterator[Pool]:
    with open_pool(pool_url) as pool:
        yield pool


@pytest.fixture
def target(pool_kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Pool]:
    """A pool of the same kind, empty."""
    new = request.getfixturevalue("new_database") if pool_kind == "couchdb" else None
    with open_pool(new() if new else f"sqlite:///{tmp_path}/target.db") as pool:
        yield pool


def run(pool: Pool, exit_code: int = 0, *, ended: float = 2.0, **files: bytes) -> Token:
    """One token, claimed and finished with a log and these files."""
    token = pool.claim(order="oldest")
    assert token is not None
    failure = Failure.APPLICATION if exit_code else None
    log = Payload(f"logs_{token.id}.out", "text/plain", (b"out of " + token.id.encode(),))
    kept = tuple(Payload(name, "image/png", (data,) if data else ()) for name, data in files.items())
    pool.finish(token, Outcome(exit_code, 1.0, ended, failure), logs=(log,), files=kept)
    return token


def content(pool: Pool) -> dict[str, Any]:
    """All that a pool holds."""
    return {
        token.id: (
            token.body,
            {
                info.name: (info.content_type, b"".join(pool.read_attachment(token.id, info.name)))
                for info in token.attachments.values()
            },
        )
        for token in pool.tokens()
    }


def filled(pool: Pool) -> Pool:
    """A pool with tokens in all states, with files of all sizes."""
    pool.push([{"input": "große 𝄞\n", "n": -1.5e300}, "b", "c", "d", "e"])
    run(pool, big=BIG, empty=b"", small=b"\0\xff\n")
    run(pool, 3, **{f"f{n}": bytes([n]) * 60_000 for n in range(80)})
    run(pool)
    assert pool.claim(order="oldest")
    return pool


def exported(pool: Pool, **options: Any) -> bytes:
    out = io.BytesIO()
    export_chosen(pool.store, out, **options)
    return out.getvalue()


def imported(pool: Pool, data: bytes, **options: Any) -> Any:
    return import_from(io.BufferedReader(io.BytesIO(data)), "the export", pool.store, **options)  # type: ignore[type-var]


def change(pool: Pool, token_id: str, **fields: Any) -> None:
    while True:  # the threads that read files may all be at it
        token = pool.get(token_id)
        if pool.store.replace([Change(Token(token.id, {**token.body, **fields}, token.rev))]) != [None]:
            return


# --- There and back ---


@pytest.mark.any_pool
def test_everything_comes_back_and_the_same_again_finds_it_there(source: Pool, target: Pool) -> None:
    filled(source)
    data = exported(source)
    found = imported(target, data, locked="as-is", verify=True)
    assert (found.copied, found.there, found.left) == (5, 0, {})
    assert content(target) == content(source)
    found = imported(target, data, locked="as-is", verify=True)
    assert (found.copied, found.there, found.left) == (0, 5, {})


def test_it_goes_on_in_the_new_pool_where_it_was_in_the_old(source: Pool, target: Pool) -> None:
    source.push(["a", "b", "c"])
    held = source.claim(order="oldest")
    imported(target, exported(source))
    assert held is not None
    assert target.get(held.id).state is State.TODO  # no pilot has it there
    assert target.push(["a", "b", "c", "d"]).pushed == 1
    assert target.get("token_3").input == "d"


def test_locked_tokens_can_be_refused(source: Pool, target: Pool) -> None:
    source.push(["a"])
    source.claim()
    with pytest.raises(PoolRefused, match="locked"):
        imported(target, exported(source), locked="refuse")
    assert content(target) == {}


def test_a_part_can_be_chosen(source: Pool) -> None:
    filled(source)
    data = exported(source, states=[State.DONE, State.ERROR], where=Selection.parse("id != 'token_2'"))
    ids = [json.loads(line).get("_id") for line in data.splitlines()]
    assert [each for each in ids if each] == ["token_0", "token_1"]


@pytest.mark.any_pool
def test_what_is_there_is_never_changed(source: Pool, target: Pool) -> None:
    source.push([{"_id": "same", "n": 1}, {"_id": "other", "n": 1}])
    target.push([{"_id": "other", "n": 2}])
    found = imported(target, exported(source))
    assert (found.copied, found.left) == (1, {Left.DIFFERS: 1})
    assert target.get("other")["n"] == 2


def test_many_tokens_go_in_constant_memory(source: Pool, target: Pool) -> None:
    source.push([f"work {n}" for n in range(2 * BATCH + 3)])
    seen: list[int] = []
    found = imported(target, exported(source), on_progress=lambda found: seen.append(found.seen))
    assert (found.copied, seen) == (2 * BATCH + 3, [BATCH, 2 * BATCH, 2 * BATCH + 3])


def test_a_line_is_what_couchdb_takes(source: Pool, new_database: Any) -> None:
    source.push(["a"])
    run(source, small=b"\0\xff\n")
    [document] = [json.loads(line) for line in exported(source).splitlines() if b'"_id"' in line]
    url = new_database()
    assert ask(url, "PUT", f"/{document.pop('_id')}", document)[0] == 201
    with open_pool(url) as pool:
        assert content(pool) == content(source)


# --- While others work ---


@pytest.mark.any_pool
@pytest.mark.parametrize("size", [10, len(BIG)])
def test_a_token_that_changes_while_it_is_read_is_read_again(
    source: Pool, target: Pool, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    source.push(["a", "b"])
    run(source, file=BIG[:size])
    whole = source.store.read_attachment
    changes = iter(range(3))

    def meddling(token_id: str, name: str) -> Iterator[bytes]:
        if next(changes, None) is not None:
            change(source, token_id, note=name)
        return whole(token_id, name)

    monkeypatch.setattr(source.store, "read_attachment", meddling)
    out = io.BytesIO()
    found = export_chosen(source.store, out)
    monkeypatch.undo()
    assert (found.content.tokens, found.restless) == (2, [])
    imported(target, out.getvalue(), verify=True)
    assert content(target) == content(source)


def test_one_that_never_holds_still_is_told(
    source: Pool, target: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.push(["a", "b"])
    run(source)
    monkeypatch.setattr(exporting, "TRIES", 3)
    whole = source.store.read_attachment

    def meddling(token_id: str, name: str) -> Iterator[bytes]:
        change(source, token_id, note=os.urandom(3).hex())
        return whole(token_id, name)

    monkeypatch.setattr(source.store, "read_attachment", meddling)
    out = io.BytesIO()
    assert export_chosen(source.store, out).restless == ["token_0"]
    assert imported(target, out.getvalue()).copied == 1


@pytest.mark.any_pool
def test_one_that_is_removed_or_does_not_fit_any_more_is_not_there(
    source: Pool, target: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.push(["a", "b", "c"])
    for _ in range(3):
        run(source)
    whole = source.store.read_attachment

    def meddling(token_id: str, name: str) -> Iterator[bytes]:
        if token_id == "token_0":
            source.delete([source.get(token_id)])
        if token_id == "token_1":
            source.reset([source.get(token_id)])
        return whole(token_id, name)

    monkeypatch.setattr(source.store, "read_attachment", meddling)
    out = io.BytesIO()
    assert export_chosen(source.store, out, [State.DONE]).restless == []
    imported(target, out.getvalue())
    assert list(content(target)) == ["token_2"]


def test_a_pool_that_does_not_answer_ends_it(
    source: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.push(["a"])
    run(source)

    def away(*args: Any) -> Any:
        raise PoolUnavailable("the pool is away")

    monkeypatch.setattr(source.store, "read_attachment", away)
    monkeypatch.setattr(source.store, "fetch", away)
    with pytest.raises(PoolUnavailable), new_file(tmp_path / "x.jsonl") as out:
        export_chosen(source.store, out)
    assert not list(tmp_path.glob("*x.jsonl*"))


# --- The file ---


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz"])
def test_a_file_is_its_owners_alone_whole_and_never_over_another(
    source: Pool, target: Pool, tmp_path: Path, name: str
) -> None:
    filled(source)
    path = tmp_path / name
    with new_file(path) as out:
        export_chosen(source.store, out)
        assert not path.exists()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes().startswith(b"\x1f\x8b" if name.endswith("gz") else b'{"picas_export":1')
    assert check(path).as_dict()["tokens"] == 5
    with open(path, "rb") as file:
        import_from(file, name, target.store, locked="as-is")
    assert content(target) == content(source)
    before = path.read_bytes()
    with pytest.raises(InvalidInput, match="is there already"), new_file(path) as out:
        export_chosen(source.store, out)
    assert path.read_bytes() == before


def test_a_full_disk_leaves_no_file(source: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source.push(["a"])

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(PicasError, match=r"x\.jsonl cannot be written: No space"),
        new_file(tmp_path / "x.jsonl") as out,
    ):
        export_chosen(source.store, out)
    assert not list(tmp_path.glob("*x.jsonl*"))


def test_what_was_not_written_as_it_should_be_gets_no_name(source: Pool, tmp_path: Path) -> None:
    source.push(["a"])
    with pytest.raises(InvalidInput, match="damaged"), new_file(tmp_path / "x.jsonl") as out:  # noqa: PT012
        export_chosen(source.store, out)
        out.seek(100)
        out.write(b"\n")
    assert not list(tmp_path.glob("*x.jsonl*"))


def test_wherever_it_is_cut_short_that_is_told_and_nothing_is_imported(source: Pool, target: Pool) -> None:
    source.push(["a", "b"])
    run(source, big=BIG, small=b"x" * 100)
    data = exported(source)
    packed = gzip.compress(data)
    cuts = [data[: len(data) * n // 23] for n in range(23)] + [
        packed[: len(packed) * n // 7] for n in range(7)
    ]
    ends = [n + 1 for n, byte in enumerate(data) if byte == 10][:-1]
    for cut in [*cuts, *(data[:end] for end in ends), data[:-1]]:
        with pytest.raises(InvalidInput, match=r"cut short after line|no export of PiCaS"):
            imported(target, cut)
    assert content(target) == {}


def test_whatever_is_changed_in_it_is_noticed(source: Pool, target: Pool) -> None:
    source.push(["a", "b"])
    run(source, big=BIG, small=b"x" * 100)
    data = exported(source)
    chance = random.Random(1)
    for _ in range(60):
        garbled = bytearray(data)
        garbled[chance.randrange(len(data))] ^= 1 << chance.randrange(7)
        with pytest.raises(InvalidInput, match=r"damaged at line|cut short|no export|newer"):
            imported(target, bytes(garbled))
    for more in (b"\n", b"{}\n", data):
        with pytest.raises(InvalidInput, match=r"damaged|more after its end"):
            imported(target, data + more)
    assert content(target) == {}


def lines_of(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.splitlines()]


@pytest.mark.parametrize(
    "line",
    [
        b"[]", b"5", b"\xff", b"[" * 10_000, b'{"picas_piece": 1, "of": "a", "name": "b", "data": ""}',
        b'{"picas_piece": "x"}', b'{"picas_piece": 0, "of": "a", "name": "b", "data": "%"}', b'{"_id": 5}', b"{}",
        b'{"_id": "a", "_attachments": 5}', b'{"_id": "a", "_attachments": {"x": {"data": 5}}}',
        b'{"_id": "a", "_attachments": {"x": {"content_type": "", "length": 0, "digest": ""}}}',
    ],
)  # fmt: skip
def test_what_is_no_export_is_refused_in_words(source: Pool, target: Pool, line: bytes) -> None:
    head = exported(source).splitlines()[0]
    with pytest.raises(InvalidInput, match="damaged at line 2"):
        imported(target, head + b"\n" + line + b"\n")
    with pytest.raises(InvalidInput, match=r"no export|damaged at line 1"):
        imported(target, line + b"\n")
    with pytest.raises(InvalidInput, match="newer PiCaS"):
        imported(target, b'{"picas_export": 2}\n')


def test_of_a_pipe_what_came_before_the_damage_is_there(source: Pool, target: Pool) -> None:
    source.push([f"work {n}" for n in range(BATCH + 5)])
    data = exported(source)
    read, write = os.pipe()
    import threading

    def feed() -> None:
        with os.fdopen(write, "wb") as pipe:
            pipe.write(data[:-200])

    feeder = threading.Thread(target=feed)
    feeder.start()
    with os.fdopen(read, "rb") as pipe, pytest.raises(InvalidInput, match="cut short"):
        import_from(pipe, "the pipe", target.store)
    feeder.join()
    assert len(content(target)) == BATCH
    assert imported(target, data).left == {}
    assert content(target) == content(source)


def test_nothing_is_left_in_the_temporary_directory(
    source: Pool, target: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    filled(source)
    data = exported(source)
    imported(target, data)
    with pytest.raises(InvalidInput):
        imported(target, data.replace(b'"content_type":"image/png"', b'"content_type":"image/gif"'))
    with Reader(io.BytesIO(data), "x") as reader:
        assert next(reader.tokens()).attachments
        assert list((tmp_path / "temporary").glob("*/*"))
    assert not list((tmp_path / "temporary").iterdir())


# --- The archive ---


@pytest.mark.any_pool
def test_what_ended_long_ago_goes_to_the_file_and_out_of_the_pool(
    source: Pool, target: Pool, tmp_path: Path
) -> None:
    source.push(list("abcdef"))
    now = source.store.now()
    for exit_code, age in ((0, 5000.0), (0, 5000.0), (3, 5000.0), (0, 100.0)):
        run(source, exit_code, ended=now - age, big=BIG[:100_000])
    source.claim(order="oldest")
    before = content(source)
    found = archive(source.store, tmp_path / "old.jsonl.gz", 3600.0)
    assert (found.exported.content.tokens, found.removed, found.stayed) == (2, 2, 0)
    assert sorted(content(source)) == ["token_2", "token_3", "token_4", "token_5"]
    found = archive(source.store, tmp_path / "bad.jsonl.gz", 3600.0, {State.ERROR})
    assert found.removed == 1
    for name in ("old.jsonl.gz", "bad.jsonl.gz"):
        with open(tmp_path / name, "rb") as file:
            import_from(file, name, source.store, verify=True)
    assert content(source) == before


@pytest.mark.parametrize("states", [{State.TODO}, {State.DONE, State.LOCKED}, {None}])
def test_only_what_has_ended_can_be_archived(source: Pool, tmp_path: Path, states: Any) -> None:
    with pytest.raises(InvalidInput, match="only tokens that have ended"):
        archive(source.store, tmp_path / "x.jsonl", 0.0, states)
    assert not (tmp_path / "x.jsonl").exists()


@pytest.mark.any_pool
def test_what_changes_before_it_is_removed_stays(
    source: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.push(list("abc"))
    for _ in range(3):
        run(source)
    reading = archiving._batches

    def meddling(tokens: Iterator[Token]) -> Iterator[list[Token]]:
        change(source, "token_1", note="mine")
        source.delete([source.get("token_2")])
        return reading(tokens)

    monkeypatch.setattr(archiving, "_batches", meddling)
    found = archive(source.store, tmp_path / "x.jsonl", 0.0)
    assert (found.exported.content.tokens, found.removed, found.stayed) == (3, 1, 1)
    assert list(content(source)) == ["token_1"]


def test_what_the_pool_does_not_let_go_is_told(
    source: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.push(list("ab"))
    for _ in range(2):
        run(source)

    def refusing(tokens: list[Token]) -> list[bool]:
        raise TokenRefused("not this one", "", [True, False])

    monkeypatch.setattr(source.store, "delete", refusing)
    found = archive(source.store, tmp_path / "x.jsonl", 0.0)
    assert (found.removed, found.stayed, found.refusal) == (1, 1, "not this one")


def test_nothing_is_removed_unless_the_file_is_there(
    source: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.push(["a"])
    run(source)
    before = content(source)
    monkeypatch.setattr(base64, "b64encode", lambda data: b"eA==")  # other bytes than were read
    with pytest.raises(InvalidInput, match="other bytes than it says"):
        archive(source.store, tmp_path / "x.jsonl", 0.0)
    monkeypatch.undo()
    with pytest.raises(PicasError, match="cannot be written"):
        archive(source.store, tmp_path / "no" / "x.jsonl", 0.0)
    assert content(source) == before
