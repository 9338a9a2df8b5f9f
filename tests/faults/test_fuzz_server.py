"""Answers that no CouchDB gives: each ends in an error of ours, or in nothing; nothing hangs, and no result is lost.

More examples: ``PICAS_FAULTS``, see `tests.faults.examples`.
"""

from __future__ import annotations

import gzip
import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.faults.examples import directory, examples
from tests.faults.liar import INFO, Liar
from tests.faults.strange import ANY, bodies, sometimes

from picas.budgets import Budgets
from picas.errors import PicasError
from picas.finishing import Result
from picas.fleet.reaping import Reaper
from picas.payload import Payload
from picas.pool import Pool, open_pool
from picas.selection import Selection
from picas.spool.spool import Spool
from picas.tokens import Claimer, Outcome, Token, fresh_body
from picas.transitions import claim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE = 60.0
"""Seconds after which what should have ended counts as hanging, on a busy machine too."""

CLAIMER = Claimer("p", "h", {}, "", 60.0)
HELD = claim(Token("t", fresh_body({"input": "x"}), "1-a"), CLAIMER, 1.0)
RESULT = Result(
    Token("t", HELD.body, "2-b"), Outcome(0, 1.0, 2.0), (Payload("logs_t.out", "text/plain", (b"x",)),)
)
LARGE = Result(RESULT.token, RESULT.outcome, (Payload("logs_t.out", "text/plain", (b"x" * 70_000,)),))


@pytest.fixture(scope="module")
def liar() -> Iterator[Liar]:
    server = Liar()
    server.start()
    yield server
    server.stop()


# --- What it says ---

REVISIONS = sometimes(st.sampled_from(["1-a", "2-b", "3-c"]))
DOCUMENTS = st.one_of(
    bodies().map(lambda body: {"_id": "t", "_rev": "2-b", **body}),
    st.just({"_id": "t", "_rev": "2-b", **HELD.body}),
    st.fixed_dictionaries({"_id": sometimes(st.just("t")), "_rev": REVISIONS}),
)
ROWS = st.fixed_dictionaries(
    {},
    optional={
        "id": sometimes(st.just("t")),
        "key": sometimes(st.lists(ANY, max_size=3)),
        "value": sometimes(st.fixed_dictionaries({"rev": REVISIONS})),
        "doc": sometimes(DOCUMENTS),
        "error": sometimes(st.just("not_found")),
        "docs": sometimes(
            st.lists(sometimes(st.fixed_dictionaries({"ok": sometimes(DOCUMENTS)})), max_size=2)
        ),
        "seq": ANY,
        "deleted": ANY,
        "changes": ANY,
        "rev": REVISIONS,
        "ok": ANY,
        "reason": ANY,
        "accepted": ANY,
    },
)
LISTS = sometimes(st.lists(sometimes(ROWS), max_size=3))
VALUES = st.one_of(
    ANY,
    LISTS,
    DOCUMENTS,
    st.fixed_dictionaries(
        {},
        optional={
            "rows": LISTS,
            "results": LISTS,
            "last_seq": ANY,
            "update_seq": ANY,
            "pending": ANY,
            "total_rows": ANY,
            "offset": ANY,
            "doc_count": ANY,
            "ok": ANY,
            "id": sometimes(st.just("t")),
            "rev": REVISIONS,
            "error": sometimes(st.sampled_from(["conflict", "not_found", "forbidden"])),
            "reason": ANY,
            "views": ANY,
            "cluster": ANY,
            "userCtx": ANY,
        },
    ),
)
STATUSES = sometimes(
    st.sampled_from([200, 201, 202, 304, 400, 401, 403, 404, 405, 409, 412, 413, 415, 429, 500, 502])
)
HEADERS = st.lists(
    st.sampled_from(
        ["Date: yesterday", "Date: Mon, 23 Nov 2026 00:00:00 GMT", "Date: Mon, 99 Nov 99999 00:00:00 GMT", "Retry-After: x",
         "Retry-After: 1e9", "Retry-After: -5", "Set-Cookie: AuthSession=", "Set-Cookie: \xff;;=", "Location: http://[",
         "Content-Encoding: gzip", "Content-Encoding: x", "Transfer-Encoding: chunked", "Content-Length: 5",
         "Content-Length: -5", "Content-Length: x", "no header", "X: " + "y" * 70_000, "ETag: \x01",
         "Content-Type: text/html", "Content-Type: multipart/related"]
    ),
    max_size=2,
)  # fmt: skip


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """One answer, most often one that can be read."""
    body = json.dumps(draw(VALUES)).encode()
    shape = draw(st.integers(0, 9))
    if shape == 0:
        body = draw(
            st.sampled_from(
                [b"", b"<html>", b"\xff", b"[" * 100_000, gzip.compress(body), b"5\r\nab", b"nul"]
            )
        )
    status = draw(STATUSES)
    more = draw(HEADERS) if shape in (0, 1) else []
    length = [f"Content-Length: {len(body)}"] if shape not in (1, 2) else []
    head = "\r\n".join([f"HTTP/1.1 {status} So", *more, *length, "Connection: close", "", ""])
    whole = head.encode("latin-1", "replace") + body
    if shape == 3:
        whole = whole[: draw(st.integers(0, len(whole)))]
    return draw(st.binary(max_size=30)) if shape == 4 else whole


def well(value: Any, status: int = 200) -> bytes:
    """An answer that can be read."""
    body = json.dumps(value).encode()
    return b"HTTP/1.1 %d So\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status, len(body), body)


# --- What is asked of it ---

ASKED: dict[str, Callable[[Pool], Any]] = {
    "claim": lambda pool: pool.claim_many(2, CLAIMER),
    "claim where": lambda pool: pool.claim_many(
        1, CLAIMER, where=Selection.parse("cores == 1"), order="oldest"
    ),
    "get": lambda pool: pool.get("t"),
    "counts": lambda pool: (pool.counts(), pool.counts(Selection.parse("cores == 1"))),
    "tokens": lambda pool: list(pool.tokens()),
    "todo": lambda pool: list(pool.tokens("todo")),
    "progress": lambda pool: pool.progress(),
    "due": lambda pool: pool.store.next_due(),
    "others": lambda pool: pool.store.other_documents(),
    "push": lambda pool: pool.push(["x", {"_id": "own", "input": "y"}]),
    "finish": lambda pool: pool.finish_many([RESULT], budgets=Budgets()),
    "finish with a large log": lambda pool: pool.finish_many([LARGE], budgets=Budgets()),
    "release": lambda pool: pool.release([RESULT.token]),
    "reset": lambda pool: pool.reset([RESULT.token]),
    "delete": lambda pool: pool.delete([RESULT.token]),
    "read": lambda pool: list(pool.read_attachment("t", "logs_t.out")),
    "beat": lambda pool: fleet(pool).beat("p", {}),
    "pilots": lambda pool: fleet(pool).pilots(),
    "forget": lambda pool: fleet(pool).forget("p"),
    "turn": lambda pool: fleet(pool).take_turn("reap", 5.0),
    "control": lambda pool: fleet(pool).control(),
    "order": lambda pool: fleet(pool).set_control({}, "1-a"),
    "reap": lambda pool: Reaper(pool, Budgets()).reap(sure=True, orphans=True),
    "designs": lambda pool: pool.store.designs.survey(),  # type: ignore[attr-defined]
    "through": lambda pool: pool.through("Own/todo").claim(CLAIMER),
}


def fleet(pool: Pool) -> Any:
    return pool.store.fleet


@given(
    said=st.lists(answers(), min_size=1, max_size=5),
    opened=st.sampled_from([True, True, True, False]),
    asked=st.sampled_from(sorted(ASKED)),
)
@example(said=[well(None)], opened=True, asked="pilots")
@example(said=[well([])], opened=True, asked="control")
@example(said=[well({"rows": [{"id": "t", "doc": 5}]})], opened=True, asked="get")
@example(said=[well({"ok": True}, 201)], opened=True, asked="finish with a large log")
@examples(80)
def test_whatever_a_server_answers_is_understood_or_an_error_of_ours(
    liar: Liar, said: list[bytes], opened: bool, asked: str
) -> None:
    liar.say([INFO, *said] if opened else said)
    begun = time.monotonic()
    with suppress(PicasError), open_pool(liar.url, username="u", password="p", patience=0.0) as pool:
        ASKED[asked](pool)
    assert time.monotonic() - begun < PATIENCE


@given(said=st.lists(answers(), min_size=1, max_size=4))
@example(said=[well([5], 201)])
@example(said=[well([{"id": "t", "ok": True}], 201)])
@example(said=[well({"rows": 5}), well([])])
@examples(20)
def test_a_result_that_a_server_does_not_take_stays_in_the_spool(liar: Liar, said: list[bytes]) -> None:
    with directory() as place:
        spool = Spool(place, liar.url)
        journal = spool.journal()
        journal.keep([RESULT], Budgets())
        journal.close()
        liar.say([INFO, *said])
        sent = 0
        with suppress(PicasError), open_pool(liar.url, patience=0.0) as pool:
            sent = spool.flush(pool)[0]
        assert journal.path.exists() == (not sent)
        assert spool.waiting() == 1 - sent
