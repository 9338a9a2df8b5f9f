"""The contract for documents: they come back as they went in, and every write is compare-and-set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from picas.errors import InvalidInput, TokenTooLarge
from picas.selection import Selection
from picas.stores.base import Change
from picas.testing.base import (
    StoreFixtures,
    add,
    add_many,
    as_json,
    blob,
    changed_token,
    claim_all,
    fresh,
    get,
    ids,
    read,
    refused,
    write,
)
from picas.tokens import State, Token

if TYPE_CHECKING:
    from picas.stores.base import Store

ODD_VALUES: dict[str, Any] = {
    "latin": "Größe, naïve, ångström",
    "astral": "😀 𝒳 👩‍👩‍👧‍👦 \U0010ffff",
    "right to left": "שלום مرحبا \u202eabc\u202c",
    "controls": "".join(map(chr, range(1, 32))) + "\x7f\u0085\u2028\u2029\ufeff",
    "nul": "before\x00after",
    "quotes": "\"double\" 'single' `back` \\ backslash / slash",
    "markup": "<b>&amp;</b> %s {} ${x} $(x) ; -- DROP TABLE token",
    "empty string": "",
    "empty list": [],
    "empty object": {},
    "null": None,
    "booleans": [True, False],
    "integers": [0, -1, 2**31, 2**53 - 1, -(2**53) + 1],
    "big integers": [2**53 + 1, 2**63, -(2**64), 10**40],
    "floats": [0.1, -2.5, 1e-300, 1.7976931348623157e308, 2.2250738585072014e-308, 3.0],
    "long": "x" * 100_000,
    "many": list(range(2_000)),
    "nested": {"a": [{"b": {"c": [1, [2, [3]]]}}]},
    "a.b": "a dot in the name",
    'quote"in name': 1,
    "quote'in name": 2,
    "back\\slash": 3,
    "": "no name at all",
    "größe": "a name beyond ASCII",
    "😀": "a name beyond 16 bits",
    "$": "a name that means the root elsewhere",
    "names": {"__proto__": "a name that means something elsewhere", "_id": "and another"},
    "constructor": "another",
    " blanks ": "around it",
}
"""What documents hold that is easily harmed on the way."""

ODD_IDS = (
    "a blank",
    "sla/sh",
    "per%20cent",
    "pl+us",
    "quest?ion",
    "ha#sh",
    "amp&ersand",
    "quote'",
    'quote"',
    "back\\slash",
    ".dot",
    "größe",
    "😀",
    "שלום",
    "CASE",
    "case",
    "x" * 200,
)
"""Ids that are easily harmed on the way."""


class DocumentRules(StoreFixtures):
    """Adding, fetching, replacing and deleting documents."""

    def test_a_document_comes_back_as_it_went_in(self, store: Store) -> None:
        body = fresh("odd", **ODD_VALUES).body
        added = add(store, Token("odd", body))[0]
        assert as_json(added.body) == as_json(body)
        assert as_json(get(store, "odd").body) == as_json(body)
        assert [as_json(token.body) for token in store.scan()] == [as_json(body)]

    def test_nobodys_fields_are_touched_by_claims_and_writes(self, store: Store) -> None:
        add(store, fresh("odd", **ODD_VALUES))
        claimed = claim_all(store)[0]
        written = write(store, claimed, output={"seen": True})
        for token in (claimed, written, get(store, "odd")):
            assert as_json({name: token.body[name] for name in ODD_VALUES}) == as_json(ODD_VALUES)

    def test_nesting_is_kept(self, store: Store) -> None:
        add(store, fresh("deep", deep=nested(200)))
        assert get(store, "deep").body["deep"] == nested(200)

    def test_nesting_without_measure_is_refused_or_harms_nobody(self, store: Store) -> None:
        try:
            add(store, Token("deep", {**fresh("deep").body, "deep": nested(5_000)}), fresh("plain"))
        except InvalidInput:
            assert store.fetch(["deep", "plain"]) == [None, None]
        add(store, fresh("other"))
        assert ids(list(store.scan(where=Selection.parse("id == 'other'")))) == ["other"]

    def test_ids_come_back_as_they_went_in(self, store: Store) -> None:
        add(store, *(fresh(token_id) for token_id in ODD_IDS))
        assert ids(store.fetch(ODD_IDS)) == list(ODD_IDS)
        for token in claim_all(store):
            write(store, token, blob("log", token.id.encode()))
        for token_id in ODD_IDS:
            assert read(store, token_id, "log") == token_id.encode()
        assert store.delete(list(store.scan())) == [True] * len(ODD_IDS)
        assert store.fetch(ODD_IDS) == [None] * len(ODD_IDS)

    def test_fetch_answers_in_the_order_asked_and_none_for_what_is_not_there(self, store: Store) -> None:
        add_many(store, 3)
        found = store.fetch(["token_0002", "nobody", "token_0000", "token_0002"])
        assert [token and token.id for token in found] == ["token_0002", None, "token_0000", "token_0002"]
        assert store.fetch([]) == []

    def test_an_id_that_is_there_is_answered_none_and_the_others_are_added(self, store: Store) -> None:
        add(store, fresh("a", note="first"))
        answers = store.insert([fresh("b"), fresh("a", note="second"), fresh("c"), fresh("c")])
        assert [token and token.id for token in answers] == ["b", None, "c", None]
        assert get(store, "a").body["note"] == "first"
        assert sorted(ids(list(store.scan()))) == ["a", "b", "c"]

    def test_what_insert_answers_can_be_written_at_once(self, store: Store) -> None:
        add(store, fresh("a"))
        for token in store.insert([fresh("b"), fresh("a"), fresh("c")]):
            if token is not None:
                write(store, token, note=f"changed {token.id}")
        assert [get(store, name).get("note") for name in "abc"] == [None, "changed b", "changed c"]

    def test_inserting_nothing_is_nothing(self, store: Store) -> None:
        assert store.insert([]) == []
        assert store.replace([]) == []
        assert store.delete([]) == []
        assert list(store.scan()) == []

    def test_a_push_key_that_is_there_is_answered_none_and_the_others_are_added(self, store: Store) -> None:
        add(store, fresh("a", picas={"push": "line-1"}))
        answers = store.insert(
            [
                fresh("b", picas={"push": "line-1"}),
                fresh("c", picas={"push": "line-2"}),
                fresh("d", picas={"push": "line-2"}),
                fresh("e", picas={}),
                fresh("f"),
            ]
        )
        assert [token and token.id for token in answers] == [None, "c", None, "e", "f"]

    def test_push_keys_are_known_until_their_token_is_deleted(self, store: Store) -> None:
        keys = [f"key-{n}" for n in range(1_200)]
        add(store, *(fresh(f"t{n}", picas={"push": key}) for n, key in enumerate(keys)))
        assert store.known_push_keys([]) == set()
        assert store.known_push_keys([*keys, "never pushed", ""]) == set(keys)
        claimed = store.claim(lambda token: token, 1, None, "oldest")[0]
        assert store.delete([claimed]) == [True]
        assert store.known_push_keys(["key-0", "key-1"]) == {"key-1"}
        add(store, fresh("t0 again", picas={"push": "key-0"}))

    def test_replace_writes_only_onto_the_version_that_was_read(self, store: Store) -> None:
        old = add(store, fresh("a"))[0]
        new = write(store, old, note="mine")
        assert store.replace([changed_token(old, note="late")]) == [None]
        assert get(store, "a").body["note"] == "mine"
        write(store, new, note="mine again")
        assert get(store, "a").body["note"] == "mine again"

    def test_a_stale_write_leaves_the_attachments_too(self, store: Store) -> None:
        old = add(store, fresh("a"))[0]
        new = write(store, old, blob("log", b"kept"))
        late = changed_token(
            old, blob("log", b"late"), blob("big", bytes(300_000)), rename={"log": "old log"}
        )
        assert store.replace([late]) == [None]
        assert set(get(store, "a").attachments) == {"log"}
        assert read(store, "a", "log") == b"kept"
        write(store, new, note="the winner's version is still the newest")

    def test_one_stale_write_does_not_hold_up_the_others(self, store: Store) -> None:
        a, b, c = add(store, fresh("a"), fresh("b"), fresh("c"))
        write(store, b, note="changed in between")
        answers = store.replace([changed_token(token, note="mine") for token in (a, b, c)])
        assert [token and token.id for token in answers] == ["a", None, "c"]
        assert [get(store, name).body["note"] for name in "abc"] == ["mine", "changed in between", "mine"]

    def test_a_claim_makes_what_was_read_before_stale(self, store: Store) -> None:
        before = add(store, fresh("a"))[0]
        claimed = claim_all(store)[0]
        assert store.replace([changed_token(before, note="late")]) == [None]
        assert store.delete([before]) == [False]
        write(store, claimed, note="the claimer's")

    def test_delete_removes_only_the_version_that_was_read(self, store: Store) -> None:
        old = add(store, fresh("a"))[0]
        new = write(store, old, blob("log", b"x"))
        assert store.delete([old]) == [False]
        assert get(store, "a").rev == new.rev
        assert store.delete([new]) == [True]
        assert store.fetch(["a"]) == [None]
        assert store.delete([new]) == [False]
        assert store.replace([changed_token(new, note="late")]) == [None]

    def test_an_id_used_again_does_not_take_writes_meant_for_the_first(self, store: Store) -> None:
        first = write(store, add(store, fresh("a"))[0], blob("log", b"of the first"))
        assert store.delete([first]) == [True]
        second = write(store, add(store, fresh("a"))[0], note="the second")
        assert second.rev != first.rev
        assert store.replace([changed_token(first, note="late")]) == [None]
        assert store.delete([first]) == [False]
        assert get(store, "a").body["note"] == "the second"
        assert not get(store, "a").attachments

    def test_a_document_of_a_megabyte_is_kept(self, store: Store) -> None:
        token = fresh("a", data="é" * 500_000)
        add(store, token)
        assert as_json(get(store, "a").body) == as_json(token.body)

    def test_a_document_of_10_mb_is_refused_with_its_batch_or_kept_whole(self, store: Store) -> None:
        huge = fresh("huge", data="y" * 10_000_000)
        try:
            store.insert([fresh("before"), huge, fresh("after")])
        except TokenTooLarge:
            assert store.fetch(["before", "huge", "after"]) == [None] * 3
        else:
            assert as_json(get(store, "huge").body) == as_json(huge.body)

    def test_a_write_that_makes_a_document_too_large_writes_none_of_its_batch(self, store: Store) -> None:
        a, b = add(store, fresh("a"), fresh("b"))
        a = write(store, a, blob("log", b"first"))
        changes = [
            changed_token(a, blob("log", b"second"), rename={"log": "old"}, note="n"),
            changed_token(b, data="y" * 10_000_000),
        ]
        try:
            store.replace(changes)
        except TokenTooLarge:
            assert "note" not in get(store, "a").body
            assert set(get(store, "a").attachments) == {"log"}
            assert read(store, "a", "log") == b"first"
            assert "data" not in get(store, "b").body
        else:
            assert len(get(store, "b").body["data"]) == 10_000_000

    def test_what_is_no_json_is_refused_with_its_batch(self, store: Store) -> None:
        kept = add(store, fresh("kept"))[0]
        loop: list[Any] = []
        loop.append(loop)
        for value in (float("nan"), float("inf"), {"deep": [float("-inf")]}, {1, 2}, b"bytes", loop):
            with refused(InvalidInput):
                store.insert([fresh("good"), fresh("bad", value=value)])
            with refused(InvalidInput):
                store.replace([Change(Token("kept", {**kept.body, "value": value}, kept.rev))])
            with refused(InvalidInput):
                store.claim(lambda t, v=value: Token(t.id, {**t.body, "v": v}, t.rev), 1, None, "oldest")  # type: ignore[misc]
        assert ids(list(store.scan())) == ["kept"]
        assert get(store, "kept").rev == kept.rev
        assert get(store, "kept").state is State.TODO

    def test_an_id_that_is_no_unicode_text_is_refused(self, store: Store) -> None:
        with refused(InvalidInput):
            store.insert([fresh("good"), fresh("half a pair \ud83d")])
        assert list(store.scan()) == []

    def test_half_a_surrogate_pair_is_refused_or_kept(self, store: Store) -> None:
        try:
            add(store, fresh("a", value="\udc80 as in a file name that is not UTF-8"))
        except InvalidInput:
            assert list(store.scan()) == []
        else:
            assert get(store, "a").body["value"] == "\udc80 as in a file name that is not UTF-8"


def nested(depth: int) -> Any:
    """Lists and objects in each other, so many of them."""
    value: Any = "bottom"
    for level in range(depth):
        value = [value] if level % 2 else {"in": value}
    return value
