"""Pilots, people and time at one pool, in any order, compared after every step with a small model of it.

More and longer stories: ``PICAS_FAULTS``, see `tests.faults.examples`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from tests.faults.examples import directory, examples
from tests.faults.model import BUDGETS, COUNTED, UNSEEN_LIMIT, Attempt, Model, failure_of

from picas import machine
from picas.finishing import Result, Verdict
from picas.fleet import orders
from picas.fleet.reaping import Reaper
from picas.payload import Payload
from picas.pool import Pool, open_pool
from picas.selection import Selection
from picas.stores.base import Change
from picas.tokens import Claimer, Outcome, State, Token

LEASE = 60.0
PILOTS = ("one", "two", "three")
KINDS = (
    "ok",
    "ok",
    "ok",
    "ok",
    *(kind for kind in COUNTED if kind != "lost"),
    "final",
    "released",
    "cancelled",
    "untrusted",
)
PLACES = st.integers(0, 1000)
OFTEN = st.integers(0, 3)
LARGE = 70_000
PATIENCE = 20.0
"""Seconds within which CouchDB shows what is due: it is looked once a second."""


@dataclass
class Actor:
    """A pilot: what it holds, or believes to hold, and what its record says."""

    claimer: Claimer
    held: list[tuple[Token, bool]] = field(default_factory=list)
    record: tuple[float, frozenset[str | None]] | None = None


class Story(RuleBasedStateMachine):
    """Everything that may happen to a pool, while nothing of it breaks."""

    open: Any
    clock: Any
    steady = True

    def __init__(self) -> None:
        super().__init__()
        self.pool: Pool = self.open()
        self.tokens: dict[str, Model] = {}
        self.attempts: dict[str, Attempt] = {}
        self.actors = [Actor(Claimer(name, f"host-{name}", {}, "/nowhere/x", LEASE)) for name in PILOTS]
        self.reported: list[tuple[Result, str]] = []
        self.orders: dict[str, set[str]] = {"paused": set(), "stop": set(), "cancel": set(), "barred": set()}
        self.numbers = count()

    def holder(self, who: int) -> Actor:
        """A pilot that holds something, if there is one."""
        those = [actor for actor in self.actors if actor.held] or self.actors
        return those[who % len(those)]

    @property
    def now(self) -> float:
        return float(self.clock.now)

    def teardown(self) -> None:
        for token_id, model in self.tokens.items():
            self.check_files(token_id, model)
        assert self.pool.delete(self.pool.tokens()) == len(self.tokens)
        fleet: Any = self.pool.store.fleet
        for record in fleet.pilots():
            fleet.forget(record.id)
        fleet.set_control({}, fleet.control()[1])
        self.pool.close()

    # --- People ---

    @initialize(number=st.integers(1, 3), begins=st.booleans())
    def begin(self, number: int, begins: bool) -> None:
        self.push(number)
        self.beat_and_claim(0, number, begins)

    @rule(number=st.integers(1, 3))
    def push(self, number: int) -> None:
        items = [{"_id": f"t_{n}", "input": f"work {n}", "cores": 1 + n % 2} for n in
                 (next(self.numbers) for _ in range(number))]  # fmt: skip
        assert self.pool.push(items).pushed == number
        self.tokens.update((item["_id"], Model()) for item in items)

    def chosen(self, place: int) -> str | None:
        names = sorted(self.tokens)
        return names[place % len(names)] if names else None

    @rule(place=PLACES)
    def edit(self, place: int) -> None:
        token_id = self.chosen(place)
        if token_id is not None:
            token = self.pool.get(token_id)
            self.tokens[token_id].note += 1
            body = {**token.body, "note": self.tokens[token_id].note}
            assert self.pool.store.replace([Change(Token(token.id, body, token.rev))])[0] is not None

    @rule(place=PLACES, often=OFTEN)
    def reset(self, place: int, often: int) -> None:
        token_id = self.chosen(place)
        if token_id is not None and often:
            self.pool.reset([self.pool.get(token_id)])
            self.tokens[token_id].reset()

    @rule(place=PLACES, often=OFTEN)
    def delete(self, place: int, often: int) -> None:
        token_id = self.chosen(place)
        if token_id is not None and often == 1:
            assert self.pool.delete([self.pool.get(token_id)]) == 1
            del self.tokens[token_id]

    def order(self, change: Any) -> None:
        orders.give(self.pool.store.fleet, change, self.now)  # type: ignore[arg-type]

    @rule(cores=st.sampled_from([0, 1, 2]), often=OFTEN)
    def pause(self, cores: int, often: int) -> None:
        if often != 1:
            return
        where = Selection.parse(f"cores == {cores}") if cores else None
        self.order(lambda fields: orders.pause(fields, where, "why", self.now))
        self.orders["paused"].add(where.text if where else "")

    @rule(cores=st.sampled_from([None, 0, 1, 2]))
    def resume(self, cores: int | None) -> None:
        where = Selection.parse(f"cores == {cores}") if cores else None
        self.order(lambda fields: orders.resume(fields, where, everything=cores is None))
        if cores is None:
            self.orders["paused"].clear()
        self.orders["paused"].discard(where.text if where else "")

    @rule(host=st.sampled_from(PILOTS), bars=st.booleans())
    def bar(self, host: str, bars: bool) -> None:
        if bars:
            self.order(lambda fields: orders.bar(fields, host, "", self.now))
            self.orders["barred"].add(host)
        else:
            self.order(lambda fields: orders.unbar(fields, host))
            self.orders["barred"].discard(host)

    @rule(who=st.sampled_from(PILOTS))
    def stop(self, who: str) -> None:
        self.order(lambda fields: orders.stop(fields, who, self.now))
        self.orders["stop"].add(who)

    @rule(who=PLACES, place=PLACES)
    def cancel(self, who: int, place: int) -> None:
        held = self.holder(who).held
        if held:
            claim = str(held[place % len(held)][0].claim_id)
            self.order(lambda fields: orders.cancel(fields, [claim], self.now))
            self.orders["cancel"].add(claim)

    @rule(seconds=st.sampled_from([0.5, 5.0, 10.0, 30.0, LEASE + 1]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    # --- Pilots ---

    @rule(
        who=PLACES,
        limit=st.integers(1, 3),
        order=st.sampled_from(["priority", "oldest", "newest"]),
        cores=st.sampled_from([0, 0, 1, 2]),
        begins=st.booleans(),
    )
    def claim(self, who: int, limit: int, order: str, cores: int, begins: bool) -> None:
        actor = self.actors[who % 3]
        fields = self.pool.store.fleet.control()[0]  # type: ignore[union-attr]
        standing = orders.Orders(fields)
        if standing.paused is not None:
            return
        where = Selection.parse(f"cores == {cores}") if cores else None
        for held_back in standing.held_back:
            others = Selection.parse(f"not ({held_back.text})")
            where = others if where is None else where & others
        fitting = {
            token_id
            for token_id, model in self.tokens.items()
            if model.is_due(self.now)
            and (where is None or where.matches(token_id, {"cores": cores_of(token_id)}))
        }
        got = self.claimed(actor.claimer, limit, where, order, expected=bool(fitting))
        assert {token.id for token in got} <= fitting
        assert len({token.id for token in got}) == len(got) <= limit
        assert bool(got) == bool(fitting)
        if self.steady:
            assert len(got) == min(limit, len(fitting))
        for token in got:
            claim = str(token.claim_id)
            assert claim not in self.attempts
            attempt = Attempt(claim, token.attempt, actor.claimer.pilot, self.now)
            self.attempts[claim] = attempt
            self.tokens[token.id].claimed(attempt)
            actor.held.append((token, begins))

    def claimed(
        self, claimer: Claimer, limit: int, where: Selection | None, order: str, *, expected: bool
    ) -> list[Token]:
        give_up = time.monotonic() + PATIENCE
        while True:
            got = self.pool.claim_many(limit, claimer, where=where, order=order)
            if got or not expected or self.steady or time.monotonic() > give_up:
                return got
            time.sleep(0.05)

    @rule(who=PLACES, limit=st.integers(1, 3), begins=st.booleans())
    def beat_and_claim(self, who: int, limit: int, begins: bool) -> None:
        """As pilots do it, of whom the record is never older than a claim."""
        self.beat(who)
        self.claim(who, limit, "oldest", 0, begins)
        self.beat(who)

    @rule(who=PLACES, taken=st.booleans(), kind=st.sampled_from(KINDS), log=st.sampled_from([0, 1]))
    def falls_silent(self, who: int, taken: bool, kind: str, log: int) -> None:
        """A pilot is believed dead, what it had is maybe handed out to another one, and then it speaks."""
        silent = self.holder(who)
        number = self.actors.index(silent)
        self.beat(number)
        self.clock.now += LEASE + 1
        self.reap()
        if taken:
            self.clock.now += 30.0
            self.claim(number + 1, 3, "oldest", 0, begins=True)
        if silent.held:
            token, _ = silent.held.pop(0)
            result = self.result(token, kind, log), kind
            self.report([result])
            self.reported.append(result)

    @rule(who=PLACES)
    def beat(self, who: int) -> None:
        actor = self.actors[who % 3]
        running = [{"id": token.id, "claim": token.claim_id} for token, begun in actor.held if begun]
        fields = {"host": actor.claimer.host, "lease": LEASE, "interval": 10.0, "running": running}
        self.pool.store.fleet.beat(actor.claimer.pilot, fields)  # type: ignore[union-attr]
        actor.record = self.now, frozenset(token.claim_id for token, begun in actor.held if begun)

    @rule(who=PLACES, place=PLACES)
    def start(self, who: int, place: int) -> None:
        held = self.holder(who).held
        if held:
            held[place % len(held)] = held[place % len(held)][0], True

    @rule(
        who=PLACES,
        place=PLACES,
        kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=3),
        log=st.sampled_from([0, 0, 1, 1, LARGE]),
    )
    def finish(self, who: int, place: int, kinds: list[str], log: int) -> None:
        held = self.holder(who).held
        batch: list[tuple[Result, str]] = []
        for kind in kinds:
            if held and held[place % len(held)][0].id not in [result.token.id for result, _ in batch]:
                token, _ = held.pop(place % len(held))
                batch.append((self.result(token, kind, log), kind))
        if batch:
            self.report(batch)
            self.reported += batch

    def result(self, token: Token, kind: str, log: int) -> Result:
        claim = str(token.claim_id)
        if claim in self.orders["cancel"]:
            kind = "cancelled"
        code, failure, final = failure_of(kind)
        checkpoint = ("saved.bin",) if kind in {"preempted", "released"} else ()
        names = checkpoint or (("result",) if kind == "ok" else ())
        outcome = Outcome(
            code, self.now - 1, self.now, failure, "how" if code else "", checkpoint=checkpoint, final=final
        )
        data = claim.encode() + b"." * (log - 1)
        logs = (Payload(f"logs_{token.id}.out", "text/plain", (data,)),) if log else ()
        files = tuple(Payload(name, "application/octet-stream", (claim.encode(),)) for name in names)
        return Result(token, outcome, logs, files)

    def report(self, batch: list[tuple[Result, str]]) -> None:
        verdicts = self.pool.finish_many([result for result, _ in batch], budgets=BUDGETS)
        assert verdicts == [self.expected(result) for result, _ in batch]

    def expected(self, result: Result) -> Verdict:
        model = self.tokens.get(result.token.id)
        if model is None:
            return Verdict.GONE
        claim = str(result.token.claim_id)
        log = result.logs[0].read() if result.logs else None
        outcome = result.outcome
        kind = outcome.failure.value if outcome.failure else "ok"
        kind = {75: "again"}.get(outcome.exit_code, "final" if outcome.final else kind)
        saved = claim.encode() if outcome.checkpoint else None
        return model.finished(self.attempts[claim], kind, log, saved, self.now)

    @rule(place=PLACES)
    def answer_was_lost(self, place: int) -> None:
        if self.reported:
            self.report([self.reported[place % len(self.reported)]])

    @rule(who=PLACES, place=PLACES)
    def release(self, who: int, place: int) -> None:
        held = self.holder(who).held
        if held:
            token, _ = held.pop(place % len(held))
            model = self.tokens.get(token.id)
            ours = model is not None and model.state is State.LOCKED and model.run is not None
            ours = ours and model.run.claim == token.claim_id
            assert self.pool.release([token]) == ours
            if ours:
                model.given_back()

    @rule()
    def reap(self) -> None:
        done = Reaper(self.pool, BUDGETS).reap(sure=True, orphans=True)
        records = {a.claimer.pilot: a.record for a in self.actors if a.record is not None}
        dead = {name for name, (at, _) in records.items() if self.now - at > LEASE}
        assert set(done.pilots) == dead
        taken = []
        for token_id, model in self.tokens.items():
            run = model.run
            if model.state is not State.LOCKED or run is None or run.pilot in records.keys() - dead:
                continue
            if run.pilot in dead:
                begun = run.claim in records[run.pilot][1] or model.spent.get("unseen", 0) >= UNSEEN_LIMIT
            elif self.now - run.claimed < LEASE:
                continue
            else:
                begun = True
            taken.append(token_id)
            if begun:
                model.finished(run, "lost", None, None, self.now)
            else:
                model.given_back(unseen=True)
        assert sorted(done.tokens) == sorted(taken)
        for actor in self.actors:
            if actor.claimer.pilot in dead:
                actor.record = None

    # --- What always holds ---

    @invariant()
    def all_is_as_it_ought_to_be(self) -> None:
        real = {token.id: token for token in self.pool.tokens()}
        assert real.keys() == self.tokens.keys()
        wrong = {name: model.differences(real[name], self.now) for name, model in self.tokens.items()}
        assert {name: found for name, found in wrong.items() if found} == {}
        counts = dict.fromkeys((*State, None), 0)
        for model in self.tokens.values():
            counts[model.state] += 1
        assert self.pool.counts() == counts

    @invariant()
    def orders_stand_as_they_were_given(self) -> None:
        fields = self.pool.store.fleet.control()[0]  # type: ignore[union-attr]
        assert {each["where"] for each in fields.get("paused", ())} == self.orders["paused"]
        for name in ("stop", "cancel", "barred"):
            assert set(fields.get(name, ())) == self.orders[name]

    @rule(place=PLACES)
    def look(self, place: int) -> None:
        token_id = self.chosen(place)
        if token_id is not None:
            self.check_files(token_id, self.tokens[token_id])

    def check_files(self, token_id: str, model: Model) -> None:
        """The logs of all attempts, results and checkpoints can be read, and are those that they are said to be."""
        token = self.pool.get(token_id)

        def read(name: str) -> bytes:
            return b"".join(self.pool.read_attachment(token_id, name))

        for attempt, entry in zip((model.run, *model.history), (token.run, *token.history)):
            if attempt is not None and attempt.log is not None:
                assert [read(name) for name in entry["logs"]] == [attempt.log]
            if attempt is not None and attempt.superseded and attempt.kind == "ok":
                assert read(f"result.superseded-{attempt.claim[:8]}") == attempt.claim.encode()
        if model.result is not None:
            assert read("result") == model.result
        if model.checkpoint is not None:
            assert [read(name) for name in token.checkpoint] == [model.checkpoint]


def cores_of(token_id: str) -> int:
    return 1 + int(token_id[2:]) % 2


class Clock:
    """Time that passes only when a story says so."""

    def __init__(self) -> None:
        self.now = 2_000_000_000.0


@pytest.mark.embedded
def test_any_story_on_an_embedded_pool(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(machine, "clock", lambda: ("boot", clock.now))
    with directory() as place, open_pool(f"sqlite:///{place}/pool.db") as pool:
        monkeypatch.setattr(pool.store, "now", lambda: clock.now)

        class Embedded(Story):
            open = staticmethod(lambda: pool)

        Embedded.clock = clock
        run_state_machine_as_test(Embedded, settings=examples(60, 40))


@pytest.mark.couchdb
def test_any_story_on_couchdb(database, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(machine, "clock", lambda: ("boot", clock.now))
    pool = open_pool(database)
    monkeypatch.setattr(pool.store._server, "now", lambda: clock.now)

    class OnCouchDB(Story):
        open = staticmethod(lambda: pool)
        steady = False

    OnCouchDB.clock = clock
    run_state_machine_as_test(OnCouchDB, settings=examples(3, 20))
