"""Documents that nobody expects, in a pool: nothing but errors of ours comes of them, and others are not kept back.

More examples: ``PICAS_FAULTS``, see `tests.faults.examples`.
"""

from __future__ import annotations

import contextlib
import io
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.faults.examples import directory, examples
from tests.faults.strange import ANY, CONTROLS, HUGE, RECORDS, bodies

from picas.budgets import Budgets
from picas.cli.main import run as picas
from picas.errors import PicasError
from picas.finishing import Result, Verdict
from picas.fleet import orders
from picas.fleet.reaping import Reaper
from picas.payload import Payload
from picas.pool import Pool, open_pool
from picas.selection import Selection
from picas.stores.base import Change
from picas.tokens import Claimer, Failure, Outcome, State, Token

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.embedded

BUDGETS = Budgets(scrub=1, lost=1, pause=(0.0, 0.0))
SMALL = Selection.parse("cores == 1")
VERBS = (
    "status", "list", "list --where cores==1", "list --json", "errors", "errors --json", "hosts", "pilots", "get odd",
    "pilots --json", "hosts --json", "status --json", "logs odd", "show odd", "get odd --json",
)  # fmt: skip


FREE = {"type": "token", "lock": 0, "done": 0, "exit_code": "", "scrub_count": 0}


@pytest.fixture
def pool() -> Iterator[Pool]:
    with directory() as place, open_pool(f"sqlite:///{place}/pool.db") as opened:
        yield opened


@pytest.fixture
def shown(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a verb on the pool; it may fail, but with an error of ours."""
    monkeypatch.setenv("PICAS_DEBUG", "1")
    monkeypatch.setenv("PICAS_POOL", pool.url)

    def show(line: str) -> str:
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            picas(line.split())
        return out.getvalue()

    return show


def emptied(pool: Pool) -> None:
    pool.delete(pool.tokens())
    fleet: Any = pool.store.fleet
    for record in fleet.pilots():
        fleet.forget(record.id)
    fleet.set_control({}, fleet.control()[1])


def put(pool: Pool, body: dict[str, Any]) -> Token | None:
    """The document, beside a token as there are many; None if the pool does not take it."""
    emptied(pool)
    try:
        (odd,) = pool.store.insert([Token("odd", body)])
    except PicasError:
        return None
    pool.push([{"_id": "plain", "input": "x", "cores": 1}])
    return odd


FAILED = Outcome(1, 1.0, 2.0, Failure.APPLICATION)


def outcomes() -> Iterator[Outcome]:
    yield Outcome(0, 1.0, 2.0, output={"a": 1})
    for failure in Failure:
        yield Outcome(1, 1.0, 2.0, failure, checkpoint=("saved",) if failure is Failure.PREEMPTED else ())


@given(body=bodies())
@example(body={**FREE, "picas": {"run": {"claim": "aa", "logs": [[]]}, "history": [{"logs": [{}]}]}})
@examples(20)
def test_a_strange_document_is_shown(pool: Pool, shown: Any, body: dict[str, Any]) -> None:
    if put(pool, body) is None:
        return
    for verb in VERBS:
        shown(verb)
    assert [token.id for token in pool.tokens(None, Selection.parse("id == 'plain'"))] == ["plain"]


@given(body=bodies(), outcome=st.sampled_from(list(outcomes())))
@example(body={**FREE, "picas": {"push": HUGE}}, outcome=FAILED)
@example(body={**FREE, "picas": {"push": ["a"]}}, outcome=FAILED)
@example(body={**FREE, "picas": {"scrub_base": HUGE}}, outcome=FAILED)
@example(body={**FREE, "picas": {"run": {"logs": ["logs_odd.out", []]}}}, outcome=FAILED)
@example(body={**FREE, "picas": {"history": [{"logs": 5}, {"logs": {"logs_odd.out": 1}}]}}, outcome=FAILED)
@examples(70)
def test_a_strange_document_is_claimed_and_finished(
    pool: Pool, body: dict[str, Any], outcome: Outcome
) -> None:
    odd = put(pool, body)
    if odd is None:
        return
    claimer = Claimer("p", "h", {}, "/nowhere/p", 60.0)
    pool.store.next_due()
    claimed = {token.id: token for token in pool.claim_many(5, claimer)}
    assert "plain" in claimed
    assert ("odd" in claimed) == (odd.state is State.TODO and odd.not_before <= time.time())
    token = claimed.get("odd") or pool.get("odd")
    log = Payload("logs_odd.out", "text/plain", (b"log",))
    results = [Result(token, outcome, (log,)), Result(claimed["plain"], Outcome(0, 1.0, 2.0))]
    with contextlib.suppress(PicasError):
        assert pool.finish_many(results, budgets=BUDGETS)[0] is not Verdict.GONE
    late = Result(Token("odd", {**body, "picas": {"run": {"claim": "aa"}}}, "9-9"), outcome, (log,))
    with contextlib.suppress(PicasError):
        assert pool.finish_many([late], budgets=BUDGETS)[0] is not Verdict.GONE
    assert pool.get("plain").state is State.DONE
    with contextlib.suppress(PicasError):
        assert pool.finish_many([late], budgets=BUDGETS)[0] is not Verdict.GONE
    assert pool.reset([pool.get("odd")]) <= 1
    assert pool.release([token]) <= 1
    assert pool.delete([pool.get("odd")]) == 1


@given(body=bodies(), record=RECORDS, running=ANY)
@examples(30)
def test_strange_documents_and_records_are_reaped_over(
    pool: Pool, shown: Any, body: dict[str, Any], record: dict[str, Any], running: Any
) -> None:
    if put(pool, body) is None:
        return
    fleet: Any = pool.store.fleet
    gone = Claimer("gone", "far", {}, "/nowhere/x", 1e-9)
    held = pool.claim(gone, where=Selection.parse("id == 'plain'"))
    assert held is not None
    try:
        fleet.beat("odd", record)
        fleet.beat("alive", {"running": running, "lease": 60.0})
    except PicasError:
        return
    fleet.beat("gone", {"lease": 1e-9, "running": [{"claim": held.claim_id}]})
    shown("pilots")
    done = Reaper(pool, BUDGETS).reap(sure=True, orphans=True)
    assert "plain" in done.tokens
    assert pool.get("plain").state is State.TODO
    assert "gone" not in [each.id for each in fleet.pilots()]


@given(fields=CONTROLS)
@example(fields={"paused": [{}, 5], "stop": 5, "cancel": {"aa": HUGE}, "barred": ["h"]})
@example(fields={"barred": {"i": {}}})
@examples(50)
def test_orders_are_given_and_heard_whatever_stands_there(
    pool: Pool, shown: Any, fields: dict[str, Any]
) -> None:
    fleet: Any = pool.store.fleet
    emptied(pool)
    try:
        assert fleet.set_control(fields, fleet.control()[1])
    except PicasError:
        return
    heard = orders.Orders(fleet.control()[0])
    _ = (
        heard.paused,
        heard.held_back,
        heard.is_to_stop("p", 5.0),
        heard.is_cancelled("aa"),
        heard.why_barred("h"),
    )
    shown("pause --json")
    shown("hosts --json")
    now = pool.store.now()
    for change in (
        lambda fields: orders.pause(fields, SMALL, "why", now),
        lambda fields: orders.pause(fields, None, "why", now),
        lambda fields: orders.stop(fields, "p", now),
        lambda fields: orders.cancel(fields, ["aa"], now),
        lambda fields: orders.bar(fields, "h", "why", now),
    ):
        orders.give(fleet, change, now)
    standing = orders.Orders(fleet.control()[0])
    assert standing.paused == "why"
    assert "cores == 1" in [each.text for each in standing.held_back]
    assert standing.is_to_stop("p", now - 5.0)
    assert standing.is_cancelled("aa")
    assert standing.why_barred("h") == "why"
    orders.give(fleet, lambda fields: orders.resume(fields, None, everything=True), now)
    orders.give(fleet, lambda fields: orders.unbar(fields, "h"), now)
    standing = orders.Orders(fleet.control()[0])
    assert (standing.paused, standing.held_back, standing.why_barred("h")) == (None, [], None)


@given(body=bodies())
@example(body={**FREE, "picas": {"push": ["a"]}})
@examples(25)
def test_a_strange_document_is_copied_as_it_is(pool: Pool, body: dict[str, Any]) -> None:
    if put(pool, body) is None:
        return
    with directory() as place, open_pool(f"sqlite:///{place}/pool.db") as other:
        pool.copy_to(other, locked="as-is")
        found = list(other.tokens())
    assert json.dumps(next(token.body for token in found if token.id == "odd")) == json.dumps(
        pool.get("odd").body
    )


@given(body=bodies(), fields=bodies())
@examples(25)
def test_a_strange_document_is_written_over(pool: Pool, body: dict[str, Any], fields: dict[str, Any]) -> None:
    odd = put(pool, body)
    if odd is None:
        return
    try:
        assert pool.store.replace([Change(Token("odd", fields, odd.rev))])[0] is not None
    except PicasError:
        assert pool.get("odd").body == odd.body
    else:
        assert json.dumps(pool.get("odd").body) == json.dumps(fields)
