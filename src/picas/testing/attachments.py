"""The contract for attachments: byte for byte, whole, and written together with their document."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

from picas.errors import InvalidInput, PoolError, TokenNotFound
from picas.payload import CHUNK_BYTES, Payload, Stream, Stretch, capped_log, file_payload
from picas.stores.base import Change
from picas.testing.base import (
    StoreFixtures,
    add,
    blob,
    changed_token,
    claim_all,
    fresh,
    get,
    read,
    refused,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from picas.stores.base import Store

ODD_NAMES = (
    "logs_token_1.out",
    "folder/in/name.txt",
    "a blank and  two",
    "größe.png",
    "😀.bin",
    "per%20cent%",
    "pl+us",
    ".hidden",
    "question?&hash#=",
    "quote'\"",
    "back\\slash",
    "-dash",
    "UPPER",
    "upper",
    "x" * 250,
)
"""Names that are easily harmed on the way."""

BORDERS = sorted(
    {0, 1, 2, 4_095, 65_535, 65_536, 65_537, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 5_000_000}
)
"""Sizes in bytes where something could be off by one, and one of real work."""

LARGE = 19 * CHUNK_BYTES + 7
"""More than any store moves at a time."""


class AttachmentRules(StoreFixtures):
    """Attaching, renaming and reading files."""

    def test_files_of_every_size_come_back_byte_for_byte(self, store: Store) -> None:
        data = random.Random(1).randbytes(max(BORDERS))
        token = add(store, fresh("a"))[0]
        write(store, token, *(blob(f"{size}.bin", data[:size]) for size in BORDERS))
        attached = get(store, "a").attachments
        assert {info.length for info in attached.values()} == set(BORDERS)
        for size in BORDERS:
            assert attached[f"{size}.bin"].length == size
            assert read(store, "a", f"{size}.bin") == data[:size], f"{size} bytes came back changed"

    def test_a_large_file_comes_back_whole_and_in_order(self, store: Store, tmp_path: Path) -> None:
        data = random.Random(2).randbytes(LARGE)
        path = tmp_path / "large file"
        path.write_bytes(data)
        token = add(store, fresh("a"))[0]
        write(store, token, file_payload("large", "image/png", path))
        assert read(store, "a", "large") == data
        assert get(store, "a").attachments["large"].length == LARGE

    def test_a_large_file_is_read_piece_by_piece(self, store: Store) -> None:
        token = add(store, fresh("a"))[0]
        write(store, token, blob("large", bytes(6 * CHUNK_BYTES)))
        assert max(map(len, store.read_attachment("a", "large"))) <= 2 * CHUNK_BYTES

    def test_bytes_that_are_no_text_come_back(self, store: Store) -> None:
        token = add(store, fresh("a"))[0]
        every = bytes(range(256))
        write(store, token, blob("latin-1.txt", every, "text/plain"), blob("nul", b"\0\0\0"))
        assert read(store, "a", "latin-1.txt") == every
        assert read(store, "a", "nul") == b"\0\0\0"

    def test_parts_of_files_and_memory_are_joined(self, store: Store, tmp_path: Path) -> None:
        log = tmp_path / "log"
        log.write_bytes(b"".join(b"%09d\n" % n for n in range(100_000)))
        parts = (b"head ", Stretch(log, 10, 20), b"", b" tail")
        token = add(store, fresh("a"))[0]
        write(store, token, Payload("joined", "text/plain", parts), capped_log("capped", log, 300_000))
        assert read(store, "a", "joined") == b"head 000000001\n000000002\n tail"
        capped = read(store, "a", "capped")
        assert capped.startswith(b"000000000\n")
        assert capped.endswith(b"000099999\n")
        assert b"left out" in capped
        assert get(store, "a").attachments["capped"].length == len(capped)

    def test_names_come_back_as_they_went_in(self, store: Store) -> None:
        token = add(store, fresh("a"))[0]
        write(store, token, *(blob(name, name.encode()) for name in ODD_NAMES))
        attached = get(store, "a").attachments
        assert sorted(attached) == sorted(ODD_NAMES)
        for name in ODD_NAMES:
            assert attached[name].name == name
            assert read(store, "a", name) == name.encode()

    def test_a_name_that_is_no_unicode_text_is_refused_with_the_whole_write(self, store: Store) -> None:
        token = add(store, fresh("a"))[0]
        with refused(InvalidInput):
            store.replace(
                [changed_token(token, blob("good", b"x"), blob("not UTF-8 \udcff", b"x"), note="n")]
            )
        assert not get(store, "a").attachments
        assert get(store, "a").rev == token.rev

    def test_content_types_are_kept(self, store: Store) -> None:
        token = add(store, fresh("a"))[0]
        kinds = ("text/plain", "image/png", "application/octet-stream", "text/csv; charset=utf-8")
        write(store, token, *(blob(f"file {n}", b"x", kind) for n, kind in enumerate(kinds)))
        attached = get(store, "a").attachments
        assert [attached[f"file {n}"].content_type for n in range(len(kinds))] == list(kinds)

    def test_equal_bytes_have_equal_digests_and_others_others(self, store: Store) -> None:
        token = add(store, fresh("a"))[0]
        big = bytes(200_000)
        write(store, token, blob("1", b"x"), blob("2", b"x"), blob("3", b"y"), blob("4", big), blob("5", big))
        digest = {name: info.digest for name, info in get(store, "a").attachments.items()}
        assert digest["1"] == digest["2"] != digest["3"]
        assert digest["4"] == digest["5"] != digest["1"]
        assert all(digest.values())

    def test_a_name_that_is_there_is_replaced(self, store: Store) -> None:
        for size in (3, 200_000, 0, 5):
            token = get(store, "a") if store.fetch(["a"])[0] else add(store, fresh("a"))[0]
            write(store, token, blob("log", bytes(size)))
            assert read(store, "a", "log") == bytes(size)
            assert get(store, "a").attachments["log"].length == size

    def test_of_one_name_twice_in_a_write_the_last_counts(self, store: Store) -> None:
        token = add(store, fresh("a"))[0]
        big = b"b" * 200_000
        twice = [blob("s-s", b"1"), blob("s-s", b"2"), blob("s-l", b"1"), blob("s-l", big)]
        twice += [blob("l-s", big), blob("l-s", b"2"), blob("l-l", bytes(200_000)), blob("l-l", big)]
        write(store, token, *twice)
        found = [read(store, "a", name) for name in ("s-s", "s-l", "l-s", "l-l")]
        assert found == [b"2", big, b"2", big]

    def test_what_is_not_in_a_write_stays(self, store: Store) -> None:
        token = write(store, add(store, fresh("a"))[0], blob("one", b"1"), blob("two", b"2"))
        token = write(store, token, blob("two", b"2b"))
        write(store, token, note="nothing attached")
        assert [read(store, "a", name) for name in ("one", "two")] == [b"1", b"2b"]

    def test_files_are_renamed_before_others_are_attached(self, store: Store) -> None:
        token = write(
            store, add(store, fresh("a"))[0], blob("log", b"first", "text/x-first"), blob("other", b"o")
        )
        write(store, token, blob("log", b"second"), rename={"log": "log.attempt-1", "nobody": "nothing"})
        assert sorted(get(store, "a").attachments) == ["log", "log.attempt-1", "other"]
        assert [read(store, "a", name) for name in ("log", "log.attempt-1")] == [b"second", b"first"]
        assert get(store, "a").attachments["log.attempt-1"].content_type == "text/x-first"

    def test_a_rename_takes_the_place_of_what_has_that_name(self, store: Store) -> None:
        token = write(store, add(store, fresh("a"))[0], blob("new", bytes(200_000)), blob("old", b"moved"))
        write(store, token, rename={"old": "new"})
        assert sorted(get(store, "a").attachments) == ["new"]
        assert read(store, "a", "new") == b"moved"

    def test_a_file_keeps_its_name_when_renamed_to_it(self, store: Store) -> None:
        token = write(store, add(store, fresh("a"))[0], blob("log", b"x"))
        write(store, token, rename={"log": "log"})
        assert read(store, "a", "log") == b"x"

    def test_files_are_removed_and_others_stay(self, store: Store) -> None:
        token = write(store, add(store, fresh("a"))[0], *(blob(name, b"old") for name in ("a", "b", "c")))
        change = Change(token, attach=(blob("b", b"new"),), remove=("a", "b", "none"))
        assert store.replace([change])[0] is not None
        assert get(store, "a").attachments.keys() == {"b", "c"}
        assert read(store, "a", "b") == b"new"

    def test_a_new_token_comes_with_its_files(self, store: Store) -> None:
        big = random.Random(3).randbytes(LARGE)
        stream = Payload("big", "image/png", (Stream(LARGE, lambda: iter([big[:7], big[7:]])),))
        files = {"b": [blob("log", b"old"), blob("log", b"new"), stream], "c": [blob("empty", b"")]}
        added = store.insert([fresh("a"), fresh("b"), fresh("c")], files)
        assert [token and token.id for token in added] == ["a", "b", "c"]
        found = {token.id: sorted(token.attachments) for token in store.scan()}
        assert found == {"a": [], "b": ["big", "log"], "c": ["empty"]}
        assert [read(store, "b", "log"), read(store, "b", "big")] == [b"new", big]
        assert added[1] is not None
        write(store, added[1], blob("later", b"x"))
        assert sorted(get(store, "b").attachments) == ["big", "later", "log"]

    def test_a_token_that_is_there_keeps_its_own_files(self, store: Store) -> None:
        write(store, add(store, fresh("a", picas={"push": "line-1"}))[0], blob("log", b"first"))
        files = {name: [blob("log", b"second"), blob("big", bytes(300_000))] for name in "abc"}
        added = store.insert([fresh("a"), fresh("b", picas={"push": "line-1"}), fresh("c")], files)
        assert [token and token.id for token in added] == [None, None, "c"]
        assert sorted(get(store, "a").attachments) == ["log"]
        assert [read(store, name, "log") for name in "ac"] == [b"first", b"second"]

    def test_a_token_whose_files_cannot_be_read_is_not_added(self, store: Store) -> None:
        def broken() -> Iterator[bytes]:
            yield bytes(LARGE - 1)
            raise PoolError("the rest is gone")

        with refused(PoolError):
            store.insert([fresh("a")], {"a": [Payload("big", "image/png", (Stream(LARGE, broken),))]})
        assert store.fetch(["a"]) == [None]
        add(store, fresh("a"))

    def test_each_token_has_its_own_files(self, store: Store) -> None:
        for token in add(store, fresh("a"), fresh("b")):
            write(store, token, blob("log", token.id.encode()), blob(f"only {token.id}", b""))
        assert [read(store, name, "log") for name in "ab"] == [b"a", b"b"]
        assert sorted(get(store, "b").attachments) == ["log", "only b"]

    def test_scans_and_fetches_tell_of_files_too(self, store: Store) -> None:
        write(store, add(store, fresh("a"))[0], blob("log", b"12345"))
        add(store, fresh("b"))
        found = {token.id: sorted(token.attachments) for token in store.scan()}
        assert found == {"a": ["log"], "b": []}
        assert get(store, "a").attachments["log"].length == 5

    def test_files_stay_when_a_token_is_claimed(self, store: Store) -> None:
        write(store, add(store, fresh("a"))[0], blob("log", b"x"))
        claimed = claim_all(store)[0]
        assert read(store, "a", "log") == b"x"
        write(store, claimed, blob("second", b"y"))
        assert [read(store, "a", name) for name in ("log", "second")] == [b"x", b"y"]

    def test_files_go_with_their_token(self, store: Store) -> None:
        token = write(store, add(store, fresh("a"))[0], blob("log", b"x"), blob("big", bytes(200_000)))
        assert store.delete([token]) == [True]
        with refused(TokenNotFound):
            read(store, "a", "log")
        add(store, fresh("a"))
        with refused(TokenNotFound):
            read(store, "a", "log")

    def test_a_file_that_is_not_there_is_an_error(self, store: Store) -> None:
        add(store, fresh("a"))
        for token_id in ("a", "nobody"):
            with refused(TokenNotFound):
                read(store, token_id, "log")

    def test_a_payload_that_cannot_be_read_writes_nothing(self, store: Store, tmp_path: Path) -> None:
        a, b = add(store, fresh("a"), fresh("b"))
        for length in (10, 300_000):
            gone = Payload("gone", "text/plain", (Stretch(tmp_path / "nowhere", 0, length),))
            with refused(OSError):
                store.replace(
                    [changed_token(b, note="n"), changed_token(a, blob("log", b"x"), gone, note="n")]
                )
        assert "note" not in get(store, "a").body
        assert "note" not in get(store, "b").body
        assert not get(store, "a").attachments
        write(store, a, note="it can still be written")

    def test_a_file_that_shrinks_while_it_is_attached_is_told_with_the_length_it_had(
        self, store: Store, tmp_path: Path
    ) -> None:
        log = tmp_path / "log"
        for size in (50_000, 300_000):
            log.write_bytes(b"x" * size)
            payload = file_payload(f"log {size}", "text/plain", log)
            log.write_bytes(b"x" * (size // 2))
            token = store.fetch(["a"])[0] or add(store, fresh("a"))[0]
            write(store, token, payload)
            assert read(store, "a", payload.name) == b"x" * (size // 2)
            assert get(store, "a").attachments[payload.name].length == size // 2

    def test_a_file_replaced_while_it_is_read_is_read_whole_or_not_at_all(self, store: Store) -> None:
        old, new = b"o" * (5 * CHUNK_BYTES), b"n" * (5 * CHUNK_BYTES)
        token = write(store, add(store, fresh("a"))[0], blob("log", old))
        reading = store.read_attachment("a", "log")
        first = next(reading)
        write(store, token, blob("log", new))
        try:
            found = first + b"".join(reading)
        except PoolError:
            found = read(store, "a", "log")
            assert found == new
        else:
            assert found == old

    def test_a_write_is_seen_whole(self, store: Store) -> None:
        token = write(store, add(store, fresh("a"))[0], blob("0", b"x"), version=0)
        stop = threading.Event()

        def keep_writing() -> None:
            current, version = token, 0
            while not stop.is_set():
                version += 1
                names = {str(version - 1): str(version)}
                current = write(store, current, rename=names, version=version)

        writer = threading.Thread(target=keep_writing)
        writer.start()
        try:
            enough = time.monotonic() + 0.5
            while time.monotonic() < enough:
                for seen in (get(store, "a"), next(iter(store.scan()))):
                    assert list(seen.attachments) == [str(seen.body["version"])]
        finally:
            stop.set()
            writer.join(30)
